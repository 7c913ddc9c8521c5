"""From any non-decreasing story of progress through the layers to gain coverage R(k)."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

Floats = npt.NDArray[np.float64]

VARIANCE_FLOOR = 1e-8  # spaces that hardly vary would otherwise take all the weight
_NOTHING = 1e-6  # a total rise below this is no rise


def isotonic_fit(curve: Floats, variances: Floats, start: int) -> Floats:
    """Non-decreasing curve (S,) nearest to `curve` in inverse-variance weighted squares; NaN before `start`."""
    fitted = np.full(curve.shape, np.nan)
    weights = 1 / np.maximum(variances[start:], VARIANCE_FLOOR)
    fitted[start:] = isotonic_regression(curve[start:], weights=weights, increasing=True).x
    return fitted


def weighted_r_squared(curve: Floats, fitted: Floats, variances: Floats, start: int) -> float:
    """1 - residual / total weighted squares from `start` on; NaN when the curve is flat."""
    weights = 1 / np.maximum(variances[start:], VARIANCE_FLOOR)
    values = curve[start:]
    center = np.average(values, weights=weights)
    total = float((weights * (values - center) ** 2).sum())
    if total <= 0:
        return float("nan")
    return 1 - float((weights * (values - fitted[start:]) ** 2).sum()) / total


def gain_coverage(gains: npt.ArrayLike) -> Floats:
    """R(k) for k = 0..L: the share of all gain that lies in layers k..L-1.

    R(0) = 1, R(L) = 0, never rising. Unmeasured gains (NaN) count as none, so with a tied head R(0) = R(1) = 1. All
    NaN when the gains add up to no more than 1e-6: nothing is gained, so no share of it exists.

    Args:
        gains: one a layer, (L,), none negative.

    Raises:
        ValueError: a gain is negative.
    """
    values = np.nan_to_num(np.asarray(gains, dtype=np.float64), nan=0.0)
    if (values < 0).any():
        raise ValueError("gains must not be negative; fit an isotonic curve first")
    tail = np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])
    if tail[0] <= _NOTHING:
        return np.full(len(values) + 1, np.nan)
    coverage: Floats = tail / tail[0]  # not over values.sum(), which rounds otherwise: R(0) would miss 1
    return coverage


def curve_coverage(curve: Floats, variances: Floats, start: int) -> Floats:
    """R(k) of a curve of progress (S,): its isotonic fit's rises, through `gain_coverage`."""
    return gain_coverage(np.maximum(np.diff(isotonic_fit(curve, variances, start)), 0.0))
