"""`semfreeze plan`: from a run to a freeze plan."""

import json
from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import (
    JsonOption,
    MetricOption,
    QuietOption,
    TrainEmbeddingsOption,
    TrainHeadOption,
    TrainNormOption,
)
from semfreeze_core.cli.options.groups import with_flags
from semfreeze_core.cli.options.pilots import PilotFlags, refuse_pilot_flags
from semfreeze_core.records.defaults import COVERAGE_WEIGHT, LOOK_STEPS, RULE, TAU, WIDE_STEPS
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.wording.escaping import terminal_text


@app.command()
@with_flags(flags=EstimateOptions, pilots=PilotFlags)
def plan(
    run: Annotated[str | None, typer.Argument(help="A run: its folder, its name, or 'example'.")] = None,
    rule: Annotated[
        str | None, typer.Option(help="auto (default), coverage, paper, compute, turning, measured, budget or manual.")
    ] = None,
    metric: MetricOption = "semantic",
    depth: Annotated[int | None, typer.Option(help="Your own freeze depth; implies --rule manual.")] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Your own layers to train, such as 0-3,26-29; implies --rule manual.", metavar="RANGES"),
    ] = None,
    progressive: Annotated[
        str | None,
        typer.Option(
            help="Freeze W layers for N steps, then K. Without W-K: a quarter, then the rule's depth; without @N: "
            f"{WIDE_STEPS} steps, at most half; @auto: when trials of {LOOK_STEPS} steps lose nothing.",
            metavar="W-K@N",
        ),
    ] = None,
    least_score: Annotated[
        float | None,
        typer.Option("--tau", help=f"Minimum score of the coverage rule, {TAU} there; implies --rule coverage."),
    ] = None,
    max_memory_gib: Annotated[
        float | None, typer.Option(help="Device memory limit in GiB; implies --rule budget.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="GPU whose memory is the limit, such as A10 or 24GiB; implies --rule budget, sets --precision."
        ),
    ] = None,
    max_cost_fraction: Annotated[
        float | None,
        typer.Option(help="Maximum share of full finetuning's compute, in (0, 1]; implies --rule budget."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare what every rule and layer score recommends; writes no plan.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Output file for the plan (JSON).")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the plan's JSON Schema and exit.")] = False,
    allow_new_tokens: Annotated[
        bool, typer.Option("--allow-new-tokens", help="Freeze even if the data uses tokens that look untrained.")
    ] = False,
    *,
    flags: EstimateOptions,
    pilots: PilotFlags,
    train_head: TrainHeadOption = None,
    train_embeddings: TrainEmbeddingsOption = None,
    train_norm: TrainNormOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Recommend which layers to freeze: why, and at what estimated cost."""
    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.errors import PlanError
    from semfreeze_core.plan.document import FreezePlan

    if schema:
        print_json(FreezePlan.model_json_schema(mode="serialization"))
        return
    if run is None:
        raise PlanError("RUN is missing: give a run's folder or name, or 'example'.")
    flags_given = (("--rule", rule), ("--out", out), ("--layers", layers), ("--progressive", progressive))
    if compare and any(value is not None for _, value in flags_given):
        given = " and ".join(flag for flag, value in flags_given if value is not None)
        raise PlanError(f"--compare asks every rule and writes no plan: leave {given} out.")
    refuse_pilot_flags(pilots, rule)
    from semfreeze_core.cli.options.pilots import run_pilots
    from semfreeze_core.cli.printing.console import progress_on_stderr
    from semfreeze_core.cli.printing.documents import compare_document
    from semfreeze_core.cli.printing.opinions import print_comparison
    from semfreeze_core.cli.printing.run import print_correction, print_plan
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.cost import names_depths, savings
    from semfreeze_core.cost.setup import setup_from_options
    from semfreeze_core.plan.badge import with_badge
    from semfreeze_core.plan.decide import refuse_contradictions
    from semfreeze_core.plan.document import plan_text
    from semfreeze_core.plan.make import TrainFlags, make_plan
    from semfreeze_core.plan.opinions import gather_opinions
    from semfreeze_core.plan.rules_by_cost import Budget
    from semfreeze_core.runs.calibration import coverage_calibration, read_calibration
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.plans import require_plan_path
    from semfreeze_core.runs.reports import readable_validations
    from semfreeze_core.runs.store import find_run
    from semfreeze_core.storage import user_path, write_atomically

    tau = TAU if least_score is None else least_score
    if out is not None:
        out = user_path(str(out))
        require_plan_path(out)
    folder = find_run(run)
    reading = read_run(folder)
    limited = max_memory_gib is not None or gpu is not None or max_cost_fraction is not None
    budget = Budget(max_memory_gib, gpu, max_cost_fraction) if limited else None
    card = None if budget is None else budget.card
    setup = setup_from_options(reading.shape, reading, flags, trains_embeddings=bool(train_embeddings), gpu=card)
    train = TrainFlags(train_embeddings, train_norm, train_head)
    if compare:
        comparison = gather_opinions(
            reading,
            metric=metric,
            depth=depth,
            tau=tau,
            budget=budget,
            setup=setup,
            train=train,
            allow_new_tokens=allow_new_tokens,
        )
        if as_json:
            print_json(compare_document(comparison, folder))
        else:
            print_comparison(comparison, console())
        return
    measurement = None
    if rule == "measured":
        refuse_contradictions(
            reading.shape.n_layers, rule, depth=depth, tau=tau, weight=COVERAGE_WEIGHT, budget=budget, measured=True
        )
        if train != TrainFlags():
            raise PlanError("Pilots train what each depth trains by default: leave the --train-… flags out.")
        with progress_on_stderr(quiet) as progress:
            measurement = run_pilots(run, reading, setup, metric, pilots, progress)
    is_manual = depth is not None or layers is not None or (progressive is not None and names_depths(progressive))
    meant = "manual" if is_manual else "budget" if budget is not None else RULE if least_score is None else "coverage"
    document = make_plan(
        reading,
        rule=rule or meant,  # type: ignore[arg-type]  # checked there, with all else that may be wrong
        metric=metric,
        depth=depth,
        layers=layers,
        progressive=progressive,
        tau=tau,
        budget=budget,
        measurement=measurement,
        setup=setup,
        train=train,
        allow_new_tokens=allow_new_tokens,
        run_name=folder.absolute().name,
    )
    validations, problems = readable_validations(folder)
    document = with_badge(document, validations)
    text = plan_text(document, Path.cwd() if out is None else out.parent)
    if out is not None:
        write_atomically(out, text)
    if as_json:
        print_json(json.loads(text))
        return
    left = []  # of a plan that freezes deeper later, memory is that of its first steps, with other parts trained
    if document.trainable is not None and document.switch is None:
        left = savings(reading.shape, document.cost.setup, document.trainable, card)
    print_plan(document, validations, console(), saving=next(iter(left), None))
    for problem in problems:  # the plan does not depend on it
        typer.echo(f"note: {problem}")
    calibrated = coverage_calibration(read_calibration()) if layers is None else None  # of depths alone
    print_correction(document.gain_coverage.estimate, calibrated, console())
    if out is not None:
        typer.echo(terminal_text(f"Plan: {out}"))
    else:
        typer.echo("To save the plan, add --out plan.json.")
