"""`semfreeze train`: train a plan."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption, QuietOption
from semfreeze_core.cli.options.finetune import FinetuneFlags, require
from semfreeze_core.cli.options.groups import with_flags
from semfreeze_core.records.defaults import BEST_EVALUATIONS, CHECKPOINT_SECONDS, EPOCHS
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.wording.escaping import terminal_text


@app.command()
@with_flags("the plan's", fields=FieldMapping, flags=FinetuneFlags)
def train(
    plan: Annotated[
        str,
        typer.Argument(
            metavar="RUN|PLAN",
            help="A plan.json, a model folder or Hub ID that contains one, or a run (uses its default plan).",
        ),
    ],
    data: Annotated[str, typer.Option(help="Training examples: a task file, hf:owner/name#split, or sample:NAME.")],
    out: Annotated[Path, typer.Option(help="Output folder. Rerun the same command to resume.")],
    evaluation: Annotated[str | None, typer.Option("--eval", help="Eval examples, evaluated before and after.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs over the data.")] = EPOCHS,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of --epochs.")] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate (default: searched, on --eval or else on the training's own batches)."),
    ] = None,
    save_steps: Annotated[
        int | None,
        typer.Option(help=f"Steps between checkpoints (default: one every {CHECKPOINT_SECONDS // 60} minutes)."),
    ] = None,
    report_to: Annotated[
        str | None,
        typer.Option(help="Trackers, comma-separated, as transformers names them: tensorboard, wandb, mlflow, ..."),
    ] = None,
    keep_best: Annotated[
        bool,
        typer.Option(
            "--keep-best",
            help=f"Evaluate on --eval {BEST_EVALUATIONS} times, or every --save-steps, and keep the best weights.",
        ),
    ] = False,
    shard: Annotated[
        bool,
        typer.Option(
            "--shard",
            help="Shard trained weights, gradients and optimizer states over the processes of torchrun (FSDP2).",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed for the order of examples and for adapters.")] = 0,
    *,
    fields: FieldMapping,
    flags: FinetuneFlags,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Finetune as a plan says, in the setup it was estimated for, and write a model that loads anywhere.

    Precision, batch size, longest example, checkpointing, prefix cache and loss are the plan's unless a flag says
    otherwise; the setup used is printed. Several GPUs share one training under torchrun:
    torchrun --nproc-per-node N -m semfreeze_core train PLAN ...
    """
    from semfreeze_core.cli.options.plan_and_data import plan_and_data
    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.cost.setup import options_applied
    from semfreeze_core.device import choose_device, trained_precision
    from semfreeze_core.finetune.train.request import TrainRequest
    from semfreeze_core.finetune.train.train import train_plan
    from semfreeze_core.processes import launch
    from semfreeze_core.storage import user_path
    from semfreeze_core.wording.training import trained_lines

    require(flags.problems())
    made = plan_and_data(plan, fields)
    setup = options_applied(made.plan.cost.setup, flags)
    if flags.precision is None:
        setup = replace(setup, precision=trained_precision(setup.precision, choose_device(flags.device)))
    if flags.max_length is not None:
        setup = replace(setup, sequence_length=flags.max_length)
    request = TrainRequest(
        plan=made.plan,
        data=data,
        setup=setup,
        evaluation=evaluation,
        mapping=made.mapping,
        add_eos=made.add_eos,
        epochs=epochs,
        steps=steps,
        learning_rate=lr,
        keep_best=keep_best,
        report_to=tuple(name.strip() for name in (report_to or "").split(",") if name.strip()),
        save_steps=save_steps,
        shard=shard,
        seed=seed,
        n_accuracy=flags.accuracy_examples,
        model=flags.source(made.plan.model),
    )
    first = launch().index == 0  # of the processes that train together; it alone prints
    if not first:
        warnings.simplefilter("ignore")
    with progress_on_stderr(quiet or not first) as progress:
        trained = train_plan(request, user_path(str(out)), progress)
    if not first:
        return
    if as_json:
        print_json(
            {
                "folder": str(trained.folder),
                "steps": trained.steps,
                **trained.evaluations(),
                "notes": list(trained.notes),
            }
        )
        return
    for note in trained.notes:
        typer.echo(terminal_text(f"note: {note}"))
    for line in trained_lines(trained.steps, trained.losses, trained.before, trained.after):
        typer.echo(terminal_text(line))
    typer.echo(terminal_text(f"Model: {trained.folder}"))
