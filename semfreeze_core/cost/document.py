"""Costs as they are written down, in a plan and in a cost table."""

from semfreeze_core.cost.flops import run_seconds
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.provenance import Document

UNKNOWN_ACTIVATIONS = "activation memory is unknown for this model family, so memory totals are null"


class StepFlopEntry(Document):
    """FLOPs of the first, uncached training step (a multiply-add is two)."""

    forward: int
    activation_gradient: int
    weight_gradient: int
    recompute: int
    total: int


class BytesEntry(Document):
    """Device memory in bytes, projected or calibrated; null where the layers' formula is not known."""

    weights: int
    gradients: int
    optimizer: int
    activations: int | None
    logits: int
    total: int | None


class CostEntry(Document):
    """The cost of one freeze depth under the plan's setup; `flop` and `seconds` are the whole run's."""

    freeze_depth: int
    flop: int
    step_flop: StepFlopEntry
    bytes: BytesEntry
    relative_flop: float
    relative_bytes: float | None
    seconds: float | None = None

    @classmethod
    def of(cls, cost: DepthCost, flop_per_second: float | None = None) -> "CostEntry":
        step, memory = cost.step_flop, cost.bytes
        return cls(
            freeze_depth=cost.freeze_depth,
            flop=cost.flop,
            step_flop=StepFlopEntry(
                forward=step.forward,
                activation_gradient=step.activation_gradient,
                weight_gradient=step.weight_gradient,
                recompute=step.recompute,
                total=step.total,
            ),
            bytes=BytesEntry(
                weights=memory.weights,
                gradients=memory.gradients,
                optimizer=memory.optimizer,
                activations=memory.activations,
                logits=memory.logits,
                total=memory.total,
            ),
            relative_flop=cost.relative_flop,
            relative_bytes=cost.relative_bytes,
            seconds=run_seconds(cost.flop, flop_per_second),
        )
