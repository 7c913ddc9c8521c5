"""Pilots: who stays, who wins, and how sure that is, on losses made by hand."""

import numpy as np
import pytest
from scipy import stats

from semfreeze_core.gains.pilots import choose, decision_reasons, examples_needed, paired_difference, remaining_depths

ITEMS = 40
BEFORE = np.full(ITEMS, 4.0) + np.linspace(-1, 1, ITEMS)
WAVE = np.tile([0.1, -0.1], ITEMS // 2)


def after(gain, noise=0.0):
    """Item losses that fell by `gain` on the average."""
    return BEFORE - gain + noise * WAVE


LOSSES = {0: after(2.0), 7: after(2.1), 15: after(1.95), 22: after(1.5)}


def test_difference_is_the_paired_mean_with_its_t_interval():
    interval = paired_difference(after(1.0, 1), after(1.2))
    expected = stats.ttest_rel(after(1.0, 1), after(1.2)).confidence_interval(0.95)
    assert interval.estimate == pytest.approx(0.2)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert paired_difference(BEFORE, BEFORE).low == paired_difference(BEFORE, BEFORE).high == 0


@pytest.mark.parametrize(("n", "left"), [(4, [0, 7, 15, 22]), (3, [0, 7, 15]), (2, [0, 7]), (1, [7])])
def test_the_lowest_losses_stay(n, left):
    assert remaining_depths(BEFORE, LOSSES, "compute", 0.05, n) == left
    assert remaining_depths(BEFORE, LOSSES, "steps", 0.05, n) == left


@pytest.mark.parametrize(
    ("margin", "n", "left"),
    [(0.05, 3, [0, 7, 15]), (0.05, 2, [0, 15]), (0.05, 1, [15]), (0.3, 2, [0, 22]), (0.3, 1, [22]), (0.01, 1, [7])],
)
def test_the_cheapest_within_the_margin_stays_beside_full(margin, n, left):
    assert remaining_depths(BEFORE, LOSSES, "cheapest", margin, n) == left


def test_the_proposed_depth_stays_until_another_is_better_for_sure():
    close = {7: after(2.0, 1), 15: after(2.01), 22: after(1.5)}  # 15 is ahead of 7 by less than the noise
    assert choose(BEFORE, close, "compute", 0.05) == 15
    assert choose(BEFORE, close, "compute", 0.05, proposed=7) == 7
    assert choose(BEFORE, close, "compute", 0.05, proposed=22) == 15
    assert choose(BEFORE, close, "compute", 0.05, proposed=19) == 15
    assert remaining_depths(BEFORE, close, "steps", 0.05, 2, proposed=7) == [7, 15]
    reason = decision_reasons(BEFORE, close, "compute", 0.05, 7, proposed=7, proposed_by="reading")[0]
    assert "the depth that the analysis recommends, and no pilot was significantly better" in reason
    reason = decision_reasons(BEFORE, close, "compute", 0.05, 7, proposed=7, proposed_by="sweeps")[0]
    assert "It is two thirds of the layers, close to the recommended depth" in reason


def test_full_finetuning_wins_where_nothing_is_within_the_margin():
    assert choose(BEFORE, {0: after(2.0), 15: after(1.0)}, "cheapest", 0.05) == 0


def test_items_needed_make_the_interval_leave_zero():
    one, other = after(1.0, 1), after(1.01)
    needed = examples_needed(one, other)
    apart = one - other
    assert 1.96 * apart.std(ddof=1) / np.sqrt(needed) <= apart.mean()
    assert 1.96 * apart.std(ddof=1) / np.sqrt(needed - 1) > apart.mean()
    assert examples_needed(BEFORE, BEFORE) is None


def test_words_say_how_far_ahead_the_winner_is():
    reason = decision_reasons(BEFORE, LOSSES, "compute", 0.05, 7)
    assert reason == [
        "Depth 7 ended the last round at 1.900 nats per token at the same compute. That is 0.100 (95% CI 0.100 to "
        "0.100) below depth 0 (40 eval examples, 1 seed)."
    ]
    close = {15: after(2.0, 1), 22: after(2.01)}
    first, second = decision_reasons(BEFORE, close, "steps", 0.05, 22)
    assert "after the same steps" in first
    assert "may be equally good" in second
    assert f"About {examples_needed(close[15], close[22])} eval examples" in second


def test_words_say_what_the_cheapest_keeps():
    (reason,) = decision_reasons(BEFORE, LOSSES, "cheapest", 0.05, 15)
    assert "depth 15 is the deepest that keeps at least 95% of full finetuning's loss reduction" in reason
    assert "It keeps 98%" in reason


def test_words_say_that_nothing_improved():
    (reason,) = decision_reasons(BEFORE, {7: after(0.0, 1), 15: after(0.001, 1)}, "compute", 0.05, 15)
    assert "No pilot reduced the loss significantly" in reason
