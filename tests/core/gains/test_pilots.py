"""Pilots: who stays, who wins, and how sure that is, on losses made by hand."""

import numpy as np
import pytest
from scipy import stats

from semfreeze_core.gains.pilots import choose, differ, items_to_tell, stay, words

ITEMS = 40
BEFORE = np.full(ITEMS, 4.0) + np.linspace(-1, 1, ITEMS)
WAVE = np.tile([0.1, -0.1], ITEMS // 2)


def after(gain, noise=0.0):
    """Item losses that fell by `gain` on the average."""
    return BEFORE - gain + noise * WAVE


LOSSES = {0: after(2.0), 7: after(2.1), 15: after(1.95), 22: after(1.5)}


def test_difference_is_the_paired_mean_with_its_t_interval():
    found = differ(after(1.0, 1), after(1.2))
    expected = stats.ttest_rel(after(1.0, 1), after(1.2)).confidence_interval(0.95)
    assert found.estimate == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert differ(BEFORE, BEFORE).low == differ(BEFORE, BEFORE).high == 0


@pytest.mark.parametrize(("n", "left"), [(4, [0, 7, 15, 22]), (3, [0, 7, 15]), (2, [0, 7]), (1, [7])])
def test_the_lowest_losses_stay(n, left):
    assert stay(BEFORE, LOSSES, "compute", 0.05, n) == left
    assert stay(BEFORE, LOSSES, "steps", 0.05, n) == left


@pytest.mark.parametrize(
    ("margin", "n", "left"),
    [(0.05, 3, [0, 7, 15]), (0.05, 2, [0, 15]), (0.05, 1, [15]), (0.3, 2, [0, 22]), (0.3, 1, [22]), (0.01, 1, [7])],
)
def test_the_cheapest_within_the_margin_stays_beside_full(margin, n, left):
    assert stay(BEFORE, LOSSES, "cheapest", margin, n) == left


def test_the_proposed_depth_stays_until_another_is_better_for_sure():
    close = {7: after(2.0, 1), 15: after(2.01), 22: after(1.5)}  # 15 is ahead of 7 by less than the noise
    assert choose(BEFORE, close, "compute", 0.05) == 15
    assert choose(BEFORE, close, "compute", 0.05, proposed=7) == 7
    assert choose(BEFORE, close, "compute", 0.05, proposed=22) == 15
    assert choose(BEFORE, close, "compute", 0.05, proposed=19) == 15
    assert stay(BEFORE, close, "steps", 0.05, 2, proposed=7) == [7, 15]
    told = words(BEFORE, close, "compute", 0.05, 7, proposed=7, proposed_by="reading")[0]
    assert "what the reading proposed, and no pilot was significantly better" in told
    told = words(BEFORE, close, "compute", 0.05, 7, proposed=7, proposed_by="sweeps")[0]
    assert "It is two thirds of the layers, close to what the reading proposed" in told


def test_full_finetuning_wins_where_nothing_is_within_the_margin():
    assert choose(BEFORE, {0: after(2.0), 15: after(1.0)}, "cheapest", 0.05) == 0


def test_items_needed_make_the_interval_leave_zero():
    one, other = after(1.0, 1), after(1.01)
    needed = items_to_tell(one, other)
    apart = one - other
    assert 1.96 * apart.std(ddof=1) / np.sqrt(needed) <= apart.mean()
    assert 1.96 * apart.std(ddof=1) / np.sqrt(needed - 1) > apart.mean()
    assert items_to_tell(BEFORE, BEFORE) is None


def test_words_say_how_far_ahead_the_winner_is():
    told = words(BEFORE, LOSSES, "compute", 0.05, 7)
    assert told == [
        "7 ended the last round at 1.900 nats per example at the same compute, 0.100 (95% CI 0.100–0.100) below "
        "0 (40 eval examples, one seed)."
    ]
    close = {15: after(2.0, 1), 22: after(2.01)}
    first, second = words(BEFORE, close, "steps", 0.05, 22)
    assert "at the same steps" in first
    assert "may be as good as each other" in second
    assert f"About {items_to_tell(close[15], close[22])} eval examples" in second


def test_words_say_what_the_cheapest_keeps():
    (told,) = words(BEFORE, LOSSES, "cheapest", 0.05, 15)
    assert "15 is the deepest that keeps 95% of full finetuning's loss reduction" in told
    assert "98% of it" in told


def test_words_say_that_nothing_improved():
    (told,) = words(BEFORE, {7: after(0.0, 1), 15: after(0.001, 1)}, "compute", 0.05, 15)
    assert "No pilot reduced the loss significantly" in told
