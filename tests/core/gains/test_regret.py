"""Regret by hand, its identities, and that it is paired."""

import numpy as np
import pytest

from semfreeze_core.gains.noninferiority import draw
from semfreeze_core.gains.regret import regret, regret_beyond

BEFORE = np.linspace(2.0, 4.0, 30)
NOISE = np.random.default_rng(0).normal(0, 0.3, (3, 30))
DRAWS = draw(3, 30)


def after(gain):
    """Losses that fell by so much, with the noise that all depths share."""
    return BEFORE - gain + NOISE


def test_regret_is_the_share_of_the_bests_gain_that_is_lost():
    best, chosen = after(1.0) - NOISE, after(0.8) - NOISE
    assert regret(BEFORE, best, chosen, DRAWS).estimate == pytest.approx(0.2)


def test_regret_of_the_best_is_nothing():
    interval = regret(BEFORE, after(1.0), after(1.0), DRAWS)
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


def test_regret_is_paired_so_shared_noise_cancels():
    interval = regret(BEFORE, after(1.0), after(0.8), DRAWS)
    assert interval.high - interval.low < 0.1
    alone = np.random.default_rng(1).normal(0, 0.3, (3, 30))
    unpaired = regret(BEFORE, after(1.0), BEFORE - 0.8 + alone, DRAWS)
    assert unpaired.high - unpaired.low > 2 * (interval.high - interval.low)


def test_regret_beyond_is_the_difference_of_two_regrets():
    best, chosen, half = after(1.0), after(0.9), after(0.7)
    apart = regret(BEFORE, best, chosen, DRAWS).estimate - regret(BEFORE, best, half, DRAWS).estimate
    assert regret_beyond(BEFORE, best, chosen, half, DRAWS).estimate == pytest.approx(apart)
    assert regret_beyond(BEFORE, best, chosen, half, DRAWS).high < 0


def test_there_is_no_regret_where_nothing_was_gained():
    assert np.isnan(regret(BEFORE, after(0.0), after(-0.1), DRAWS).estimate)
