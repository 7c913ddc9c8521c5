import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.gains import gain_coverage, score_coverage
from semfreeze_core.gains.score_coverage import replicate_coverage
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.scores import LayerScore, unmeasured
from semfreeze_core.semantics.variability import variability_score

scores = st.lists(st.floats(0, 1e6), min_size=2, max_size=30).filter(lambda v: max(v) > 1e-3)


def _score(values: list[float], replicates: list[list[float]] | None = None) -> LayerScore:
    drawn = None if replicates is None else np.array(replicates, dtype=np.float64)
    return LayerScore("block_influence", np.array(values, dtype=np.float64), drawn, "4 examples")


def test_score_coverage_equals_a_hand_computed_case() -> None:
    band = score_coverage(_score([1, 3, 0, 4]))
    np.testing.assert_allclose(band.mean, [1, 7 / 8, 4 / 8, 4 / 8, 0])
    assert np.isnan(band.low).all()
    assert np.isnan(band.high).all()


def test_score_coverage_has_the_interval_of_its_replicates() -> None:
    # Of 100 replicates 10 put everything into the last layer and 90 share it.
    band = score_coverage(_score([1.8, 2.3], [[0, 5]] * 10 + [[2, 2]] * 90))
    np.testing.assert_allclose(band.mean, [1, 2.3 / 4.1, 0])
    np.testing.assert_allclose(band.low, [1, 0.5, 0])
    np.testing.assert_allclose(band.high, [1, 1, 0])


@given(scores)
@settings(derandomize=True, deadline=None)
def test_score_coverage_is_the_gain_coverage_of_the_values(values: list[float]) -> None:
    np.testing.assert_allclose(score_coverage(_score(values)).mean, gain_coverage(values), rtol=1e-9, atol=1e-12)


@given(scores, st.floats(1e-12, 1e12))
@settings(derandomize=True, deadline=None)
def test_score_coverage_does_not_depend_on_the_scores_unit(values: list[float], unit: float) -> None:
    scaled = [value * unit for value in values]
    np.testing.assert_allclose(
        score_coverage(_score(scaled)).mean, score_coverage(_score(values)).mean, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("n_layers", [2, 12, 30])
def test_score_coverage_of_equal_scores_is_the_share_of_layers(n_layers: int) -> None:
    expected = (n_layers - np.arange(n_layers + 1)) / n_layers
    np.testing.assert_allclose(score_coverage(_score([0.3] * n_layers)).mean, expected)


def test_score_coverage_is_unknown_where_the_score_is_unknown_or_nothing() -> None:
    assert np.isnan(score_coverage(unmeasured("spectrum", 4, "the weights", "left out")).mean).all()
    assert np.isnan(score_coverage(_score([0, 0, 0])).mean).all()


def test_replicate_coverage_is_that_of_each_replicate() -> None:
    coverage = replicate_coverage(_score([0.5, 2.5], [[1.0, 3.0], [0.0, 2.0]]))
    np.testing.assert_allclose(coverage, [[1, 0.75, 0], [1, 1, 0]])


def test_the_interval_holds_the_estimate_where_the_bootstrap_is_biased() -> None:
    """As with variability: of examples drawn twice it is smaller, in some layers more than in others."""
    rng = np.random.default_rng(0)
    values = np.array([4.0, 3.0, 2.0, 1.0])
    biased = values * np.array([0.6, 0.7, 1.0, 1.1]) * np.exp(0.05 * rng.standard_normal((400, 4)))
    share = biased[:, 1:].sum(1) / biased.sum(1)
    assert share.min() > 6 / 10, "without a correction the estimate lies below every replicate"
    band = score_coverage(_score(values.tolist(), biased.tolist()))
    assert band.mean[1] == pytest.approx(6 / 10)
    assert (band.low[1:4] < band.mean[1:4]).all()
    assert (band.mean[1:4] < band.high[1:4]).all()
    assert band.high[1] - band.low[1] == pytest.approx(np.ptp(np.percentile(share, [2.5, 97.5])), rel=0.2)


def test_variability_of_small_classes_lies_in_its_own_interval() -> None:
    rng = np.random.default_rng(1)
    n, n_layers, width = 64, 6, 48
    examples = [TokenizedExample(np.arange(3), np.array([False, True, True]), f"c{i % 8}", i) for i in range(n)]
    centers = rng.standard_normal((8, width))
    spread = np.linspace(0.3, 4.0, n_layers)  # classes lie apart in the first layer, hardly in the last
    states = {
        i: np.stack([centers[i % 8] + s * rng.standard_normal(width) for s in spread]).astype(np.float32)
        for i in range(n)
    }
    score = variability_score(states, examples, n_layers, seed=0)
    assert score.replicates is not None
    as_drawn = np.array([gain_coverage(drawn) for drawn in score.replicates])
    missed = np.percentile(as_drawn, 97.5, axis=0) < gain_coverage(score.values)
    assert missed.any(), "without a correction it does not"
    band = score_coverage(score)
    assert ((band.low <= band.mean) & (band.mean <= band.high)).all()
