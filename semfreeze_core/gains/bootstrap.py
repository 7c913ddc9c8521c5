"""Bootstrap over examples, never over tokens: tokens of one example are not independent."""

import numpy as np
import numpy.typing as npt

from semfreeze_core.records.gain import Band, Interval

REPLICATES = 1000
Floats = npt.NDArray[np.float64]


def resampling_weights(n: int, seed: int, replicates: int = REPLICATES) -> Floats:
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


def percentile_band(mean: Floats, replicates: Floats, level: float = 0.95) -> Band:
    """Two-sided percentile interval of `replicates` (B, m) around `mean` (m,); NaN where the mean is NaN."""
    tail = 100 * (1 - level) / 2
    low, high = np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    known = np.isfinite(mean)
    if known.any():
        low[known], high[known] = np.nanpercentile(replicates[:, known], [tail, 100 - tail], axis=0)
    return Band(mean, low, high)


def mean_band(matrix: npt.NDArray[np.floating], weights: Floats) -> Band:
    """Column means of `matrix` (n, m) with their 95 % interval; NaN where a column has no value at all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(matrix)
        mean = np.where(known, matrix, 0).sum(0, dtype=np.float64) / known.sum(0)
    return percentile_band(mean, replicate_means(matrix, weights))


def mean_interval(values: npt.NDArray[np.floating], weights: Floats) -> Interval:
    """Mean of `values` (n,) with its 95 % interval."""
    return mean_band(values[:, None], weights).at(0)
