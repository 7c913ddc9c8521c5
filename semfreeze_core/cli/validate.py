"""`semfreeze validate`: put a plan to the test by short real finetunes."""

from typing import Annotated, get_args

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption, QuietOption
from semfreeze_core.cli.options.data import DataFlags
from semfreeze_core.cli.options.finetune import (
    EvalDataOption,
    EvalExamplesOption,
    FinetuneFlags,
    KeptInOption,
    TrainDataOption,
    TrainExamplesOption,
    require,
)
from semfreeze_core.cli.options.groups import with_flags


@app.command()
@with_flags(fields=DataFlags, flags=FinetuneFlags)
def validate(
    plan: Annotated[str, typer.Argument(metavar="RUN|PLAN", help="A run (--rule makes its plan), or a plan.json.")],
    train: TrainDataOption,
    evaluation: EvalDataOption,
    arms: Annotated[
        str, typer.Option(help="Variants, comma-separated: full, planned, half, lora, planned+lora, depth:K.")
    ] = "full,planned,half,lora,planned+lora",
    steps: Annotated[int, typer.Option(help="Optimizer steps after which all variants are evaluated.")] = 60,
    seeds: Annotated[int, typer.Option(help="Number of seeds; a verdict needs 3.")] = 1,
    budget: Annotated[
        str,
        typer.Option(
            help="Basis of the verdict: steps, or compute (cheaper variants train on until they cost the same as "
            "full finetuning)."
        ),
    ] = "compute",
    lr: Annotated[
        str,
        typer.Option(help="Learning rates by variant or kind, like full=1e-4,lora=1e-3 (kinds: full, frozen, lora)."),
    ] = "",
    lora_rank: Annotated[int, typer.Option(help="Rank of the LoRA variants.")] = 16,
    lora_targets: Annotated[
        str, typer.Option(help="Name endings of the matrices with adapters, comma-separated.")
    ] = "all-linear",
    rule: Annotated[str, typer.Option(help="Rule for a run's plan.")] = "coverage",
    depth: Annotated[int | None, typer.Option(help="Your own freeze depth, instead of the rule's.")] = None,
    train_examples: TrainExamplesOption = 480,
    eval_examples: EvalExamplesOption = 200,
    out: KeptInOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing validation.")] = False,
    *,
    fields: DataFlags,
    flags: FinetuneFlags,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Validate a plan: finetune it and its alternatives on the same data, and report a verdict."""
    from semfreeze_core.cli.options.plan_and_data import default_folder, parse_rates, plan_and_data
    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.cli.printing.validation import print_validation
    from semfreeze_core.finetune.validation.request import ValidationRequest
    from semfreeze_core.finetune.validation.validate import validate as run_validation
    from semfreeze_core.records.training import LoraSetup
    from semfreeze_core.records.validation import Budget
    from semfreeze_core.storage import user_path

    problems = flags.problems()
    if budget not in get_args(Budget):
        problems.append(f"--budget {budget}: expected {' or '.join(get_args(Budget))}")
    if lora_rank < 1:
        problems.append(f"--lora-rank must be at least 1, found {lora_rank}")
    require(problems)
    document, mapping, length, add_eos, run_folder = plan_and_data(
        plan, fields.mapping(), flags.max_length, rule, depth
    )
    request = ValidationRequest(
        plan=document,
        train=train,
        evaluation=evaluation,
        mapping=mapping,
        max_length=length,
        add_eos=add_eos,
        arms=tuple(name.strip() for name in arms.split(",") if name.strip()),
        steps=steps,
        seeds=seeds,
        batch_size=flags.batch_size,
        budget=budget,  # type: ignore[arg-type]  # checked above, like the words below
        rates=parse_rates(lr),
        lora=LoraSetup(lora_rank, tuple(t.strip() for t in lora_targets.split(",") if t.strip())),
        n_train=train_examples,
        n_eval=eval_examples,
        n_accuracy=flags.accuracy_examples,
        precision=flags.precision,  # type: ignore[arg-type]
        checkpointing=flags.checkpointing,  # type: ignore[arg-type]
        prefix_cache=flags.prefix_cache,
        model=flags.source(document.model),
    )
    folder = default_folder(plan, run_folder, train) if out is None else user_path(str(out))
    with progress_on_stderr(quiet) as progress:
        report = run_validation(request, folder, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(report.model_dump(mode="json", exclude={"runs"}))
        return
    print_validation(report, console())
    typer.echo(f"Saved in {folder}")
