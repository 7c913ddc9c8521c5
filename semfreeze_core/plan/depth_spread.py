"""The depth that the paper's rule picks for each example by itself, and whether one depth fits them all."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from semfreeze_core.gains.bootstrap import resampling_weights
from semfreeze_core.gains.rank_correlation import rank_correlation
from semfreeze_core.plan.abstention import pick_range, widest_range
from semfreeze_core.plan.rules import Depths, depth_cap, largest_fall
from semfreeze_core.records.defaults import MIN_SLICE
from semfreeze_core.records.interval import Interval
from semfreeze_core.records.run import Run
from semfreeze_core.records.trace import Matrix

SpreadVerdict = Literal["one depth fits", "examples differ", "unclear"]


@dataclass(frozen=True)
class DepthSpread:
    """Each example's depth by the paper's rule, and what their spread rests on.

    Attributes:
        metric: deviation they come from.
        n_layers: L.
        depths: each example's pick, int64 (n,), in the order of the run's examples.
        low, high: PICK_PERCENTILES of the picks.
        repeatability: rank correlation of the picks that the same examples make at their first target token and at
            their later ones; NaN where it cannot be measured.
        n_pairs: examples behind it, those with more than one target token.
    """

    metric: str
    n_layers: int
    depths: Depths
    low: int
    high: int
    repeatability: Interval
    n_pairs: int

    @property
    def counts(self) -> Depths:
        """Examples that pick each depth 0..L, (L + 1,)."""
        return np.bincount(self.depths, minlength=self.n_layers + 1).astype(np.int64)

    @property
    def share(self) -> float:
        """Share of the examples that pick `low` to `high`, in 0..1."""
        return float(((self.depths >= self.low) & (self.depths <= self.high)).mean())

    @property
    def verdict(self) -> SpreadVerdict:
        """Whether one depth fits; ours.

        It does where picks lie as close together as a rule's own depth over replicates may. Where they lie farther
        apart, examples differ only if an example picks alike at different tokens of its own, more than others do:
        deviations are noisy at single tokens, and noise alone spreads picks, too.
        """
        if self.high - self.low <= widest_range(self.n_layers):
            return "one depth fits"
        return "examples differ" if self.repeatability.low > 0 else "unclear"


def pick_depths(deviation: Matrix, start: int) -> Depths:
    """The paper's pick of every row of deviations (n, L + 1), int64 (n,), each in start + 1..`depth_cap`.

    Args:
        deviation: of each example at each space.
        start: first space that is measured: 1 with a tied head, else 0; less than the cap.
    """
    return largest_fall(-np.diff(deviation.astype(np.float64), axis=1), start)


def depth_spread(run: Run, metric: str) -> DepthSpread | None:
    """Each example's pick; None where the cap leaves no layer to search.

    Args:
        run: a finished analysis.
        metric: one that the run has.
    """
    trace, start, n_layers = run.traces[metric], int(run.shape.tied), run.shape.n_layers
    if start >= depth_cap(n_layers):
        return None
    depths = pick_depths(trace.deviation, start)
    several = np.isfinite(trace.later_deviation[:, 0])
    repeatability, n_pairs = Interval(np.nan, np.nan, np.nan), int(several.sum())
    if n_pairs >= MIN_SLICE:
        first, later = (pick_depths(d[several], start) for d in (trace.first_deviation, trace.later_deviation))
        repeatability = rank_correlation(first, later, resampling_weights(n_pairs, run.manifest.settings.seed))
    low, high = pick_range(depths)
    return DepthSpread(metric, n_layers, depths, low, high, repeatability, n_pairs)
