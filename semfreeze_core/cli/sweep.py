"""`semfreeze sweep`: finetune at several depths for real, and report each rule's regret."""

from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import AlsoProgressiveOption, JsonOption, MetricOption, QuietOption, RunArgument
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
from semfreeze_core.records.defaults import EVAL_ROWS, HELD_OUT_DATA, MIN_SEEDS, STEPS, TRAIN_ROWS
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.wording.escaping import terminal_text


@app.command()
@with_flags(fields=FieldMapping, flags=FinetuneFlags)
def sweep(
    run: RunArgument,
    train: TrainDataOption,
    evaluation: EvalDataOption = HELD_OUT_DATA,
    depths: Annotated[
        str,
        typer.Option(help="Freeze depths, comma-separated; auto: 0, 1/4, 1/2, 2/3, the maximum, every rule's."),
    ] = "auto",
    progressive: AlsoProgressiveOption = None,
    metric: MetricOption = "semantic",
    steps: Annotated[int, typer.Option(help="Optimizer steps after which all depths are evaluated.")] = STEPS,
    seeds: Annotated[int, typer.Option(help="Seeds of the order.")] = MIN_SEEDS,
    lr: RatesOption = "auto",
    train_examples: TrainExamplesOption = TRAIN_ROWS,
    eval_examples: EvalExamplesOption = EVAL_ROWS,
    runner: RunnerOption = None,
    out: OutputFolderOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sweep.")] = False,
    *,
    fields: FieldMapping,
    flags: FinetuneFlags,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Finetune at several freeze depths on equal data: what each gains, and each rule's regret."""
    from semfreeze_core.cli.options.plan_and_data import default_folder, finetune_setup, parse_rates, plan_and_data
    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.cli.printing.sweep import print_sweep
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.cli.printing.validation import require_complete
    from semfreeze_core.finetune.validation.request import ValidationRequest
    from semfreeze_core.finetune.validation.sweep import sweep as run_sweep
    from semfreeze_core.plan.candidate_depths import (
        auto_depths,
        candidates_of,
        depth_arms,
        parse_depths,
        progressive_arm,
    )
    from semfreeze_core.plan.make import curve_of
    from semfreeze_core.plan.opinions import gather_opinions
    from semfreeze_core.records.usual_depths import half_depth
    from semfreeze_core.runs.folder import SWEEPS, read_run
    from semfreeze_core.runs.reports import read_validation
    from semfreeze_core.runs.store import find_run
    from semfreeze_core.storage import user_path

    require(flags.problems())
    analysis = read_run(find_run(run))
    candidates = candidates_of(gather_opinions(analysis, metric=metric))
    n_layers = analysis.shape.n_layers
    made = plan_and_data(run, fields, "manual", half_depth(n_layers))
    chosen = auto_depths(n_layers, candidates.values()) if depths == "auto" else parse_depths(depths, n_layers)
    further = () if progressive is None else (progressive_arm(progressive, analysis.shape, steps),)
    setup = finetune_setup(flags, made.longest, steps=steps, train_examples=train_examples)
    request = ValidationRequest(
        plan=made.plan,
        train=train,
        evaluation=evaluation,
        setup=setup,
        mapping=made.mapping,
        add_eos=made.add_eos,
        arms=(*depth_arms(chosen), *further),
        seeds=seeds,
        match="compute",
        rates=parse_rates(lr),
        n_eval=eval_examples,
        n_accuracy=flags.accuracy_examples,
        share_caches=setup.prefix_cache,
        model=flags.source(made.plan.model),
    )
    folder = default_folder(run, made.run_folder, train, SWEEPS) if out is None else user_path(str(out))
    with progress_on_stderr(quiet) as progress:
        curve = curve_of(analysis, metric)
        report = run_sweep(request, curve, candidates, folder, overwrite=overwrite, progress=progress, runner=runner)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        print_sweep(report, console())
        typer.echo(terminal_text(f"Saved in {folder}"))
    require_complete(read_validation(folder))
