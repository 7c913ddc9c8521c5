import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semfreeze_core.gains.bootstrap import replicate_means, resampling_weights
from semfreeze_core.gains.scaling_law import (
    FORMULAS,
    broken_power_law,
    compare_formulas,
    fit_scaling_law,
    power_of_depth,
    smoothly_broken_power_law,
    turning_depths,
)
from semfreeze_core.records.defaults import MIN_LAW_R_SQUARED
from semfreeze_core.records.gain import ScalingLaw

Floats = NDArray[np.float64]
L = 24
DEPTH = np.arange(L + 1) / L


def fit(curve: Floats, *, start: int = 1) -> ScalingLaw:
    """The law of a curve known exactly: ten replicates that equal it."""
    return fit_scaling_law(curve, np.tile(curve, (10, 1)), start)


def of_examples(curve: Floats, noise: float, n: int = 64, seed: int = 0) -> ScalingLaw:
    """The law of n examples whose advantages scatter around a curve, each space by itself."""
    matrix = curve + np.random.default_rng(seed).normal(0, noise, (n, len(curve)))
    return fit_scaling_law(matrix.mean(0), replicate_means(matrix, resampling_weights(n, seed, 300)), 1)


def law_curve(turn: float, exponent: float, *, floor: float = -0.01, amplitude: float = 0.1) -> Floats:
    shape = broken_power_law(DEPTH, turn / L, exponent)
    return floor + amplitude * shape / shape[-1]


@settings(max_examples=40, deadline=None)
@given(st.floats(4, 18), st.floats(-2, 6), st.floats(-0.5, 0.5), st.floats(0.01, 2.0), st.integers(0, 1))
def test_fit_scaling_law_recovers_the_law_it_is_shown(
    turn: float, exponent: float, floor: float, amplitude: float, start: int
) -> None:
    curve = law_curve(turn, exponent, floor=floor, amplitude=amplitude)
    law = fit(curve, start=start)
    assert law.r_squared > 0.999
    # A slow begin hides the turn: the curve tells it as well as its fit does.
    np.testing.assert_allclose(law.fitted[start:], curve[start:], atol=0.02 * amplitude)
    if exponent <= 2:
        assert law.turn.estimate == pytest.approx(turn, abs=0.5)
        assert law.exponent.estimate == pytest.approx(exponent, abs=0.7)
    shape = broken_power_law(DEPTH, turn / L, exponent)
    expected = np.minimum((shape[-1] - shape) / (shape[-1] - shape[start]), 1)
    np.testing.assert_allclose(law.coverage.mean, expected, atol=0.02)
    assert abs(law.turning_depth.estimate - turning_depths(expected[None])[0]) <= 1


@pytest.mark.parametrize(("turn", "exponent"), [(8.0, 1.0), (14.0, -1.0), (16.0, 0.5), (12.0, 1.5)])
def test_fit_scaling_law_intervals_cover_the_law_behind_noise(turn: float, exponent: float) -> None:
    curve = law_curve(turn, exponent)
    expected = turning_depths(fit(curve).coverage.mean[None])[0]
    laws = [of_examples(curve, 0.02, seed=seed) for seed in range(8)]
    assert all(law.r_squared > 0.95 for law in laws)
    slack = 0.5 * (L - 1.5) / 149  # half a step of the searched turns
    covered = [law.turn.low - slack <= turn <= law.turn.high + slack for law in laws]
    assert sum(covered) >= 6  # 8 of 8 at 95% in two thirds of such draws; 5 or fewer in 1 of 200
    assert sum(law.turning_depth.low <= expected <= law.turning_depth.high for law in laws) >= 6
    widths = [law.turn.high - law.turn.low for law in laws]
    assert max(widths) < 8


def test_fit_scaling_law_is_surer_with_more_examples() -> None:
    few, many = (of_examples(law_curve(12, 1), 0.05, n) for n in (16, 256))
    assert many.turn.high - many.turn.low < few.turn.high - few.turn.low


def test_fit_scaling_law_gains_and_coverage_follow_from_the_law() -> None:
    curve = law_curve(10, 2) + np.random.default_rng(0).normal(0, 0.002, L + 1)
    law = fit(curve)
    np.testing.assert_allclose(law.fitted[1:] + law.residuals[1:], curve[1:])
    np.testing.assert_allclose(law.gain[1:], np.diff(law.fitted)[1:])
    assert np.isnan(law.gain[0])
    assert np.isnan(law.fitted[0])
    total = np.nansum(law.gain)
    np.testing.assert_allclose(law.coverage.mean[1:-1], [np.nansum(law.gain[k:]) / total for k in range(1, L)])
    assert law.coverage.mean[[0, 1, -1]] == pytest.approx([1, 1, 0])
    assert law.amplitude == pytest.approx(law.fitted[-1] - law.floor)
    depth = int(law.turning_depth.estimate)
    assert np.nanmax(law.gain[:depth]) < total / (L - 1) < law.gain[depth] + 1e-9
    centered = curve[1:] - curve[1:].mean()
    assert law.r_squared == pytest.approx(1 - (law.residuals[1:] ** 2).sum() / (centered**2).sum())


def test_fit_scaling_law_does_not_depend_on_scale_or_floor() -> None:
    curve = law_curve(10, 2) + np.random.default_rng(1).normal(0, 0.004, L + 1)
    one, other = fit(curve), fit(7 * curve - 3)
    assert other.turn.estimate == one.turn.estimate
    assert other.exponent.estimate == pytest.approx(one.exponent.estimate, rel=1e-6)
    np.testing.assert_allclose(other.coverage.mean, one.coverage.mean, atol=1e-9)


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (np.zeros(L + 1), "does not rise"),
        (np.linspace(1, 0, L + 1), "does not rise"),
        (np.random.default_rng(0).normal(0, 1, L + 1), "reaches R² = 0."),
        (1 - np.arange(L + 1.0) % 2, "reaches R² = 0."),
        (np.linspace(0, 1, 6), "5 hidden states are too few (required: 6)"),
    ],
)
def test_fit_scaling_law_draws_none_where_none_fits(curve: Floats, reason: str) -> None:
    law = fit(curve)
    assert reason in law.reason
    assert not law.r_squared >= MIN_LAW_R_SQUARED
    for numbers in (law.fitted, law.residuals, law.gain, law.coverage.mean, law.coverage_replicates):
        assert np.isnan(numbers).all()
    for interval in (law.turn, law.exponent, law.turning_depth):
        assert np.isnan([interval.estimate, interval.low, interval.high]).all()
    assert np.isnan([law.floor, law.amplitude]).all()
    assert law.fitted.shape == law.coverage.mean.shape == curve.shape
    assert law.gain.shape == (len(curve) - 1,)


def test_fit_scaling_law_counts_replicates_that_do_not_rise_as_freezing_nothing() -> None:
    curve = law_curve(12, 1)
    law = fit_scaling_law(curve, np.vstack([curve, -curve, curve]), 1)
    assert np.isnan(law.coverage_replicates[1]).all()
    assert list(turning_depths(law.coverage_replicates) > 0) == [True, False, True]


def test_turning_depths_is_where_a_layer_passes_the_average() -> None:
    def coverage(gains: list[float]) -> Floats:
        return np.append(np.cumsum(gains[::-1])[::-1], 0.0) / sum(gains)

    assert turning_depths(coverage([0, 0, 0, 1])[None])[0] == 3
    assert turning_depths(coverage([1, 0, 0, 0])[None])[0] == 0
    assert turning_depths(coverage([1, 1, 1, 1])[None])[0] == 0
    assert turning_depths(coverage([1, 1, 3, 3])[None])[0] == 2
    assert turning_depths(coverage([0, 0, 0, 1])[None], cap=2)[0] == 2
    assert turning_depths(np.full((1, 5), np.nan))[0] == 0


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 20))
def test_fit_scaling_law_holds_the_power_of_depth_as_a_case(exponent: float) -> None:
    curve = power_of_depth(DEPTH, exponent)
    law = fit(curve)
    assert law.r_squared > 0.999
    if exponent < 0.95:
        assert law.turning_depth.estimate <= 1


def test_the_smooth_law_without_width_is_the_sharp_one() -> None:
    smooth, sharp = smoothly_broken_power_law(DEPTH[1:], 0.5, 0.001, 2.0), broken_power_law(DEPTH[1:], 0.5, 2.0)
    np.testing.assert_allclose(smooth, sharp, atol=0.005)


@pytest.mark.quick_cases(5)
@pytest.mark.parametrize("name", list(FORMULAS))
def test_compare_formulas_finds_the_formula_that_made_the_curve(name: str) -> None:
    made_with = {
        "straight line": (),
        "power law": (0.8,),
        "power of depth": (4.0,),
        "smoothly broken power law": (0.6, 0.1, 1.5),
        "broken power law": (0.6, 1.5),
    }
    shape = FORMULAS[name].shape(np.arange(1, 10) / 9, *made_with[name])
    comparison = compare_formulas(np.append(9.0, 0.3 + 0.2 * shape))  # no formula has a value at space 0
    assert comparison[name].r_squared == pytest.approx(1, abs=1e-4)
    assert comparison[name].left_out_error < 0.03
    assert all(fit.r_squared <= 1 for fit in comparison.values())
    if name != "power law":
        assert comparison["power law"].left_out_error > 0.03


def test_compare_formulas_of_a_flat_curve_is_not_a_number() -> None:
    assert all(np.isnan([fit.r_squared, fit.left_out_error]).all() for fit in compare_formulas(np.ones(9)).values())
