"""Bootstrap over examples, never over tokens: tokens of one example are not independent."""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from semfreeze_core.records import defaults
from semfreeze_core.records.gain import Band, Interval

Floats = npt.NDArray[np.float64]


def tail_fraction(sides: int = 2) -> float:
    """Probability beyond each end of an interval at `CONFIDENCE`, (1 - CONFIDENCE) / sides, in (0, 1).

    Rounded to 12 digits: 1 - 0.95 is 0.050000000000000044, and a percentile of that would not be the 2.5th.

    Args:
        sides: 2 for an interval, 1 for a one-sided test.
    """
    return round((1 - defaults.CONFIDENCE) / sides, 12)


def end_percentiles(sides: int = 2) -> tuple[float, float]:
    """Percentiles of bootstrap replicates at which such an interval ends; 2.5 and 97.5 at a confidence of 0.95."""
    tail = round(100 * tail_fraction(sides), 10)
    return tail, 100 - tail


def normal_quantile() -> float:
    """Half width of a two-sided interval at `CONFIDENCE` in standard errors, to two digits; 1.96 at 0.95."""
    return round(NormalDist().inv_cdf(1 - tail_fraction()), 2)


def resampling_weights(n: int, seed: int, replicates: int = defaults.BOOTSTRAP_REPLICATES) -> Floats:
    """Share of each example in each bootstrap replicate, float64 (replicates, n), rows summing to 1.

    Drawing n of n with replacement is a multinomial draw of counts; as weights it turns every replicate's mean into
    one matrix product, and one draw used for several curves keeps them paired.
    """
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=replicates) / n


def replicate_means(matrix: npt.NDArray[np.floating], weights: Floats) -> Floats:
    """Means of the rows of `matrix` (n, m) in every replicate, (replicates, m). NaN rows are left out by column."""
    values = matrix.astype(np.float64)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = (weights @ np.where(known, values, 0.0)) / (weights @ known.astype(np.float64))
    return means


def percentile_band(mean: Floats, replicates: Floats) -> Band:
    """Two-sided percentile interval at `CONFIDENCE` of `replicates` (B, m) around `mean` (m,); NaN where that is."""
    low, high = np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    known = np.isfinite(mean)
    if known.any():
        low[known], high[known] = np.nanpercentile(replicates[:, known], end_percentiles(), axis=0)
    return Band(mean, low, high)


def mean_band(matrix: npt.NDArray[np.floating], weights: Floats) -> Band:
    """Column means of `matrix` (n, m) with their interval; NaN where a column has no value at all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(matrix)
        mean = np.where(known, matrix, 0).sum(0, dtype=np.float64) / known.sum(0)
    return percentile_band(mean, replicate_means(matrix, weights))


def mean_interval(values: npt.NDArray[np.floating], weights: Floats) -> Interval:
    """Mean of `values` (n,) with its interval."""
    return mean_band(values[:, None], weights).at(0)
