"""What fits into a memory limit: the largest micro-batches that a depth has room for, as they cost no quality."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from semfreeze_core.cost import depth_cost, parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.race import Objective
from semfreeze_core.records.training import TrainingSetup, micro_batch_sizes
from semfreeze_core.wording.numbers import counted
from semfreeze_core.wording.race import micro_batch_reason


def setups_to_try(setup: TrainingSetup) -> Iterator[TrainingSetup]:
    """The setup with the whole batch at once, then with smaller micro-batches; as it is where it names their size."""
    if setup.micro_batch_size is not None:
        yield setup
        return
    for size in micro_batch_sizes(setup.batch_size):
        yield setup if size == setup.batch_size else replace(setup, micro_batch_size=size)


def fitting_setup(
    shape: ModelShape, setup: TrainingSetup, depths: Collection[int], limit_bytes: float
) -> TrainingSetup | None:
    """The setup with the largest micro-batches at which all these depths fit; None where there is none.

    Args:
        shape: the counted model, whose memory is known.
        setup: of the finetune.
        depths: freeze depths.
        limit_bytes: of device memory.
    """
    return next(
        (one for one in setups_to_try(setup) if all(_bytes(shape, one, depth) <= limit_bytes for depth in depths)), None
    )


def raced_setup(
    objective: Objective, shape: ModelShape, setup: TrainingSetup, depths: Collection[int]
) -> TrainingSetup:
    """The setup of a race: with micro-batches that all its variants have room for where memory is limited."""
    if objective.kind != "memory":
        return setup
    return fitting_setup(shape, setup, depths, objective.limit or 0) or setup


def with_room(
    objective: Objective, shape: ModelShape, setup: TrainingSetup, make: Callable[[TrainingSetup], FreezePlan]
) -> FreezePlan:
    """The plan with the largest micro-batches that its depth has room for where memory is limited, and why these.

    Args:
        objective: of the finetune.
        shape: the counted model.
        setup: of the finetune, with the whole batch at once unless its micro-batches are named.
        make: the plan in a setup.
    """
    plan = make(setup)
    if objective.kind != "memory" or plan.freeze_depth is None:
        return plan
    fitting = fitting_setup(shape, setup, [plan.freeze_depth], objective.limit or 0)
    return plan if fitting in (None, setup) else _explained(make(fitting), shape, setup, objective)


def smallest_depth(
    objective: Objective, shape: ModelShape, setup: TrainingSetup, make: Callable[[TrainingSetup], FreezePlan]
) -> FreezePlan:
    """The plan of the smallest depth that fits with any micro-batches, with the largest ones that do.

    Args:
        objective, shape, setup: as in with_room.
        make: the plan of the smallest depth that fits in a setup.

    Raises:
        PlanError: no depth fits.
    """
    plans, errors = list[FreezePlan](), list[PlanError]()
    for one in setups_to_try(setup):
        try:
            plans.append(make(one))
        except PlanError as error:
            errors.append(error)
    if not plans:
        raise PlanError(f"{errors[-1]} This is with {counted(one.examples_per_pass, 'example')} at a time.")
    plan = min(plans, key=lambda plan: plan.freeze_depth or 0)
    return plan if plan.cost.setup == setup else _explained(plan, shape, setup, objective)


def _explained(plan: FreezePlan, shape: ModelShape, setup: TrainingSetup, objective: Objective) -> FreezePlan:
    whole = depth_cost(shape, setup, parts_at_depth(shape, plan.freeze_depth or 0)).bytes.total
    reason = micro_batch_reason(plan.cost.setup, whole, objective.limit)
    return plan.model_copy(update={"reasons": [*plan.reasons, reason]})


def _bytes(shape: ModelShape, setup: TrainingSetup, depth: int) -> float:
    total = depth_cost(shape, setup, parts_at_depth(shape, depth)).bytes.total
    return float("inf") if total is None else total
