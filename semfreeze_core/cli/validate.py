"""`semfreeze validate`: validate a plan by short real finetunes."""

from typing import Annotated, get_args

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption, QuietOption
from semfreeze_core.cli.options.finetune import (
    EvalDataOption,
    EvalExamplesOption,
    FinetuneFlags,
    OutputFolderOption,
    RatesOption,
    RunnerOption,
    TrainDataOption,
    TrainExamplesOption,
    require,
)
from semfreeze_core.cli.options.groups import with_flags
from semfreeze_core.records.defaults import (
    EVAL_ROWS,
    FURTHER_VARIANTS,
    HELD_OUT_DATA,
    LORA_RANK,
    MIN_SEEDS,
    RULE,
    SEEDS,
    STEPS,
    TRAIN_ROWS,
    VARIANTS,
)
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.training import ALL_LINEAR
from semfreeze_core.wording.escaping import terminal_text


@app.command()
@with_flags(fields=FieldMapping, flags=FinetuneFlags)
def validate(
    plan: Annotated[str, typer.Argument(metavar="RUN|PLAN", help="A run (--rule makes its plan), or a plan.json.")],
    train: TrainDataOption,
    evaluation: EvalDataOption = HELD_OUT_DATA,
    arms: Annotated[
        str,
        typer.Option(
            help=f"What is trained, with commas: {', '.join((*VARIANTS, *FURTHER_VARIANTS))} (freezes W layers for N "
            "steps, then K)."
        ),
    ] = ",".join(VARIANTS),
    steps: Annotated[int, typer.Option(help="Optimizer steps after which all variants are evaluated.")] = STEPS,
    seeds: Annotated[int, typer.Option(help=f"Seeds of order and adapters; a verdict needs {MIN_SEEDS}.")] = SEEDS,
    match: Annotated[
        str | None,
        typer.Option(
            help="What the verdict compares at: the same steps, or the same compute (default), for which cheaper "
            "variants train on."
        ),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Old name of --match.", hidden=True)] = None,
    lr: RatesOption = "auto",
    lora_rank: Annotated[int, typer.Option(help="Rank of the LoRA variants.")] = LORA_RANK,
    lora_targets: Annotated[str, typer.Option(help="Ends of the names of adapted matrices, with commas.")] = ALL_LINEAR,
    rule: Annotated[str, typer.Option(help="Rule that makes a run's plan.")] = RULE,
    depth: Annotated[int | None, typer.Option(help="Your own freeze depth, in place of the rule's.")] = None,
    train_examples: TrainExamplesOption = TRAIN_ROWS,
    eval_examples: EvalExamplesOption = EVAL_ROWS,
    runner: RunnerOption = None,
    out: OutputFolderOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing validation.")] = False,
    *,
    fields: FieldMapping,
    flags: FinetuneFlags,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Validate a plan: train it and its alternatives for real, on the same data, and report a verdict."""
    from semfreeze_core.cli.options.plan_and_data import (
        default_folder,
        finetune_setup,
        parse_rates,
        plan_and_data,
        variant_list,
    )
    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.cli.printing.validation import print_validation, require_complete
    from semfreeze_core.cost.setup import lora_targets as lora_target_names
    from semfreeze_core.example_depths import with_example_depths
    from semfreeze_core.finetune.validation.request import ValidationRequest
    from semfreeze_core.finetune.validation.validate import validate as run_validation
    from semfreeze_core.records.training import LoraSetup
    from semfreeze_core.storage import user_path

    problems = flags.problems()
    match = _one_match(match, budget, problems)
    if lora_rank < 1:
        problems.append(f"--lora-rank must be at least 1, found {lora_rank}")
    require(problems)
    made = plan_and_data(plan, fields, rule, depth)
    request = ValidationRequest(
        plan=made.plan,
        train=train,
        evaluation=evaluation,
        setup=finetune_setup(flags, made.longest, steps=steps, train_examples=train_examples),
        mapping=made.mapping,
        add_eos=made.add_eos,
        arms=variant_list(arms),
        seeds=seeds,
        match=match,  # type: ignore[arg-type]  # checked above
        rates=parse_rates(lr),
        lora=LoraSetup(lora_rank, lora_target_names(lora_targets)),
        n_eval=eval_examples,
        n_accuracy=flags.accuracy_examples,
        model=flags.source(made.plan.model),
    )
    folder = default_folder(plan, made.run_folder, train) if out is None else user_path(str(out))
    with progress_on_stderr(quiet) as progress:
        request = with_example_depths(request, progress)
        report = run_validation(request, folder, overwrite=overwrite, progress=progress, runner=runner)
    if as_json:
        print_json(report.model_dump(mode="json", exclude={"runs"}))
    else:
        print_validation(report, console())
        typer.echo(terminal_text(f"Saved in {folder}"))
    require_complete(report)


def _one_match(match: str | None, budget: str | None, problems: list[str]) -> str:
    """What to compare at, by its new or old flag."""
    from semfreeze_core.records.validation import Budget

    if budget is not None:
        typer.echo("--budget is now called --match; the old name still works for now.", err=True)
        if match is not None and match != budget:
            problems.append(f"--match {match} and --budget {budget} contradict each other: give --match alone")
    chosen = match or budget or "compute"
    if chosen not in get_args(Budget):
        flag = "--match" if match else "--budget"
        problems.append(f"{flag} {chosen}: expected {' or '.join(get_args(Budget))}")
    return chosen
