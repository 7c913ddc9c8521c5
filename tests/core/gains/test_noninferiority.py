"""The verdict: hand-computed improvements, and data on which each answer is the only right one."""

import numpy as np
import pytest

from semfreeze_core.gains.noninferiority import (
    Draws,
    draw,
    improvement,
    improvement_kept,
    improvement_replicates,
    judge,
)


def losses(share: float, *, seeds: int = 3, items: int = 200, noise: float = 0.02, seed: int = 1):
    """Losses before, after full and after planned finetuning, which keeps `share` of full's improvement of 1 nat."""
    rng = np.random.default_rng(seed)
    before = 2 + rng.normal(0, 0.3, items)
    full = before - 1 + rng.normal(0, noise, (seeds, items))
    planned = before - share + rng.normal(0, noise, (seeds, items))
    return before, full, planned


def test_improvement_replicates_equal_a_hand_computed_case():
    before, after = np.array([3.0, 5.0]), np.array([[1.0, 4.0], [2.0, 2.0]])  # gains 2 1 and 1 3
    draws = Draws(seeds=np.array([[1.0, 0.0], [0.5, 0.5]]), items=np.array([[0.5, 0.5], [0.0, 1.0]]))
    assert improvement_replicates(before, after, draws).tolist() == [1.5, 2.0]
    assert improvement(before, after, draw(2, 2)).estimate == 1.75


def test_draws_are_shares_and_repeat_with_their_seed():
    first, again, other = draw(3, 50, seed=4), draw(3, 50, seed=4), draw(3, 50, seed=5)
    assert np.allclose(first.seeds.sum(1), 1)
    assert np.allclose(first.items.sum(1), 1)
    assert np.array_equal(first.items, again.items)
    assert not np.array_equal(first.items, other.items)


def test_an_arm_compared_with_itself_keeps_all():
    before, full, _ = losses(1.0)
    interval = improvement_kept(before, full, full, draw(*full.shape))
    assert (interval.estimate, interval.low, interval.high) == (1.0, 1.0, 1.0)
    assert judge(before, full, full).verdict == "holds"


@pytest.mark.parametrize(
    ("share", "verdict"), [(1.0, "holds"), (0.99, "holds"), (0.85, "fails"), (0.5, "fails"), (1.2, "holds")]
)
def test_judge_says_what_the_data_say(share, verdict):
    judgment = judge(*losses(share))
    assert judgment.verdict == verdict
    assert judgment.reduction_share.estimate == pytest.approx(share, abs=0.01)
    assert judgment.reduction_share.low <= judgment.reduction_share.estimate <= judgment.reduction_share.high
    assert "200 eval examples, 3 seeds" in judgment.reason


def test_judge_is_undecided_across_the_margin():
    judgment = judge(*losses(0.95, noise=0.3))
    assert judgment.verdict == "undecided"
    assert "The interval includes the limit" in judgment.reason


@pytest.mark.parametrize("seeds", [1, 2])
def test_judge_needs_three_seeds(seeds):
    judgment = judge(*losses(1.0, seeds=seeds))
    assert judgment.verdict == "undecided"
    assert "A verdict needs at least 3 seeds" in judgment.reason


def test_judge_has_nothing_to_keep_when_full_does_not_improve():
    before, full, planned = losses(1.0)
    judgment = judge(before, full + 1, planned + 1)
    assert judgment.verdict == "undecided"
    assert "full finetuning itself does not reduce the loss significantly" in judgment.reason
    assert np.isnan(judgment.reduction_share.estimate)


def test_judge_a_wider_margin_never_turns_holds_away():
    before, full, planned = losses(0.9)
    assert judge(before, full, planned, margin=0.05).verdict == "fails"
    assert judge(before, full, planned, margin=0.2).verdict == "holds"


def test_judge_refuses_what_is_no_loss():
    before, full, planned = losses(1.0)
    planned[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        judge(before, full, planned)
    with pytest.raises(ValueError, match="shapes differ"):
        judge(before, full, planned[:2])
