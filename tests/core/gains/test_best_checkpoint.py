import numpy as np
import pytest

from semfreeze_core.gains.best_checkpoint import rise, stopped

NOISE = np.random.default_rng(0).normal(0, 0.1, (6, 40))


def test_rise_by_hand():
    readings = np.array([[3.0, 3.0], [1.0, 1.0], [2.0, 4.0]])
    lowest, interval = rise(readings)
    # Differences 1 and 3: mean 2, standard error 1, one degree of freedom, 97.5 % two-sided: tan(0.4875 pi) = 25.45.
    assert lowest == 1
    assert interval.estimate == 2
    assert interval.high == pytest.approx(2 + np.tan(0.4875 * np.pi))
    assert interval.low == pytest.approx(2 - np.tan(0.4875 * np.pi))


def test_a_loss_that_falls_to_the_end_does_not_rise():
    lowest, interval = rise(np.linspace(3, 1, 6)[:, None] + NOISE)
    assert lowest == 5
    assert interval == (0, 0, 0) or (interval.estimate, interval.low, interval.high) == (0, 0, 0)


def test_a_loss_that_overfits_rises_for_sure():
    lowest, interval = rise(np.array([3, 2, 1, 1.2, 1.5, 2])[:, None] + NOISE)
    assert lowest == 2
    assert 0.8 < interval.low < 1 < interval.high < 1.2


def test_noise_alone_is_seldom_said_to_rise():
    rng = np.random.default_rng(1)
    rises = [rise(rng.normal(0, 1, (6, 30)))[1].low > 0 for _ in range(400)]
    assert np.mean(rises) <= 0.05


def test_stopped_takes_each_half_where_the_other_is_lowest():
    readings = np.array([[1.0, 5.0, 1.0, 5.0], [2.0, 3.0, 2.0, 3.0]])
    # Odd items (5, 5 then 3, 3) choose the second reading for the even ones, the even ones the first for the odd.
    assert stopped(readings).tolist() == [2.0, 5.0, 2.0, 5.0]


def test_stopped_is_the_lowest_reading_where_all_items_agree():
    assert np.allclose(stopped(np.array([3.0, 1.0, 2.0])[:, None] + NOISE[:3]), 1 + NOISE[1])


def test_stopped_does_not_reward_luck():
    rng = np.random.default_rng(2)
    readings = rng.normal(0, 1, (6, 20_000))
    assert abs(stopped(readings).mean()) < 0.02
