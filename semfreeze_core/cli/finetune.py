"""`semfreeze finetune`: from a model and examples to a finetuned model, in one command."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import (
    DeviceOption,
    EosOption,
    JsonOption,
    MaxLengthOption,
    ModelOption,
    PickleOption,
    QuietOption,
    RevisionOption,
    TrustOption,
)
from semfreeze_core.cli.options.groups import with_flags
from semfreeze_core.records.defaults import ACCURACY_ROWS, EPOCHS, HELD_OUT, MARGIN, MIN_RACED_STEPS
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.options import TrainingOptions
from semfreeze_core.wording.escaping import terminal_text


@app.command()
@with_flags(fields=FieldMapping, flags=TrainingOptions)
def finetune(
    model: ModelOption,
    data: Annotated[
        str, typer.Option(help="Training examples: a task file, hf:owner/name#split, or sample:NAME.", metavar="DATA")
    ],
    out: Annotated[Path, typer.Option(help="Output folder of the model. Rerun the same command to resume.")],
    evaluation: Annotated[
        str | None,
        typer.Option(
            "--eval",
            help=f"Eval examples, same formats (default: {HELD_OUT:.0%} of the rows, held out).",
            metavar="DATA",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Epochs over the training examples.")] = EPOCHS,
    steps: Annotated[
        int | None,
        typer.Option(help=f"Optimizer steps, instead of --epochs; below {MIN_RACED_STEPS} there is no race."),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help=f"balanced: the cheapest variant within {MARGIN:.0%} of the best one's loss reduction; quality: the "
            "lowest loss; 'memory 16' (GiB) or 'time 2h' (or 90min): the lowest loss within a limit.",
        ),
    ] = "balanced",
    depth: Annotated[int | None, typer.Option(help="Your own freeze depth, in place of a decision.")] = None,
    eos: EosOption = True,
    max_length: MaxLengthOption = None,
    accuracy_examples: Annotated[int, typer.Option(help="Eval examples answered by generation; 0 for none.")] = (
        ACCURACY_ROWS
    ),
    revision: RevisionOption = None,
    device: DeviceOption = "auto",
    trust_remote_code: TrustOption = False,
    allow_pickle: PickleOption = False,
    *,
    fields: FieldMapping,
    flags: TrainingOptions,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Decide which layers to train and at which learning rate, by a short race of variants, and finetune the model."""
    from semfreeze_core.cli.options.finetune import require
    from semfreeze_core.cli.options.objective import parse_objective
    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.cost.setup import option_problems
    from semfreeze_core.finetune.arm.job import ModelSource
    from semfreeze_core.guided.finetune import finetune as run_finetune
    from semfreeze_core.guided.request import GuidedRequest
    from semfreeze_core.storage import user_path
    from semfreeze_core.wording.race import PRIVATE_FOLDER, finetune_lines

    require(option_problems(flags))
    request = GuidedRequest(
        model=ModelSource(
            source=model,
            revision=revision,
            device=device,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        ),
        data=data,
        evaluation=evaluation,
        mapping=fields,
        add_eos=eos,
        epochs=epochs,
        steps=steps,
        objective=parse_objective(objective),
        depth=depth,
        options=flags,
        max_length=max_length,
        n_accuracy=accuracy_examples,
    )
    with progress_on_stderr(quiet) as progress:
        report = run_finetune(request, user_path(str(out)), progress)
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    for note in report.training["notes"]:
        typer.echo(terminal_text(f"note: {note}"))
    for line in finetune_lines(report):
        typer.echo(terminal_text(line))
    typer.echo(terminal_text(f"Model: {report.folder}"))
    typer.echo(PRIVATE_FOLDER)
