"""Eval losses during training: whether they rose after their minimum, and what stopping there would have given."""

import numpy as np
from scipy import stats

from semfreeze_core.gains.bootstrap import tail_fraction
from semfreeze_core.gains.noninferiority import Floats
from semfreeze_core.records.gain import Interval


def rise(readings: Floats) -> tuple[int, Interval]:
    """The lowest evaluation, and how far the last one lies above it, paired over items.

    The minimum was searched among n - 1 evaluations that might have been it by chance: the t interval's level is
    1 - (1 - CONFIDENCE) / (n - 1) (Bonferroni), so that a loss that only fluctuates is seldom reported to rise.

    Args:
        readings: losses in the order of their evaluation, (n_readings, n_items), nats; two items or more.

    Returns:
        Its index, and the rise; 0 exactly where the last evaluation is the lowest.
    """
    lowest = int(readings.mean(axis=1).argmin())
    apart = readings[-1] - readings[lowest]
    middle, error = float(apart.mean()), float(stats.sem(apart))
    if lowest == len(readings) - 1 or not error > 0:
        return lowest, Interval(middle, middle, middle)
    low, high = stats.t.interval(1 - tail_fraction(sides=1) / (len(readings) - 1), len(apart) - 1, middle, error)
    return lowest, Interval(middle, float(low), float(high))


def stopped(readings: Floats) -> Floats:
    """Losses of a run that is stopped at its minimum, on items that did not choose it, (n_items,).

    Items are halved alternately: each half is evaluated where the other half's mean is lowest, so that no item's luck
    counts for itself.

    Args:
        readings: as in `rise`, of one run; an item or more in each half.
    """
    first = np.arange(readings.shape[1]) % 2 == 0
    chosen = np.empty(readings.shape[1])
    for half in (first, ~first):
        chosen[half] = readings[readings[:, ~half].mean(axis=1).argmin()][half]
    return chosen
