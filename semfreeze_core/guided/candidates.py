"""The variants that a guided finetune chooses from, and why they may not be raced."""

from collections.abc import Mapping
from typing import Protocol

from semfreeze_core.cost import depth_cost, parts_at_depth
from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.gains.race_price import RacePrice
from semfreeze_core.guided.memory_limit import fitting_setup, smallest_depth, with_room
from semfreeze_core.plan.auto import candidate_variants, is_undecided, variant_name
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.plan.make import curve_of, make_plan, new_tokens_reason
from semfreeze_core.plan.rules import decide_by_coverage
from semfreeze_core.plan.rules_by_cost import UNKNOWN_MEMORY, Budget
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.defaults import MIN_RACED_STEPS, RACE_ROWS, RACE_STEPS, RACE_WINS
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.race import Objective
from semfreeze_core.records.run import Run
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.usual_depths import quarter_depth
from semfreeze_core.wording.race import too_costly


class Task(Protocol):
    """What is known of a task's examples; a GuidedTask, or a forecast without any example."""

    @property
    def run(self) -> Run: ...
    @property
    def setup(self) -> TrainingSetup: ...
    @property
    def n_train(self) -> int: ...
    @property
    def n_eval(self) -> int: ...
    @property
    def checks(self) -> TaskChecks | None: ...


class Wish(Protocol):
    """Who asks for something: a GuidedRequest, or a forecast's."""

    @property
    def objective(self) -> Objective: ...


class Estimate(Protocol):
    """What a race and the finetunes cost that it chooses from."""

    @property
    def costs(self) -> Mapping[str, DepthCost]: ...
    @property
    def price(self) -> RacePrice: ...
    @property
    def full_flop(self) -> int: ...


def candidates(request: Wish, task: Task) -> dict[str, int]:
    """The variants to choose from, shallowest first; where memory is limited, those that fit with some micro-batches.

    Where the cheapest of variants that are about as good is wanted, a quarter of the layers stands for training them
    all, at less compute.

    Raises:
        PlanError: memory is limited and unknown.
    """
    run = task.run
    if new_tokens_reason(run.manifest) is not None:
        return {variant_name(0): 0}
    pick = decide_by_coverage(curve_of(run, "semantic")).freeze_depth
    variants = candidate_variants(run.shape.n_layers, pick, task.checks)
    if request.objective.kind == "balanced" and len(variants) > 2:
        return {name: depth for name, depth in variants.items() if depth > 0}
    if request.objective.kind != "memory":
        return variants
    if depth_cost(run.shape, task.setup, parts_at_depth(run.shape, 0)).bytes.total is None:
        raise PlanError(UNKNOWN_MEMORY.partition(" Use ")[0])
    limit = request.objective.limit or 0
    return {
        name: depth
        for name, depth in variants.items()
        if fitting_setup(run.shape, task.setup, [depth], limit) is not None
    }


def no_race_reason(task: Task, variants: Mapping[str, int]) -> str | None:
    """Why there is no race; None where there is one."""
    if len(variants) < 2:
        return "There are fewer than two variants to compare."
    if task.setup.steps < MIN_RACED_STEPS:
        return f"The finetune has {task.setup.steps} steps; a race is made from {MIN_RACED_STEPS} steps on."
    if task.n_eval < RACE_ROWS[0]:
        return f"There are {task.n_eval} eval examples; a race is made from {RACE_ROWS[0]} on."
    if task.n_train < (drawn := RACE_STEPS * task.setup.batch_size):
        return f"There are {task.n_train} training examples; the {RACE_STEPS} steps of a race take {drawn}, none twice."
    return None


def price_reason(
    objective: Objective, variants: Mapping[str, int], estimate: Estimate, steps: int, curve: GainCurve
) -> str | None:
    """Why a race is not worth its price; None where it is, or where the objective needs one at any price.

    A race for the cheapest variant is made where its likely price is below what it saves on average: what the cheapest
    variant would save, as often as such a variant won. It is made at any price where nothing else can choose.
    """
    costs = [cost.flop for cost in estimate.costs.values()]
    saved, likely = max(costs) - min(costs), estimate.price.likely
    if objective.kind != "balanced" or is_undecided(curve) or likely < RACE_WINS * saved:
        return None
    full = estimate.full_flop
    return too_costly(likely / full, saved / full, list(variants.values()), steps)


def unraced_plan(request: Wish, task: Task, variants: Mapping[str, int], why: str) -> FreezePlan:
    """The plan that free checks decide on, or of the smallest depth that fits where memory is limited.

    Args:
        request: whose objective it is.
        task: the examples.
        variants: to choose from; none where none of them fits into a memory limit.
        why: there is no race.

    Raises:
        InputError: the objective needs a race.
        PlanError: nothing is recommended, or nothing fits.
    """
    objective, run, setup = request.objective, task.run, task.setup

    def checked(setup: TrainingSetup) -> FreezePlan:
        return make_plan(run, rule="auto", checks=task.checks, setup=setup)

    if not variants:
        return _within_memory(objective, run, setup)
    if objective.kind == "time":
        raise InputError(f"--objective time needs a race, which measures the time of a step. {why}")
    plan = with_room(objective, run.shape, setup, checked)
    if plan.freeze_depth is None:
        raise PlanError(
            f"The analysis makes no recommendation: {' '.join(plan.reasons)} To freeze a quarter of the layers, which "
            f"cost little on the tasks that we measured, add --depth {quarter_depth(run.shape.n_layers)}; to train "
            "every layer, --depth 0."
        )
    if objective.kind == "memory" and variant_name(plan.freeze_depth) not in variants:
        return _within_memory(objective, run, setup)
    return plan


def _within_memory(objective: Objective, run: Run, setup: TrainingSetup) -> FreezePlan:
    """The plan of the smallest depth that fits into the memory limit."""
    budget = Budget(max_memory_gib=float(objective.limit or 0) / 2**30)
    return smallest_depth(
        objective, run.shape, setup, lambda setup: make_plan(run, rule="budget", budget=budget, setup=setup)
    )
