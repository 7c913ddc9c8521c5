"""What a freeze depth costs against the best one measured."""

import numpy as np

from semfreeze_core.gains.bootstrap import end_percentiles
from semfreeze_core.gains.noninferiority import Draws, Floats, improvement_replicates
from semfreeze_core.records.gain import Interval


def regret(before: Floats, best: Floats, chosen: Floats, draws: Draws) -> Interval:
    """(I_best - I_chosen) / I_best with its two-sided interval at `CONFIDENCE`, paired over seeds and items.

    NaN when the best one's improvement includes 0: then there is nothing to lose.

    Args:
        before: each item's loss before training, (n_items,), nats.
        best: after training at the best depth, (n_seeds, n_items).
        chosen: at the chosen one, same shape.
        draws: of the same numbers of seeds and items.
    """
    return _difference(before, best, chosen, best, draws)


def regret_beyond(before: Floats, best: Floats, chosen: Floats, other: Floats, draws: Draws) -> Interval:
    """(I_other - I_chosen) / I_best: the chosen depth's regret minus another's; below 0 the chosen one is better."""
    return _difference(before, other, chosen, best, draws)


def _difference(before: Floats, more: Floats, less: Floats, best: Floats, draws: Draws) -> Interval:
    whole = improvement_replicates(before, best, draws)
    if np.percentile(whole, end_percentiles()[0]) <= 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    apart = improvement_replicates(before, less, draws)
    shares = (improvement_replicates(before, more, draws) - apart) / whole
    low, high = np.percentile(shares, end_percentiles())
    estimate = float((less.mean() - more.mean()) / (before - best).mean())
    return Interval(estimate, float(low), float(high))
