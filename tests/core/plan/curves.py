"""Gain curves written down by hand, for rules."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from semfreeze_core.gains import fit_scaling_law
from semfreeze_core.records.gain import Band, Evidence, GainCurve, Interval, Verdict

NO_EVIDENCE = "Swapping completions makes no significant difference."


def make_curve(
    coverage: npt.ArrayLike,
    raw_gain: Sequence[float] | None = None,
    *,
    replicates: npt.ArrayLike | None = None,
    raw_gain_replicates: npt.ArrayLike | None = None,
    start: int = 0,
    r_squared: float = 0.99,
    verdict: Verdict = "evidence",
) -> GainCurve:
    """A curve with this R(k) (L + 1 values), the same in 100 replicates unless they are given."""
    covered = np.asarray(coverage, dtype=np.float64)
    gains = -np.diff(covered) if raw_gain is None else np.asarray(raw_gain, dtype=np.float64)
    states = np.linspace(1.0, 0.5, len(covered))
    drawn = np.tile(covered, (100, 1)) if replicates is None else np.asarray(replicates, np.float64)

    def certain(values: npt.NDArray[np.float64]) -> Band:
        return Band(values, values - 0.01, values + 0.01)

    return GainCurve(
        metric="semantic",
        n_examples=64,
        start=start,
        deviation=certain(states),
        null=certain(np.ones_like(states)),
        advantage=certain(1 - states),
        raw_gain=certain(gains),
        gain=certain(gains),
        isotonic=1 - states,
        isotonic_r_squared=r_squared,
        coverage=certain(covered),
        coverage_replicates=drawn,
        raw_gain_replicates=(
            np.tile(gains, (100, 1)) if raw_gain_replicates is None else np.asarray(raw_gain_replicates, np.float64)
        ),
        law=fit_scaling_law(1 - covered, 1 - drawn, start),
        evidence=Evidence(
            verdict=verdict,
            reasons=("The advantage rises.",) if verdict == "evidence" else (NO_EVIDENCE,),
            advantage=Interval(0.1, 0.09, 0.11),
            task_null=Interval(0.1, 0.09, 0.11),
            n_pairs=32,
        ),
    )


def last_layer_alone(n_layers: int) -> npt.NDArray[np.float64]:
    """R(k) when all gain lies in the last layer: 1 up to k = L - 1."""
    return np.append(np.ones(n_layers), 0.0)


def straight(n_layers: int) -> npt.NDArray[np.float64]:
    """R(k) when every layer gains the same: (L - k)/L."""
    return (n_layers - np.arange(n_layers + 1)) / n_layers
