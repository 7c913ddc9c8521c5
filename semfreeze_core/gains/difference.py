"""Two runs' curves compared on relative depth, and where they differ significantly."""

from dataclasses import dataclass

import numpy as np

from semfreeze_core.gains.bootstrap import Floats
from semfreeze_core.records import defaults
from semfreeze_core.records.gain import Band, Vector


@dataclass(frozen=True)
class Difference:
    """One curve minus another.

    Attributes:
        depth: relative depths, 0 the input side and 1 the output side, (m,).
        band: the difference with an interval at `CONFIDENCE` that holds at all depths at once, (m,).
        paired: whether both read the same examples, so that what these have in common cancels.
    """

    depth: Vector
    band: Band
    paired: bool

    @property
    def surely(self) -> list[tuple[float, float]]:
        """Stretches of relative depth in which the interval leaves 0, as (from, to)."""
        beyond = (self.band.low > 0) | (self.band.high < 0)
        stretches: list[tuple[float, float]] = []
        for at, (here, before) in enumerate(zip(beyond, np.append(False, beyond[:-1]), strict=True)):
            if here:
                start = stretches.pop()[0] if before else float(self.depth[at])
                stretches.append((start, float(self.depth[at])))
        return stretches

    @property
    def largest(self) -> int | None:
        """Where the difference is largest; None where there is none at all."""
        return None if np.isnan(self.band.mean).all() else int(np.nanargmax(np.abs(self.band.mean)))


def relative_depths(n_spaces: int) -> Vector:
    """Where each latent space lies between the input side, 0, and the output side, 1: s/L, (S,)."""
    return np.linspace(0.0, 1.0, n_spaces)


def difference(
    one: Vector, other: Vector, one_replicates: Floats, other_replicates: Floats, *, paired: bool
) -> Difference:
    """One minus other at the relative depths of the one with more layers, the other interpolated between its own.

    The interval is simultaneous: the largest standardised deviation of a bootstrap replicate over all depths gives its
    width (max-t), so that for equal curves it contains 0 at all depths together with a probability of
    `CONFIDENCE`, not at each depth.

    Args:
        one: estimates, (S1,); NaN where not measured.
        other: likewise, (S2,).
        one_replicates: of the bootstrap, (B, S1); those in which nothing is measured, as nothing rises, are left out.
        other_replicates: (B, S2); row by row from the same draw of examples where paired.
        paired: whether both rest on the same examples.
    """
    depth = relative_depths(max(len(one), len(other)))
    mean = _at(depth, one[None])[0] - _at(depth, other[None])[0]
    drawn = _at(depth, one_replicates) - _at(depth, other_replicates)
    drawn = drawn[np.isfinite(drawn[:, np.isfinite(mean)]).all(axis=1)]
    known = np.isfinite(mean) & (len(drawn) > 0)
    low, high = np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    if known.any():
        spread = drawn[:, known].std(axis=0)
        varies = spread > 1e-12  # R(0) is 1 in every replicate
        half = np.zeros(spread.shape)
        if varies.any():
            apart = np.abs(drawn[:, known] - mean[known])[:, varies] / spread[varies]
            half[varies] = np.quantile(apart.max(axis=1), defaults.CONFIDENCE) * spread[varies]
        low[known], high[known] = mean[known] - half, mean[known] + half
    return Difference(depth, Band(np.where(known, mean, np.nan), low, high), paired)


def _at(depth: Vector, rows: Floats) -> Floats:
    """Each row's values at relative depths; NaN where a neighbor is not measured."""
    depths = relative_depths(rows.shape[1])
    above = np.clip(np.searchsorted(depths, depth - 1e-12), 0, len(depths) - 1)
    below = np.maximum(above - (depths[above] > depth + 1e-12), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(above == below, 0.0, (depth - depths[below]) / (depths[above] - depths[below]))
    between: Floats = np.where(part == 0, rows[:, below], (1 - part) * rows[:, below] + part * rows[:, above])
    return between
