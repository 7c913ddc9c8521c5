"""`semfreeze sweep`: finetune at several depths for real, and see what each rule would have cost."""

from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption, MetricOption, QuietOption, RunArgument
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
def sweep(
    run: RunArgument,
    train: TrainDataOption,
    evaluation: EvalDataOption,
    depths: Annotated[
        str,
        typer.Option(help="Freeze depths, comma-separated; auto: 0, 1/4, 1/2, 2/3, the maximum, every rule's."),
    ] = "auto",
    metric: MetricOption = "semantic",
    steps: Annotated[int, typer.Option(help="Optimizer steps after which all depths are evaluated.")] = 60,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    lr: Annotated[
        str, typer.Option(help="Learning rates by variant or kind, like full=1e-4,frozen=3e-4,depth:8=1e-3.")
    ] = "",
    train_examples: TrainExamplesOption = 480,
    eval_examples: EvalExamplesOption = 200,
    out: KeptInOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sweep.")] = False,
    *,
    fields: DataFlags,
    flags: FinetuneFlags,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Finetune at several freeze depths on the same data; report each loss reduction and each rule's regret."""
    from semfreeze_core.cli.options.plan_and_data import default_folder, parse_rates, plan_and_data
    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.cli.printing.sweep import print_sweep
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.finetune.validation.request import ValidationRequest
    from semfreeze_core.finetune.validation.sweep import sweep as run_sweep
    from semfreeze_core.plan.candidate_depths import auto_depths, depth_arms, parse_depths, picks_of
    from semfreeze_core.plan.make import curve_of
    from semfreeze_core.plan.opinions import compare
    from semfreeze_core.runs.folder import SWEEPS, read_run
    from semfreeze_core.runs.store import find_run
    from semfreeze_core.storage import user_path

    require(flags.problems())
    reading = read_run(find_run(run))
    picks = picks_of(compare(reading, metric=metric))
    n_layers = reading.shape.n_layers
    document, mapping, length, add_eos, run_folder = plan_and_data(
        run, fields.mapping(), flags.max_length, "manual", n_layers // 2
    )
    chosen = auto_depths(n_layers, picks.values()) if depths == "auto" else parse_depths(depths, n_layers)
    request = ValidationRequest(
        plan=document,
        train=train,
        evaluation=evaluation,
        mapping=mapping,
        max_length=length,
        add_eos=add_eos,
        arms=depth_arms(chosen),
        steps=steps,
        seeds=seeds,
        batch_size=flags.batch_size,
        budget="compute",
        rates=parse_rates(lr),
        n_train=train_examples,
        n_eval=eval_examples,
        n_accuracy=flags.accuracy_examples,
        precision=flags.precision,  # type: ignore[arg-type]
        checkpointing=flags.checkpointing,  # type: ignore[arg-type]
        prefix_cache=flags.prefix_cache,
        share_caches=flags.prefix_cache,
        model=flags.source(document.model),
    )
    folder = default_folder(run, run_folder, train, SWEEPS) if out is None else user_path(str(out))
    with progress_on_stderr(quiet) as progress:
        report = run_sweep(request, curve_of(reading, metric), picks, folder, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    print_sweep(report, console())
    typer.echo(f"Saved in {folder}")
