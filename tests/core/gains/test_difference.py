"""Differences of curves: by hand, on unlike grids, and as often sure of nothing as they say."""

import numpy as np
import pytest

from semfreeze_core.gains.difference import difference, relative_depths

RNG = np.random.default_rng(0)


def noisy(mean, spread, n=1000, rng=RNG):
    return mean + spread * rng.standard_normal((n, len(mean)))


def test_equal_grids_give_the_plain_difference():
    one, other = np.array([1.0, 0.8, 0.1]), np.array([1.0, 0.5, 0.2])
    curve = difference(one, other, np.tile(one, (5, 1)), np.tile(other, (5, 1)), paired=True)
    assert curve.band.mean == pytest.approx([0, 0.3, -0.1])
    assert curve.band.low == pytest.approx(curve.band.mean), "replicates that do not vary leave no doubt"
    assert curve.depth.tolist() == [0, 0.5, 1]
    assert curve.surely == [(0.5, 1.0)]
    assert curve.largest == 1


def test_a_shallower_model_is_read_between_its_layers():
    deep, shallow = np.array([1.0, 0.9, 0.6, 0.3, 0.0]), np.array([1.0, 0.5, 0.0])
    curve = difference(deep, shallow, deep[None], shallow[None], paired=False)
    assert curve.band.mean == pytest.approx([0, 0.9 - 0.75, 0.1, 0.3 - 0.25, 0])
    turned = difference(shallow, deep, shallow[None], deep[None], paired=False)
    assert turned.band.mean == pytest.approx(-curve.band.mean)
    thirds = np.array([1.0, 0.7, 0.4, 0.1])
    assert difference(thirds, shallow, thirds[None], shallow[None], paired=False).band.mean == pytest.approx(
        [0, 0.7 - 2 / 3, 0.4 - 1 / 3, 0.1]
    )


def test_what_is_not_measured_stays_so_and_spreads_no_further():
    one, other = np.array([np.nan, 0.8, 0.1]), np.array([1.0, 0.5, 0.2, 0.1, 0.0])
    curve = difference(one, other, np.tile(one, (3, 1)), np.tile(other, (3, 1)), paired=False)
    assert np.isnan(curve.band.mean).tolist() == [True, True, False, False, False]
    nothing = difference(one * np.nan, other, one[None] * np.nan, other[None], paired=False)
    assert nothing.largest is None
    assert nothing.surely == []


def test_the_interval_holds_at_all_depths_at_once():
    """Of 400 pairs of equal curves about one of twenty is told different anywhere; pointwise it would be most."""
    rng, truth, wrong = np.random.default_rng(1), np.zeros(30), 0
    for _ in range(400):
        one, other = (truth + 0.1 * rng.standard_normal(30) for _ in range(2))
        curve = difference(one, other, noisy(one, 0.1, 300, rng), noisy(other, 0.1, 300, rng), paired=False)
        wrong += bool(curve.surely)
    assert 4 <= wrong <= 44


def test_stretches_are_told_apart():
    one = np.array([0.0, 1.0, 1.0, 0.0, -1.0, 0.0])
    curve = difference(one, one * 0, noisy(one, 0.01), noisy(one * 0, 0.01), paired=False)
    assert curve.surely == [(pytest.approx(0.2), pytest.approx(0.4)), (pytest.approx(0.8), pytest.approx(0.8))]


def test_relative_depths_reach_from_input_to_output():
    assert relative_depths(5).tolist() == [0, 0.25, 0.5, 0.75, 1]
