"""Prices of freeze depths written down by hand, for rules that go by them."""

from collections.abc import Sequence

from semfreeze_core.records.cost import DepthCost, StepFlop, TrainingBytes


def make_prices(relative_flop: Sequence[float], gib: Sequence[float | None] | None = None) -> tuple[DepthCost, ...]:
    """One price for each depth: c(k), and memory in GiB, None where it is unknown (all activations)."""
    memory = [10.0] * len(relative_flop) if gib is None else gib
    return tuple(
        DepthCost(
            freeze_depth=k,
            step_flop=StepFlop(round(1e9 * c), 0, 0),
            flop=round(1e12 * c),
            bytes=TrainingBytes(
                weights=0, gradients=0, optimizer=0, activations=None if m is None else round(m * 2**30), logits=0
            ),
            relative_flop=c,
            relative_bytes=None if m is None or memory[0] is None else m / memory[0],
        )
        for k, (c, m) in enumerate(zip(relative_flop, memory, strict=True))
    )


def falling(n_layers: int) -> list[float]:
    """c(k) that falls by a straight line from 1 at k = 0 to a third at k = L: only the forward pass is left."""
    return [1 - 2 / 3 * k / n_layers for k in range(n_layers + 1)]
