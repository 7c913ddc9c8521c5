"""Losses on their way: whether they rose again after their lowest reading, and what stopping there would have given."""

import numpy as np
from scipy import stats

from semfreeze_core.gains.bootstrap import tail_fraction
from semfreeze_core.gains.noninferiority import Floats
from semfreeze_core.records.gain import Interval


def rise(readings: Floats) -> tuple[int, Interval]:
    """The lowest reading, and by how much the last one lies above it, paired over items.

    The lowest was looked for among n - 1 readings that might have been it by chance: the t interval's level is
    1 - (1 - CONFIDENCE) / (n - 1) (Bonferroni), so that a loss that only goes up and down is seldom said to rise.

    Args:
        readings: losses in the order they were read, (n_readings, n_items), nats; two items or more.

    Returns:
        Its place, and the rise; 0 exactly where the last reading is the lowest.
    """
    lowest = int(readings.mean(axis=1).argmin())
    apart = readings[-1] - readings[lowest]
    middle, error = float(apart.mean()), float(stats.sem(apart))
    if lowest == len(readings) - 1 or not error > 0:
        return lowest, Interval(middle, middle, middle)
    low, high = stats.t.interval(1 - tail_fraction(sides=1) / (len(readings) - 1), len(apart) - 1, middle, error)
    return lowest, Interval(middle, float(low), float(high))


def stopped(readings: Floats) -> Floats:
    """What a run that is stopped at its lowest reading gives on items that did not choose it, (n_items,).

    Items are halved by turns: each half is read where the other half's mean is lowest, so that no item's luck counts
    for itself.

    Args:
        readings: as in `rise`, of one run; an item or more in each half.
    """
    first = np.arange(readings.shape[1]) % 2 == 0
    chosen = np.empty(readings.shape[1])
    for half in (first, ~first):
        chosen[half] = readings[readings[:, ~half].mean(axis=1).argmin()][half]
    return chosen
