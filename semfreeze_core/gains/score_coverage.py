"""From any layer score to coverage, so that scores and gains have one measure."""

import numpy as np

from semfreeze_core.gains.bootstrap import percentile_band
from semfreeze_core.gains.coverage import Floats, gain_coverage
from semfreeze_core.records.gain import Band
from semfreeze_core.records.scores import LayerScore


def score_coverage(score: LayerScore) -> Band:
    """R(k) for k = 0..L: the share of a score that lies in layers k..L-1, through `gain_coverage`.

    Layer 0 counts with a tied head too: no score reads states through the head. NaN throughout where the score is not
    measured or is 0 in every layer; low and high are NaN where it has no replicates.
    """
    mean = _share(score.values)
    replicates = replicate_coverage(score)
    if replicates is None:
        unknown = np.full(mean.shape, np.nan)
        return Band(mean, unknown, unknown)
    return percentile_band(mean, replicates)


def replicate_coverage(score: LayerScore) -> Floats | None:
    """R(k) of every bootstrap replicate of a score, (B, L + 1), its bias removed; None where there are none.

    A replicate draws some examples twice, so that classes look narrower and their means farther apart. Variability then
    comes out smaller, by a factor that differs between layers, and shares of it shift: intervals missed the estimate.
    Each layer's replicates are therefore scaled so that their mean is the estimate. A mean over examples has no such
    bias and hardly changes.
    """
    if score.replicates is None:
        return None
    means = score.replicates.mean(0)
    scale = np.divide(score.values, means, out=np.ones_like(means), where=(means > 0) & (score.values > 0))
    return np.array([_share(values) for values in score.replicates * scale])


def _share(values: Floats) -> Floats:
    # Scores have units of their own, and the least total that `gain_coverage` accepts is that of an advantage.
    largest = values.max()
    return gain_coverage(values / largest if largest > 0 else values)
