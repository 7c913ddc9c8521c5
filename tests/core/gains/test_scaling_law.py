import numpy as np
import pytest
from numpy.typing import NDArray

from semfreeze_core.gains.scaling_law import ScalingLaw
from semfreeze_core.gains.scaling_law import fit_scaling_law as fit_to_band
from semfreeze_core.records.gain import Band

Floats = NDArray[np.float64]


def fit_scaling_law(curve: Floats, standard_errors: Floats) -> ScalingLaw:
    """The law fitted to a curve whose 95 % intervals are those of a normal mean."""
    half = 1.96 * standard_errors
    return fit_to_band(Band(curve, curve - half, curve + half))


def _law(n_layers: int, amplitude: float, exponent: float, floor: float) -> Floats:
    """d(s) = A s^-alpha + E, with a value at space 0 that no law has."""
    depth = np.arange(1, n_layers + 1)
    return np.concatenate([[7.0], amplitude * depth**-exponent + floor])


@pytest.mark.parametrize(
    ("amplitude", "exponent", "floor"), [(0.5, 0.8, 0.3), (0.9, 0.3, 0.05), (0.2, 2.0, 0.6), (1.0, 0.5, 0.0)]
)
def test_fit_scaling_law_recovers_the_law_it_is_shown(amplitude: float, exponent: float, floor: float) -> None:
    law = fit_scaling_law(_law(30, amplitude, exponent, floor), np.full(31, 0.01))
    assert law.amplitude == pytest.approx(amplitude, rel=0.02)
    assert law.exponent == pytest.approx(exponent, rel=0.02)
    assert law.floor == pytest.approx(floor, abs=0.02)
    assert law.r_squared == pytest.approx(1, abs=1e-4)


def test_fit_scaling_law_recovers_the_law_from_noise_within_its_size() -> None:
    curve = _law(40, 0.5, 0.8, 0.3) + np.random.default_rng(0).normal(0, 0.002, 41)
    law = fit_scaling_law(curve, np.full(41, 0.002))
    np.testing.assert_allclose(law.fitted, _law(40, 0.5, 0.8, 0.3)[1:], atol=0.004)
    assert law.exponent == pytest.approx(0.8, abs=0.1)
    assert law.r_squared > 0.99


def test_fit_scaling_law_is_not_pulled_away_by_one_outlier() -> None:
    curve = _law(30, 0.5, 0.8, 0.3)
    curve[12] += 0.5  # fifty standard errors
    law = fit_scaling_law(curve, np.full(31, 0.01))
    np.testing.assert_allclose(np.delete(law.fitted, 11), np.delete(_law(30, 0.5, 0.8, 0.3)[1:], 11), atol=0.01)


def test_fit_scaling_law_trusts_spaces_that_are_known_better() -> None:
    curve, errors = _law(30, 0.5, 0.8, 0.3), np.full(31, 0.005)
    wrong = slice(1, 11)
    curve[wrong] += 0.2 * np.random.default_rng(0).choice([-1, 1], 10)
    unsure = errors.copy()
    unsure[wrong] = 1.0
    found = [fit_scaling_law(curve, e).fitted[14:] - _law(30, 0.5, 0.8, 0.3)[15:] for e in (errors, unsure)]
    assert np.abs(found[1]).max() < 0.01 < np.abs(found[0]).max()


@pytest.mark.parametrize("kind", ["noise", "rising", "falling", "flat then falls", "below zero", "constant", "steep"])
def test_fit_scaling_law_stays_within_its_bounds(kind: str) -> None:
    rng = np.random.default_rng(0)
    curve = {
        "noise": rng.uniform(0.2, 1, 20),
        "rising": np.linspace(0.2, 1, 20),
        "falling": np.linspace(1, 0.2, 20),
        "flat then falls": np.concatenate([np.full(15, 0.98), np.linspace(0.95, 0.6, 5)]),
        "below zero": np.linspace(0.5, -0.1, 20),
        "constant": np.full(20, 0.4),
        "steep": 0.3 + 0.5 * np.arange(20.0).clip(0.5) ** -9,
    }[kind]
    law = fit_scaling_law(curve, np.full(20, 0.01))
    assert law.amplitude >= 0
    assert 0.01 <= law.exponent <= 5
    assert 0 <= law.floor <= max(curve[1:].min(), 1e-9)
    assert np.isfinite(law.fitted).all()
    assert not law.r_squared > 1


def test_fit_scaling_law_residuals_are_measured_less_fitted() -> None:
    curve = np.random.default_rng(0).uniform(0.2, 1, 12)
    law = fit_scaling_law(curve, np.full(12, 0.01))
    assert law.fitted.shape == law.residuals.shape == (11,)
    np.testing.assert_allclose(law.fitted + law.residuals, curve[1:])
    depth = np.arange(1, 12)
    np.testing.assert_allclose(law.fitted, law.amplitude * depth**-law.exponent + law.floor)


def test_fit_scaling_law_r_squared_is_weighted() -> None:
    rng = np.random.default_rng(0)
    curve, errors = rng.uniform(0.2, 1, 12), rng.uniform(0.01, 0.1, 12)
    law = fit_scaling_law(curve, errors)
    weights = errors[1:] ** -2
    center = (weights * curve[1:]).sum() / weights.sum()
    expected = 1 - (weights * law.residuals**2).sum() / (weights * (curve[1:] - center) ** 2).sum()
    assert law.r_squared == pytest.approx(expected)


def test_fit_scaling_law_says_that_flat_and_then_falling_is_no_law() -> None:
    curve = np.concatenate([np.full(20, 0.98), np.linspace(0.95, 0.6, 10)])
    assert fit_scaling_law(curve, np.full(30, 0.005)).r_squared < 0.5


def test_fit_scaling_law_of_a_constant_has_no_r_squared() -> None:
    assert np.isnan(fit_scaling_law(np.full(9, 0.5), np.full(9, 0.01)).r_squared)
