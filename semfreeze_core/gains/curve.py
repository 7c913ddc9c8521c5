"""From transition traces to a gain curve with intervals."""

from collections.abc import Sequence

import numpy as np

from semfreeze_core.gains.bootstrap import mean_band, percentile_band, replicate_means, resampling_weights
from semfreeze_core.gains.coverage import curve_coverage, isotonic_fit, weighted_r_squared
from semfreeze_core.gains.evidence import judge_evidence
from semfreeze_core.gains.scaling_law import fit_scaling_law
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.interval import Interval
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace


def gain_curve(trace: TransitionTrace, pairs: SwappedPairs, *, tied: bool, seed: int = 0) -> GainCurve:
    """Deviations to gains to gain coverage.

    The raw gain of layer i is d_i - d_{i+1} (the paper's). The gain used by default is a_{i+1} - a_i, from the
    advantage a = null - deviation (ours): what a layer does for the label beyond what it does for any label. R(k) comes
    from the isotonic fit to the advantage, refitted in every replicate with the same weights.

    With a tied head the curve starts at space 1: space 0 is the embedding of the input token, which the head reads as
    that token itself, so layer 0's gain says nothing.
    """
    start = 1 if tied else 0
    weights = resampling_weights(len(trace.deviation), seed)
    deviation, null, advantage = (mean_band(m, weights) for m in (trace.deviation, trace.null, trace.advantage))
    advantages = replicate_means(trace.advantage, weights)
    raw_gains = -np.diff(replicate_means(trace.deviation, weights), axis=1)
    variances = advantages.var(axis=0)
    isotonic = isotonic_fit(advantage.mean, variances, start)
    coverages = np.array([curve_coverage(replicate, variances, start) for replicate in advantages])
    gain = np.diff(advantage.mean)
    gain[:start] = np.nan
    return GainCurve(
        metric=trace.metric,
        n_examples=len(trace.deviation),
        start=start,
        deviation=deviation,
        null=null,
        advantage=advantage,
        raw_gain=percentile_band(-np.diff(deviation.mean), raw_gains),
        gain=percentile_band(gain, np.diff(advantages, axis=1)),
        isotonic=isotonic,
        isotonic_r_squared=weighted_r_squared(advantage.mean, isotonic, variances, start),
        coverage=percentile_band(curve_coverage(advantage.mean, variances, start), coverages),
        coverage_replicates=coverages,
        raw_gain_replicates=raw_gains,
        law=fit_scaling_law(advantage.mean, advantages, start),
        evidence=judge_evidence(trace, pairs, seed),
    )


def coverage_of_layers(curve: GainCurve, layers: Sequence[int]) -> Interval:
    """The share of all gain that lies in a set of layers, sum of R(i) - R(i + 1); R(k) where they are the last ones.

    Ours; its interval is of the same replicates as R(k)'s.
    """
    chosen = np.asarray(layers)
    shares = -np.diff(np.vstack([curve.coverage.mean, curve.coverage_replicates]), axis=1)[:, chosen].sum(1)
    return percentile_band(shares[:1], shares[1:, None]).at(0)
