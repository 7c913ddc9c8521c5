"""From FLOP to seconds, at a rate that was given or measured; without one the seconds are not known."""

from semfreeze_core.cost.flops import FLOP_PER_WEIGHT
from semfreeze_core.records.model import ModelShape


def forward_rate(shape: ModelShape, tokens: int, seconds: float) -> float:
    """FLOP a second of a forward pass that was timed: 2 W tokens / seconds over all layers' matrices.

    Attention, the head and what the reading does besides are left out, so the device's own rate is somewhat higher.
    """
    return FLOP_PER_WEIGHT * tokens * sum(layer.linear_weights for layer in shape.layers) / seconds


def run_seconds(flop: int, flop_per_second: float | None) -> float | None:
    """Seconds of a run at a rate, or None without one. Assumes that forward and backward pass reach the same rate."""
    return None if flop_per_second is None else flop / flop_per_second
