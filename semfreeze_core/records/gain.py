"""What the layers gain: curves over latent spaces with their intervals, and the verdict on the evidence."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from semfreeze_core.records.interval import Interval as Interval

Vector = npt.NDArray[np.float64]
Verdict = Literal["evidence", "no evidence"]


@dataclass(frozen=True)
class Band:
    """An estimate with its interval, element by element; NaN where it is not measured.

    Attributes:
        mean: float64 (m,).
        low: lower bound, float64 (m,).
        high: upper bound, float64 (m,).
    """

    mean: Vector
    low: Vector
    high: Vector

    def __post_init__(self) -> None:
        if not self.mean.shape == self.low.shape == self.high.shape:
            raise ValueError(f"shapes differ: {self.mean.shape}, {self.low.shape}, {self.high.shape}")

    def at(self, index: int) -> Interval:
        return Interval(float(self.mean[index]), float(self.low[index]), float(self.high[index]))


@dataclass(frozen=True)
class Evidence:
    """Whether the reading shows that the layers do the task at all.

    Attributes:
        verdict: "evidence" or "no evidence".
        reasons: in words, with the numbers; never empty.
        advantage: rise of the advantage from space 1 to space L.
        task_null: deviation with swapped completions less that with the own ones, at space L; NaN when undefined.
        n_pairs: prompts behind `task_null`.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    advantage: Interval
    task_null: Interval
    n_pairs: int


@dataclass(frozen=True)
class ScalingLaw:
    """A broken power law through the advantage: a(s) = E, and from space t on E + B ((s/t)^c - 1). S = L + 1 spaces.

    Where no law fits, every number but `r_squared` is NaN and `reason` tells why.

    Attributes:
        floor: E, the advantage up to the turn.
        amplitude: its rise from there to space L.
        turn: t, the space where the rise begins, with its interval.
        exponent: c with its interval: below 0 the rise levels off, at 1 it is straight, above 1 ever steeper.
        r_squared: share of the advantage's variance over spaces that the law explains, unweighted.
        fitted: a(s), (S,); NaN before the curve's start.
        residuals: measured minus fitted, (S,).
        gain: rise of the law over each layer, (L,); NaN before the curve's start.
        coverage: R(k) by the law alone, (S,).
        coverage_replicates: R(k) of every bootstrap replicate, (B, S).
        turning_depth: the depth in 0..L up to which layers gain less than the average layer by the law.
        reason: why no law is drawn, or "".
    """

    floor: float
    amplitude: float
    turn: Interval
    exponent: Interval
    r_squared: float
    fitted: Vector
    residuals: Vector
    gain: Vector
    coverage: Band
    coverage_replicates: npt.NDArray[np.float64]
    turning_depth: Interval
    reason: str = ""


@dataclass(frozen=True)
class GainCurve:
    """Everything a decision is made from, for one metric. S = L + 1 latent spaces.

    Attributes:
        metric: "semantic" or "logit_z".
        n_examples: examples behind every mean; intervals are bootstraps over them.
        start: first space that is measured: 1 with a tied head (space 0 predicts its own input there), else 0.
        deviation: from the label, (S,).
        null: its label null, (S,).
        advantage: null - deviation, (S,).
        raw_gain: fall of the deviation over each layer, signed, (L,); the paper's gain.
        gain: rise of the advantage over each layer, signed, (L,); entry 0 is NaN with a tied head.
        isotonic: non-decreasing fit to the advantage, (S,); NaN before `start`.
        isotonic_r_squared: its weighted R^2.
        coverage: gain coverage R(k), share of the advantage's rise in layers k..L-1, (S,); NaN when nothing rises.
        coverage_replicates: R(k) of every bootstrap replicate, (B, S).
        raw_gain_replicates: raw gains of every replicate, (B, L).
        law: the scaling law through the advantage.
        evidence: the verdict.
    """

    metric: str
    n_examples: int
    start: int
    deviation: Band
    null: Band
    advantage: Band
    raw_gain: Band
    gain: Band
    isotonic: Vector
    isotonic_r_squared: float
    coverage: Band
    coverage_replicates: npt.NDArray[np.float64]
    raw_gain_replicates: npt.NDArray[np.float64]
    law: ScalingLaw
    evidence: Evidence

    def __post_init__(self) -> None:
        spaces = len(self.deviation.mean)
        for name, expected in (("gain", spaces - 1), ("raw_gain", spaces - 1), ("coverage", spaces)):
            if len(getattr(self, name).mean) != expected:
                raise ValueError(f"{name} has {len(getattr(self, name).mean)} entries, expected {expected}")

    @property
    def n_layers(self) -> int:
        return len(self.gain.mean)
