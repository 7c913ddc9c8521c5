"""Transition traces with a known story of progress, for curves and the evidence."""

from collections.abc import Sequence

import numpy as np

from semfreeze_core.records.trace import SwappedPairs, TransitionTrace


def make_trace(
    advantage: Sequence[float], *, n: int = 64, noise: float = 0.01, seed: int = 0, null: Sequence[float] | None = None
) -> TransitionTrace:
    """A trace whose mean advantage at each space is `advantage`, with normal noise over examples and spaces.

    The label null falls by itself (0.1 over all spaces) unless given, as on real tasks.
    """
    rng, wanted = np.random.default_rng(seed), np.asarray(advantage, dtype=np.float64)
    base = np.linspace(1.0, 0.9, len(wanted)) if null is None else np.asarray(null)
    nulls = base + rng.normal(0, 0.01, (n, len(wanted)))
    deviations = nulls - wanted - rng.normal(0, noise, (n, len(wanted)))
    matrices = [m.astype(np.float32) for m in (deviations, nulls)]
    return TransitionTrace("semantic", *matrices, *matrices, *matrices)


def make_pairs(difference: float, *, spaces: int, n: int = 32, noise: float = 0.01, seed: int = 1) -> SwappedPairs:
    """Pairs whose swapped completions deviate by `difference` more at the last space, and by as little before."""
    rng = np.random.default_rng(seed)
    matched = rng.normal(0.8, 0.1, (n, spaces))
    swapped = matched + rng.normal(0, noise, (n, spaces))
    swapped[:, -1] += difference
    return SwappedPairs("semantic", matched.astype(np.float32), swapped.astype(np.float32))


def no_pairs(spaces: int, reason: str = "only 0 of 64 examples have a prompt") -> SwappedPairs:
    empty = np.empty((0, spaces), dtype=np.float32)
    return SwappedPairs("semantic", empty, empty, reason)
