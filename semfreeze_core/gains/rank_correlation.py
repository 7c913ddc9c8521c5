"""How far two quantities order the examples alike."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from semfreeze_core.gains.bootstrap import Floats, percentile_band
from semfreeze_core.records.interval import Interval


def rank_correlation(a: npt.NDArray[np.number], b: npt.NDArray[np.number], weights: Floats) -> Interval:
    """Spearman's correlation of `a` and `b` (n,), in -1..1, with its interval; NaN where one of them is constant.

    Ties share their mean rank. Replicates weigh the ranks of all examples and do not rank anew.

    Args:
        a, b: a value per example, (n,).
        weights: of `resampling_weights`, (B, n).
    """
    x, y = (ranks - ranks.mean() for ranks in (rankdata(a), rankdata(b)))
    shares = np.vstack([np.full((1, len(x)), 1 / len(x)), weights])
    mean_x, mean_y = shares @ x, shares @ y
    variances = (shares @ x**2 - mean_x**2) * (shares @ y**2 - mean_y**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        # A constant's variance is zero but for rounding, which would make a correlation of it.
        known = variances > 1e-12 * max(1.0, float(variances.max()))
        correlations = np.where(known, (shares @ (x * y) - mean_x * mean_y) / np.sqrt(variances), np.nan)
    return percentile_band(correlations[:1], correlations[1:, None]).at(0)
