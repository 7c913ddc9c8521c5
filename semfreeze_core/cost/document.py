"""Costs as they are written down, in a plan and in a cost table."""

from typing import Annotated

from pydantic import Field

from semfreeze_core.cost.flops import run_seconds
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.provenance import Document

Count = Annotated[int, Field(ge=0)]
UNKNOWN_ACTIVATIONS = "activation memory is unknown for this model family, so memory totals are null"


class StepFlopEntry(Document):
    """FLOPs of the first, uncached training step (a multiply-add is two)."""

    forward: Count
    activation_gradient: Count
    weight_gradient: Count
    recompute: Count
    total: Count


class BytesEntry(Document):
    """Device memory in bytes, projected or calibrated; null where the layers' formula is not known."""

    weights: Count
    gradients: Count
    optimizer: Count
    activations: Count | None
    logits: Count
    total: Count | None


class CostEntry(Document):
    """The cost of one freeze depth under the plan's setup; `flop` and `seconds` are the whole run's."""

    freeze_depth: Count
    flop: Count
    step_flop: StepFlopEntry
    bytes: BytesEntry
    relative_flop: Annotated[float, Field(ge=0)]
    relative_bytes: Annotated[float, Field(ge=0)] | None
    seconds: Annotated[float, Field(ge=0)] | None = None

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
