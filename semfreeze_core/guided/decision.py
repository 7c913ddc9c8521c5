"""Which variant is trained: by your depth, a race, or free checks."""

from collections.abc import Mapping
from pathlib import Path

from semfreeze_core.cost import depth_cost, parts_at_depth
from semfreeze_core.finetune.validation.race import race
from semfreeze_core.finetune.validation.race_estimate import RaceEstimate, estimate_race
from semfreeze_core.finetune.validation.race_request import RaceRequest
from semfreeze_core.finetune.validation.request import prepare
from semfreeze_core.guided.candidates import candidates, no_race_reason, price_reason, unraced_plan
from semfreeze_core.guided.memory_limit import raced_setup, with_room
from semfreeze_core.guided.request import GuidedRequest
from semfreeze_core.guided.task import GuidedTask
from semfreeze_core.plan.auto import variant_name
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.plan.make import curve_of, make_plan
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.records.race import Race
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.usual_depths import quarter_depth
from semfreeze_core.wording.race import (
    cost_line,
    micro_batch_reason,
    plan_cost_line,
    race_line,
    run_time_line,
    unraced_line,
)


def decide(
    request: GuidedRequest, task: GuidedTask, folder: Path, progress: Progress
) -> tuple[FreezePlan, Race | None]:
    """The plan, by the depth that was asked for, a race, or free checks.

    Raises:
        PlanError: nothing is recommended, or nothing fits.
    """
    run, setup = task.run, task.setup
    if request.depth is not None:
        return _reported(make_plan(run, rule="manual", depth=request.depth, setup=setup), progress), None
    variants = candidates(request, task)
    why: str | None = ""
    if variants:  # else nothing but a depth deeper than all of them fits, or none
        why = no_race_reason(task, variants)
        if why is None:
            race_request = _race_request(request, task, variants)
            estimate = estimate_race(race_request, prepare(race_request.validation(), progress))
            why = price_reason(request.objective, variants, estimate, setup.steps, curve_of(run, "semantic"))
            if why is None:
                raced = _race(race_request, estimate, task, folder, progress)

                def made(setup: TrainingSetup) -> FreezePlan:
                    return make_plan(run, rule="auto", race=raced, checks=task.checks, setup=setup)

                return with_room(request.objective, run.shape, setup, made), raced
        progress(ProgressEvent("Finetune", message=unraced_line(why)))
    return _reported(unraced_plan(request, task, variants, why or ""), progress), None


def _reported(plan: FreezePlan, progress: Progress) -> FreezePlan:
    """The plan, once its reasons and its cost are reported."""
    for reason in plan.reasons:
        progress(ProgressEvent("Finetune", message=reason))
    progress(ProgressEvent("Finetune", message=plan_cost_line(plan)))
    return plan


def _race_request(request: GuidedRequest, task: GuidedTask, variants: Mapping[str, int]) -> RaceRequest:
    quarter = variant_name(quarter_depth(task.run.shape.n_layers))
    return RaceRequest(
        plan=make_plan(task.run, rule="manual", depth=0, setup=task.setup),
        setup=raced_setup(request.objective, task.run.shape, task.setup, variants.values()),
        train=task.train,
        evaluation=task.evaluation,
        n_train=task.run.manifest.data.n_usable if request.steps is None else request.steps * task.setup.batch_size,
        n_rows=task.n_train,
        variants=variants,
        safe=quarter if quarter in variants else next(iter(variants)),
        objective=request.objective,
        mapping=request.mapping,
        add_eos=request.add_eos,
        model=request.model,
    )


def _race(request: RaceRequest, estimate: RaceEstimate, task: GuidedTask, folder: Path, progress: Progress) -> Race:
    """The race, once what it does and costs is reported."""
    depths = list(request.variants.values())
    shares = (estimate.price.likely / estimate.full_flop, estimate.price.worst / estimate.full_flop)
    line = race_line(depths, request.objective, estimate.n_eval, shares, request.setup.steps, estimate.trial)
    progress(ProgressEvent("Race", message=line))
    if request.setup.examples_per_pass < task.setup.examples_per_pass:
        whole = depth_cost(task.run.shape, task.setup, parts_at_depth(task.run.shape, min(depths))).bytes.total
        line = micro_batch_reason(request.setup, whole, request.objective.limit)
        progress(ProgressEvent("Race", message=line))
    flop = [cost.flop for cost in estimate.costs.values()]
    peak = depth_cost(task.run.shape, request.setup, parts_at_depth(task.run.shape, min(depths))).bytes.total
    progress(ProgressEvent("Race", message=cost_line((min(flop), max(flop)), peak)))
    result = race(request, folder, progress)
    winner = next(variant for variant in result.variants if variant.name == result.chosen)
    deeper = None
    if result.deeper_depth is not None and estimate.deeper_flop is not None and winner.run_seconds is not None:
        deeper = winner.run_seconds * estimate.deeper_flop / winner.run_flop
    progress(ProgressEvent("Race", message=run_time_line(result.reason, winner.run_seconds, deeper)))
    return result
