import numpy as np
import pytest

from semfreeze_core.gains.coverage import isotonic_fit
from semfreeze_core.gains.curve import coverage_of_layers, gain_curve
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.trace import TransitionTrace
from tests.core.gains.traces import make_pairs, make_trace

STORY = [0.0, 0.0, 0.02, 0.02, 0.10, 0.30]  # five layers; gains 0, 0.02, 0, 0.08, 0.20


def _curve(trace: TransitionTrace, *, tied: bool = False, seed: int = 0) -> GainCurve:
    return gain_curve(trace, make_pairs(0.05, spaces=trace.deviation.shape[1]), tied=tied, seed=seed)


def test_gain_curve_equals_a_hand_computed_case() -> None:
    curve = _curve(make_trace(STORY, noise=0.0))
    np.testing.assert_allclose(curve.advantage.mean, STORY, atol=1e-6)
    np.testing.assert_allclose(curve.gain.mean, [0, 0.02, 0, 0.08, 0.2], atol=1e-6)
    np.testing.assert_allclose(curve.coverage.mean, [1, 1, 28 / 30, 28 / 30, 20 / 30, 0], atol=1e-4)
    np.testing.assert_allclose(curve.isotonic, STORY, atol=1e-6)
    assert curve.isotonic_r_squared == pytest.approx(1)
    assert (curve.metric, curve.n_examples, curve.n_layers, curve.start) == ("semantic", 64, 5, 0)


def test_coverage_of_layers_is_their_share_of_all_gain() -> None:
    curve = _curve(make_trace(STORY))
    assert coverage_of_layers(curve, [3, 4]) == pytest.approx(curve.coverage.at(3))
    parts = [coverage_of_layers(curve, layers).estimate for layers in ([0, 4], [1, 2, 3])]
    assert sum(parts) == pytest.approx(1)
    assert parts[0] == pytest.approx(20 / 30, abs=0.02)


def test_gain_curve_gain_is_the_raw_gain_less_that_of_the_null() -> None:
    trace = make_trace(STORY)
    curve = _curve(trace)
    np.testing.assert_allclose(curve.deviation.mean, trace.deviation.mean(0), atol=1e-6)
    np.testing.assert_allclose(curve.null.mean, trace.null.mean(0), atol=1e-6)
    np.testing.assert_allclose(curve.raw_gain.mean, -np.diff(trace.deviation.mean(0)), atol=1e-6)
    np.testing.assert_allclose(curve.gain.mean, curve.raw_gain.mean + np.diff(curve.null.mean), atol=1e-6)
    assert np.abs(curve.gain.mean - curve.raw_gain.mean).min() > 0.01  # the null falls by itself


def test_gain_curve_of_a_tied_head_starts_at_space_one() -> None:
    story = [0.5, *STORY[1:]]  # space 0 reads its own input: a drop that means nothing
    curve = _curve(make_trace(story, noise=0.002), tied=True)
    assert curve.start == 1
    assert np.isnan([curve.gain.mean[0], curve.gain.low[0], curve.gain.high[0], curve.isotonic[0]]).all()
    assert np.isfinite(curve.gain.mean[1:]).all()
    np.testing.assert_array_equal(curve.coverage.mean[:2], 1)
    np.testing.assert_array_equal(curve.coverage_replicates[:, :2], 1)
    np.testing.assert_allclose(curve.coverage.mean, [1, 1, 28 / 30, 28 / 30, 20 / 30, 0], atol=0.01)
    assert curve.isotonic_r_squared > 0.99
    untied = _curve(make_trace(story, noise=0.002))
    assert np.isfinite(untied.gain.mean[0])
    assert untied.isotonic_r_squared < 0.5


def test_gain_curve_intervals_hold_their_estimates() -> None:
    curve = _curve(make_trace(STORY, noise=0.05))
    for name in ("deviation", "null", "advantage", "raw_gain", "gain"):
        band = getattr(curve, name)
        assert (band.low <= band.mean).all(), name
        assert (band.mean <= band.high).all(), name
        assert (band.low < band.high).all(), name
    assert (curve.coverage.low <= curve.coverage.high).all()


def test_gain_curve_replicates_are_curves_of_their_own() -> None:
    curve = _curve(make_trace(STORY, noise=0.05))
    assert curve.coverage_replicates.shape == (1000, 6)
    assert curve.raw_gain_replicates.shape == (1000, 5)
    np.testing.assert_array_equal(curve.coverage_replicates[:, 0], 1)
    np.testing.assert_array_equal(curve.coverage_replicates[:, -1], 0)
    assert (np.diff(curve.coverage_replicates, axis=1) <= 0).all()
    assert curve.coverage_replicates[:, 3].std() > 0.005
    np.testing.assert_allclose(curve.raw_gain_replicates.mean(0), curve.raw_gain.mean, atol=0.005)


def test_gain_curve_weighs_spaces_by_what_is_known_of_them() -> None:
    rng = np.random.default_rng(0)
    n = 64
    advantage = np.tile([0.0, 0.3, 0.1, 0.4], (n, 1)) + rng.normal(0, [0.01, 0.5, 0.01, 0.01], (n, 4))
    nulls = np.ones((n, 4), dtype=np.float32)
    trace = TransitionTrace("semantic", *[(nulls - advantage).astype(np.float32), nulls] * 3)
    curve = _curve(trace)
    expected = isotonic_fit(advantage.mean(0), advantage.var(0) / n, 0)
    np.testing.assert_allclose(curve.isotonic, expected, atol=0.003)
    assert curve.isotonic[1] == curve.isotonic[2] == pytest.approx(advantage.mean(0)[2], abs=0.01)


def test_gain_curve_coverage_does_not_depend_on_the_size_of_the_advantage() -> None:
    trace = make_trace(STORY, noise=0.02)
    halved = trace.null - trace.advantage / 2
    scaled = TransitionTrace("semantic", *[halved, trace.null] * 3)
    np.testing.assert_allclose(_curve(scaled).coverage.mean, _curve(trace).coverage.mean, atol=1e-4)
    np.testing.assert_allclose(_curve(scaled).coverage.low, _curve(trace).coverage.low, atol=1e-4)


def test_gain_curve_has_no_coverage_where_nothing_rises() -> None:
    curve = _curve(make_trace(np.linspace(0.5, 0, 6), noise=0.001))
    for values in (curve.coverage.mean, curve.coverage.low, curve.coverage.high):
        assert np.isnan(values).all()


def test_gain_curve_repeats_itself_and_follows_the_seed() -> None:
    trace = make_trace(STORY, noise=0.05)
    one, again, other = (_curve(trace, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.coverage_replicates, again.coverage_replicates)
    assert not np.array_equal(one.coverage_replicates, other.coverage_replicates)
    np.testing.assert_array_equal(one.advantage.mean, other.advantage.mean)


def test_gain_curve_carries_the_evidence() -> None:
    assert _curve(make_trace(STORY)).evidence.verdict == "evidence"
    assert _curve(make_trace([0.0] * 6, noise=0.1)).evidence.verdict == "no evidence"
