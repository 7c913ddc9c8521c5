import numpy as np
import pytest

from semfreeze_core.gains.bootstrap import (
    mean_band,
    mean_interval,
    percentile_band,
    replicate_means,
    resampling_weights,
)
from semfreeze_core.records import defaults
from semfreeze_core.records.defaults import BOOTSTRAP_REPLICATES


def test_resampling_weights_sum_to_one_and_are_counts_of_n() -> None:
    weights = resampling_weights(37, seed=0)
    assert weights.shape == (BOOTSTRAP_REPLICATES, 37)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights * 37, np.round(weights * 37), atol=1e-12)
    assert weights.min() == 0


def test_resampling_weights_spread_as_drawing_with_replacement_does() -> None:
    counts = 50 * resampling_weights(50, seed=0)
    assert counts.mean() == pytest.approx(1)
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.03)  # a binomial of 50 draws at 1/50
    assert (counts == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, rel=0.03)


def test_resampling_weights_repeat_themselves_and_follow_the_seed() -> None:
    assert np.array_equal(resampling_weights(9, 4), resampling_weights(9, 4))
    assert not np.array_equal(resampling_weights(9, 4), resampling_weights(9, 5))


def test_replicate_means_equal_a_hand_computed_case() -> None:
    matrix = np.array([[1.0, 10.0], [3.0, 20.0]])
    weights = np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    np.testing.assert_allclose(replicate_means(matrix, weights), [[2, 15], [1, 10], [2.5, 17.5]])


def test_replicate_means_leave_unknown_values_out_column_by_column() -> None:
    matrix = np.array([[1.0, np.nan, np.nan], [3.0, 20.0, np.nan]])
    weights = np.array([[0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(replicate_means(matrix, weights), [[2, 20, np.nan], [1, np.nan, np.nan]])


def test_replicate_means_of_one_draw_keep_pairs_together() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 1))  # shared by both curves
    one, other = noise + rng.normal(0, 0.01, (40, 3)), noise + rng.normal(0, 0.01, (40, 3))
    weights = resampling_weights(40, 0)
    apart = replicate_means(one, weights) - replicate_means(other, weights)
    np.testing.assert_allclose(apart, replicate_means(one - other, weights), atol=1e-12)
    unpaired = replicate_means(one, weights) - replicate_means(other, resampling_weights(40, 1))
    assert apart.std() < 0.05 * unpaired.std()


def test_percentile_band_equals_a_hand_computed_case(monkeypatch: pytest.MonkeyPatch) -> None:
    replicates = np.arange(101.0)[:, None] * np.array([1.0, 2.0])
    np.testing.assert_allclose(percentile_band(np.array([50.0, 100.0]), replicates).low, [2.5, 5])
    monkeypatch.setattr(defaults, "CONFIDENCE", 0.9)
    band = percentile_band(np.array([50.0, 100.0]), replicates)
    np.testing.assert_allclose(band.low, [5, 10])
    np.testing.assert_allclose(band.high, [95, 190])


def test_percentile_band_is_unknown_exactly_where_the_mean_is() -> None:
    replicates = np.random.default_rng(0).normal(size=(100, 3))
    band = percentile_band(np.array([np.nan, 0.0, 0.0]), replicates)
    assert np.isnan(band.low).tolist() == np.isnan(band.high).tolist() == [True, False, False]
    unknown = percentile_band(np.full(3, np.nan), replicates)
    assert np.isnan(unknown.low).all()


def test_mean_band_brackets_the_mean() -> None:
    matrix = np.random.default_rng(1).exponential(size=(64, 9)).astype(np.float32)
    band = mean_band(matrix, resampling_weights(64, 0))
    np.testing.assert_allclose(band.mean, matrix.mean(0), rtol=1e-6)
    assert (band.low < band.mean).all()
    assert (band.mean < band.high).all()


def test_mean_band_of_equal_values_has_no_width() -> None:
    band = mean_band(np.full((20, 2), 0.3), resampling_weights(20, 0))
    for bound in (band.mean, band.low, band.high):
        np.testing.assert_allclose(bound, 0.3)


def test_mean_band_keeps_unknown_columns_unknown_and_others_as_they_were() -> None:
    matrix = np.random.default_rng(0).normal(size=(30, 3))
    whole = mean_band(matrix, resampling_weights(30, 0))
    matrix[:, 1] = np.nan
    matrix[:5, 2] = np.nan
    band = mean_band(matrix, resampling_weights(30, 0))
    assert np.isnan([band.mean[1], band.low[1], band.high[1]]).all()
    assert (band.mean[0], band.low[0], band.high[0]) == (whole.mean[0], whole.low[0], whole.high[0])
    assert band.mean[2] == pytest.approx(matrix[5:, 2].mean())
    assert band.low[2] < band.mean[2] < band.high[2]


@pytest.mark.parametrize("seed", range(3))
def test_mean_interval_of_a_normal_sample_is_near_the_analytic_one(seed: int) -> None:
    values = np.random.default_rng(seed).normal(3.0, 2.0, size=400)
    interval = mean_interval(values, resampling_weights(400, seed))
    half = 1.96 * values.std() / 20
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_mean_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        interval = mean_interval(rng.normal(size=50), resampling_weights(50, trial))
        held += interval.low <= 0 <= interval.high
    assert 0.90 <= held / 300 <= 0.98
