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
    if score.replicates is None:
        unknown = np.full(mean.shape, np.nan)
        return Band(mean, unknown, unknown)
    return percentile_band(mean, replicate_coverage(score.replicates))


def replicate_coverage(replicates: Floats) -> Floats:
    """R(k) of every replicate, (B, L) to (B, L + 1)."""
    return np.array([_share(values) for values in replicates])


def _share(values: Floats) -> Floats:
    # Scores have units of their own, and the least total that `gain_coverage` accepts is that of an advantage.
    largest = values.max()
    return gain_coverage(values / largest if largest > 0 else values)
