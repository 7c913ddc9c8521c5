import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from semfreeze_core.gains.coverage import (
    VARIANCE_FLOOR,
    curve_coverage,
    gain_coverage,
    isotonic_fit,
    weighted_r_squared,
)

gains = st.lists(st.floats(0, 1e3), min_size=2, max_size=40).filter(lambda g: sum(g) > 1e-5)
curves = st.lists(st.floats(-2, 2), min_size=3, max_size=30)


def test_gain_coverage_equals_a_hand_computed_case() -> None:
    np.testing.assert_allclose(gain_coverage([1, 2, 0, 5]), [1, 7 / 8, 5 / 8, 5 / 8, 0])


@given(gains)
@settings(derandomize=True, deadline=None)
def test_gain_coverage_falls_from_one_to_zero(values: list[float]) -> None:
    coverage = gain_coverage(values)
    assert len(coverage) == len(values) + 1
    assert coverage[0] == 1
    assert coverage[-1] == 0
    assert (np.diff(coverage) <= 0).all()
    assert coverage.min() >= 0
    assert coverage.max() <= 1


@given(gains, st.floats(0.1, 100))
@settings(derandomize=True, deadline=None)
def test_gain_coverage_does_not_depend_on_the_unit(values: list[float], scale: float) -> None:
    np.testing.assert_allclose(gain_coverage(np.array(values) * scale), gain_coverage(values), atol=1e-9)


@pytest.mark.parametrize("values", [[0, 0, 0], [1e-6, 0, 0], [math.nan, math.nan], [math.nan, 4e-7, 4e-7]])
def test_gain_coverage_of_nothing_is_unknown(values: list[float]) -> None:
    coverage = gain_coverage(values)
    assert len(coverage) == len(values) + 1
    assert np.isnan(coverage).all()


def test_gain_coverage_begins_just_above_nothing() -> None:
    np.testing.assert_allclose(gain_coverage([1.1e-6, 0]), [1, 0, 0])


def test_gain_coverage_refuses_negative_gains() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        gain_coverage([1, -1e-9, 2])


def test_gain_coverage_counts_an_unmeasured_gain_as_none() -> None:
    np.testing.assert_allclose(gain_coverage([math.nan, 1, 3]), [1, 1, 0.75, 0])


@given(curves, st.integers(0, 1), st.integers(0, 99))
@settings(derandomize=True, deadline=None)
def test_isotonic_fit_equals_that_of_scikit_learn(values: list[float], start: int, seed: int) -> None:
    curve, variances = np.array(values), np.random.default_rng(seed).uniform(1e-4, 1, len(values))
    fitted = isotonic_fit(curve, variances, start)
    order = np.arange(len(curve) - start)
    expected = IsotonicRegression().fit_transform(order, curve[start:], sample_weight=1 / variances[start:])
    assert np.isnan(fitted[:start]).all()
    np.testing.assert_allclose(fitted[start:], expected, atol=1e-9)


def test_isotonic_fit_equals_a_hand_computed_case() -> None:
    # 3 and 1 pool to (3 w + 1 v) / (w + v): with variances 1 and 1/3 to (3 + 3) / 4.
    fitted = isotonic_fit(np.array([9.0, 0.0, 3.0, 1.0, 4.0]), np.array([1, 1, 1, 1 / 3, 1]), 1)
    np.testing.assert_allclose(fitted, [math.nan, 0, 1.5, 1.5, 4])


def test_isotonic_fit_leaves_a_rising_curve_as_it_is() -> None:
    curve = np.array([0.0, 0.1, 0.1, 0.7])
    np.testing.assert_allclose(isotonic_fit(curve, np.full(4, 0.1), 0), curve)


def test_isotonic_fit_floors_the_variances() -> None:
    curve = np.array([0.0, 1.0, 0.0])
    floored = isotonic_fit(curve, np.array([1.0, 0.0, VARIANCE_FLOOR]), 0)
    np.testing.assert_allclose(floored, [0, 0.5, 0.5])


def test_weighted_r_squared_equals_a_hand_computed_case() -> None:
    # Weights 1, 1, 2 on 0, 2, 3: center 2, total 4 + 0 + 2 = 6; residuals 0, 1, 0.5 give 0 + 1 + 0.5 = 1.5.
    curve, fitted = np.array([0.0, 2.0, 3.0]), np.array([0.0, 3.0, 2.5])
    assert weighted_r_squared(curve, fitted, np.array([1, 1, 0.5]), 0) == pytest.approx(1 - 1.5 / 6)


def test_weighted_r_squared_of_a_rising_curve_is_one() -> None:
    curve, variances = np.linspace(0, 1, 9) ** 2, np.full(9, 0.01)
    assert weighted_r_squared(curve, isotonic_fit(curve, variances, 1), variances, 1) == 1


def test_weighted_r_squared_of_a_falling_curve_is_zero() -> None:
    curve, variances = np.linspace(1, 0, 9), np.full(9, 0.01)
    assert weighted_r_squared(curve, isotonic_fit(curve, variances, 0), variances, 0) == pytest.approx(0)


def test_weighted_r_squared_leaves_out_what_is_before_the_start() -> None:
    curve, variances = np.array([100.0, 0.0, 1.0, 2.0]), np.full(4, 0.01)
    assert weighted_r_squared(curve, isotonic_fit(curve, variances, 1), variances, 1) == 1


def test_weighted_r_squared_of_a_flat_curve_is_unknown() -> None:
    assert math.isnan(weighted_r_squared(np.full(4, 0.5), np.full(4, 0.5), np.ones(4), 0))


@given(curves, st.integers(0, 1))
@settings(derandomize=True, deadline=None)
def test_weighted_r_squared_of_an_isotonic_fit_lies_between_zero_and_one(values: list[float], start: int) -> None:
    curve, variances = np.array(values), np.full(len(values), 0.01)
    r_squared = weighted_r_squared(curve, isotonic_fit(curve, variances, start), variances, start)
    assert math.isnan(r_squared) or -1e-9 <= r_squared <= 1 + 1e-9


@pytest.mark.parametrize("n_layers", [2, 4, 7])
def test_curve_coverage_of_a_straight_line_is_that_of_exchangeable_layers(n_layers: int) -> None:
    curve = 0.3 + 0.05 * np.arange(n_layers + 1)
    expected = (n_layers - np.arange(n_layers + 1)) / n_layers
    np.testing.assert_allclose(curve_coverage(curve, np.full(n_layers + 1, 0.1), 0), expected, atol=1e-12)


def test_curve_coverage_does_not_depend_on_unit_or_level() -> None:
    rng = np.random.default_rng(0)
    curve, variances = np.cumsum(rng.normal(0.1, 0.3, 12)), rng.uniform(0.1, 1, 12)
    np.testing.assert_allclose(
        curve_coverage(7 * curve - 3, 49 * variances, 0), curve_coverage(curve, variances, 0), atol=1e-9
    )


def test_curve_coverage_of_a_tied_head_is_one_up_to_space_one() -> None:
    coverage = curve_coverage(np.array([50.0, 0.0, 1.0, 3.0, 4.0]), np.ones(5), 1)
    np.testing.assert_allclose(coverage, [1, 1, 0.75, 0.25, 0], atol=1e-12)


def test_curve_coverage_of_a_falling_curve_is_unknown() -> None:
    assert np.isnan(curve_coverage(np.linspace(1, 0, 6), np.ones(6), 0)).all()
