import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.gains import gain_coverage, score_coverage
from semfreeze_core.gains.score_coverage import replicate_coverage
from semfreeze_core.records.scores import LayerScore, unmeasured

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
    band = score_coverage(_score([1, 1], [[0, 5]] * 10 + [[2, 2]] * 90))
    np.testing.assert_allclose(band.mean, [1, 0.5, 0])
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
    found = replicate_coverage(np.array([[1.0, 3.0], [0.0, 2.0]]))
    np.testing.assert_allclose(found, [[1, 0.75, 0], [1, 1, 0]])
