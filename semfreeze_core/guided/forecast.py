"""What a guided finetune will do and take, estimated from an analysis before any example is read; loads no torch."""

from dataclasses import dataclass, field, replace

from semfreeze_core.cost import depth_cost, parts_at_depth, run_flop, step_flop, trial_flop
from semfreeze_core.cost.setup import options_applied, padded_length, setup_from_options
from semfreeze_core.gains.race_price import RacePrice, race_price, race_rows
from semfreeze_core.guided.candidates import candidates, no_race_reason, price_reason, unraced_plan
from semfreeze_core.guided.memory_limit import raced_setup
from semfreeze_core.plan.auto import trial_after_race
from semfreeze_core.plan.make import curve_of, make_plan
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.defaults import EPOCHS, HELD_OUT, HELD_OUT_ROWS, RACE_STEPS
from semfreeze_core.records.options import EstimateOptions, TrainingOptions
from semfreeze_core.records.race import Objective
from semfreeze_core.records.run import Run
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.wording.race import (
    cost_line,
    examples_line,
    micro_batch_reason,
    plan_cost_line,
    race_line,
    unraced_line,
)


@dataclass(frozen=True)
class ForecastRequest:
    """A guided finetune as far as its forecast needs it.

    Attributes:
        n_rows: usable training rows, of which some are held out where `n_eval` is None.
        n_eval: eval examples of a set of their own.
        objective, options, epochs, steps, max_length, depth: as in GuidedRequest; None is its default.
    """

    n_rows: int
    n_eval: int | None = None
    objective: Objective = field(default_factory=Objective)
    options: TrainingOptions = field(default_factory=TrainingOptions)
    epochs: int | None = None
    steps: int | None = None
    max_length: int | None = None
    depth: int | None = None


@dataclass(frozen=True)
class _Task:
    """The task as `candidates` and `no_race_reason` take it; `setup` is at the longest example's length."""

    run: Run
    setup: TrainingSetup
    n_train: int
    n_eval: int

    @property
    def checks(self) -> TaskChecks | None:
        """The analysis' own."""
        return self.run.manifest.data.checks


@dataclass(frozen=True)
class _Estimate:
    """The race's cost as `price_reason` takes it."""

    costs: dict[str, DepthCost]
    price: RacePrice
    full_flop: int


def forecast_lines(run: Run, request: ForecastRequest) -> list[str]:
    """What `semfreeze finetune` will report before it trains, at the analysis' mean example length.

    Args:
        run: the analysis of the training examples, or of others like them.
        request: what is asked for.

    Raises:
        PlanError: an option is out of range, or memory is limited and unknown.
    """
    task = _task(run, request)
    setup = task.setup
    lines = [examples_line(task.n_train, task.n_eval, setup.steps, setup)]
    if request.depth is not None:
        plan = make_plan(run, rule="manual", depth=request.depth, setup=setup)
        return [*lines, *plan.reasons, plan_cost_line(plan)]
    variants = candidates(request, task)
    mean = _at_mean_length(run, setup)
    costs = {name: depth_cost(run.shape, mean, parts_at_depth(run.shape, depth)) for name, depth in variants.items()}
    why: str | None = ""
    if variants:
        why = no_race_reason(task, variants)
        if why is None:
            n_raced = min(task.n_eval, race_rows(setup.steps, setup.batch_size, len(variants)))
            price = _price(run, mean, request, sorted(variants.values()), n_raced)
            estimate = _Estimate(costs, price, _full(run, mean))
            why = price_reason(request.objective, variants, estimate, setup.steps, curve_of(run, "semantic"))
            if why is None:
                shares = price.likely / estimate.full_flop, price.worst / estimate.full_flop
                depths, flop = list(variants.values()), [cost.flop for cost in costs.values()]
                in_race = raced_setup(request.objective, run.shape, setup, depths)
                peak, whole = (
                    depth_cost(run.shape, one, parts_at_depth(run.shape, min(depths))).bytes.total
                    for one in (in_race, setup)
                )
                trial = trial_after_race(depths, request.objective, RACE_STEPS, setup.steps)
                lines.append(race_line(depths, request.objective, n_raced, shares, setup.steps, trial))
                if in_race != setup:
                    lines.append(micro_batch_reason(in_race, whole, request.objective.limit))
                return [*lines, cost_line((min(flop), max(flop)), peak)]
        lines.append(unraced_line(why))
    plan = unraced_plan(request, task, variants, why or "")
    return [*lines, *plan.reasons, plan_cost_line(plan)]


def _task(run: Run, request: ForecastRequest) -> _Task:
    n_train, n_eval = request.n_rows, request.n_eval
    if n_eval is None:
        least, most = HELD_OUT_ROWS
        n_eval = min(most, max(least, round(HELD_OUT * n_train)))
        n_train = max(1, n_train - n_eval)
    longest = request.max_length or run.manifest.data.max_length
    setup = setup_from_options(run.shape, run, EstimateOptions(sequence_length=longest))
    setup = options_applied(setup, request.options)
    steps = request.steps or (request.epochs or EPOCHS) * -(-n_train // setup.batch_size)
    length = min(setup.sequence_length, int(run.examples["n_tokens"].max()))
    return _Task(run, replace(setup, train_examples=n_train, steps=steps, sequence_length=length), n_train, n_eval)


def _at_mean_length(run: Run, setup: TrainingSetup) -> TrainingSetup:
    """The setup at the mean padded length of the analyzed examples' batches, as the race estimates it."""
    lengths = [min(int(n), setup.sequence_length) for n in run.examples["n_tokens"]]
    length = padded_length(lengths, setup.examples_per_pass, setup.batches)
    data = run.manifest.data
    return replace(
        setup,
        sequence_length=length,
        supervised_fraction=min(1.0, data.n_supervised_tokens / data.n_examples / length),
    )


def _full(run: Run, setup: TrainingSetup) -> int:
    return run_flop(run.shape, replace(setup, prefix_cache=False), parts_at_depth(run.shape, 0))


def _price(run: Run, setup: TrainingSetup, request: ForecastRequest, depths: list[int], n_raced: int) -> RacePrice:
    """What a race of depths, shallowest first, adds; frozen layers are cached in it only where memory is limited."""
    cached = setup.prefix_cache and request.objective.kind == "memory"
    raced = replace(setup, prefix_cache=cached)
    steps = [
        step_flop(run.shape, raced, parts_at_depth(run.shape, depth), cached=cached and depth > 0).total
        for depth in reversed(depths)
    ]
    one = replace(setup.of_pass(1), prefix_cache=False, checkpointing="none")
    reading = n_raced * step_flop(run.shape, one, parts_at_depth(run.shape, 0)).forward
    trial = trial_after_race(depths, request.objective, RACE_STEPS, setup.steps)
    tried = 0 if trial is None else trial_flop(run.shape, setup, trial, deeper=True)
    return race_price(steps, (1 + len(depths)) * reading, RACE_STEPS, tried)
