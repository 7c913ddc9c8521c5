"""Which change of a training setup saves most memory, and which changes make a finetune fit.

Each change is priced by the same cost model as everything else. Changes of how a step is computed leave its result as
it is; those of what it computes with, precision and optimizer states, change it a little. Smaller micro-batches take no
FLOPs and yet may take time, which the model does not count: they are proposed only where something must fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.cost.table import depth_cost
from semfreeze_core.records.activation_count import CalibratedBytes
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.defaults import GPU_PRECISION
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import TrainableParts, TrainingSetup, micro_batch_sizes


@dataclass(frozen=True)
class Saving:
    """A setup that needs less memory.

    Attributes:
        options: fields of TrainingSetup that differ, with their new values, in the order in which they are tried.
        setup: with all of them.
        cost: of the finetune with it.
        saved_bytes: memory that the given setup needs beyond it.
        flop_ratio: the whole run's FLOPs over those with the given setup.
        same_result: whether the trained weights are the same but for rounding.
    """

    options: tuple[tuple[str, object], ...]
    setup: TrainingSetup
    cost: DepthCost
    saved_bytes: int
    flop_ratio: float
    same_result: bool


def savings(
    shape: ModelShape,
    setup: TrainingSetup,
    parts: TrainableParts,
    gpu: Gpu | None = None,
    calibrated: CalibratedBytes | None = None,
) -> list[Saving]:
    """Single changes that save memory, the one that saves most first; none where memory is unknown.

    Args:
        shape: the counted model.
        setup: the finetune.
        parts: what it trains.
        gpu: that it runs on; without one, nothing is proposed that only some devices can do.
        calibrated: as in training_bytes.

    Raises:
        PlanError: as depth_cost.
    """
    before = depth_cost(shape, setup, parts, calibrated)
    singles = (_saving(shape, setup, parts, (change,), before, calibrated) for change in _changes(setup, parts, gpu))
    return sorted((one for one in singles if one is not None), key=lambda one: -one.saved_bytes)


def cheapest_fit(
    shape: ModelShape,
    setup: TrainingSetup,
    parts: TrainableParts,
    gpu: Gpu,
    calibrated: CalibratedBytes | None = None,
) -> Saving | None:
    """The changes with which a finetune fits a GPU: those that change its result least, then the least compute.

    Of equal ones, those with the largest micro-batches.

    None where it fits as it is, where no changes are enough, and where memory is unknown.

    Args:
        shape, setup, parts, calibrated: as in `savings`.
        gpu: whose memory is the limit.

    Raises:
        PlanError: as depth_cost.
    """
    before = depth_cost(shape, setup, parts, calibrated)
    if before.bytes.total is None or before.bytes.total <= gpu.memory_bytes:
        return None
    changes = list(_changes(setup, parts, gpu))
    sets = [chosen for n in range(len(changes) + 1) for chosen in combinations(changes, n) if _distinct(chosen)]
    for effect in range(3):
        tried = (
            _with_room(shape, setup, parts, chosen, before, calibrated, gpu.memory_bytes)
            for chosen in sets
            if _effect(chosen) == effect
        )
        fits = [one for one in tried if one is not None]
        if fits:
            return min(fits, key=lambda one: (one.flop_ratio, -one.setup.examples_per_pass, len(one.options)))
    return None


def _with_room(
    shape: ModelShape,
    setup: TrainingSetup,
    parts: TrainableParts,
    options: tuple[tuple[str, object], ...],
    before: DepthCost,
    calibrated: CalibratedBytes | None,
    limit_bytes: int,
) -> Saving | None:
    """The changes with the largest micro-batches that fit, the given ones if those do; None where none fit."""
    smaller = (size for size in micro_batch_sizes(setup.batch_size) if size < setup.examples_per_pass)
    for micro in ((), *(((_MICRO, size),) for size in smaller)):
        saving = _saving(shape, setup, parts, (*options, *micro), before, calibrated)
        if saving is not None and (saving.cost.bytes.total or 0) <= limit_bytes:
            return saving
    return None


def _changes(setup: TrainingSetup, parts: TrainableParts, gpu: Gpu | None) -> Iterator[tuple[str, object]]:
    """Every change that the setup leaves room for, those that change the result least first."""
    if setup.loss == "materialised":
        yield "loss", "supervised-only"
    if setup.loss in ("materialised", "supervised-only"):
        yield "loss", "chunked"
    cacheable = parts.freeze_depth > 0 and not parts.embeddings and setup.checkpointing != "transformers-5"
    if cacheable and not setup.prefix_cache:
        yield "prefix_cache", True
    if setup.checkpointing == "none":
        yield "checkpointing", "non-reentrant"
    if gpu is not None and gpu.multiplies_bfloat16 and setup.precision == "float32":
        yield "precision", GPU_PRECISION
    if gpu is not None and setup.optimizer == "adamw":
        yield "optimizer", "adamw8bit"
    if gpu is not None and gpu.multiplies_bfloat16 and setup.precision != "bf16":
        yield "precision", "bf16"


_MICRO = "micro_batch_size"
_SAME_RESULT = {"loss", "prefix_cache", "checkpointing", _MICRO}


def _distinct(options: tuple[tuple[str, object], ...]) -> bool:
    """Whether no field is changed twice."""
    return len({name for name, _ in options}) == len(options)


def _effect(options: tuple[tuple[str, object], ...]) -> int:
    """How far changes may move the trained weights: 0 not at all, 2 where sums too are kept in bfloat16."""
    return max((0 if name in _SAME_RESULT else 2 if value == "bf16" else 1 for name, value in options), default=0)


def _saving(
    shape: ModelShape,
    setup: TrainingSetup,
    parts: TrainableParts,
    options: tuple[tuple[str, object], ...],
    before: DepthCost,
    calibrated: CalibratedBytes | None,
) -> Saving | None:
    changed = replace(setup, **dict(options))  # type: ignore[arg-type]  # names and values of _changes
    counted = calibrated if calibrated is not None and calibrated.precision == changed.precision else None
    cost = depth_cost(shape, changed, parts, counted)
    if before.bytes.total is None or cost.bytes.total is None or cost.bytes.total >= before.bytes.total:
        return None
    return Saving(
        options=options,
        setup=changed,
        cost=cost,
        saved_bytes=before.bytes.total - cost.bytes.total,
        flop_ratio=cost.flop / before.flop,
        same_result=all(name in _SAME_RESULT for name, _ in options),
    )
