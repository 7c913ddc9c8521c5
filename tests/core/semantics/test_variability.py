import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.semantics import variability
from semfreeze_core.semantics.variability import choose_classed, variability_ratio, variability_score
from tests.core.semantics.tiny_examples import make_example


def _ratio(states: np.ndarray, classes: list[int], weights: list[float] | None = None) -> float:
    states = np.asarray(states, dtype=np.float64)
    counted = np.ones(len(states)) if weights is None else np.array(weights, dtype=np.float64)
    return variability_ratio(states @ states.T, np.array(classes), counted)


def _by_definition(states: np.ndarray, classes: np.ndarray) -> float:
    """Equation 3 of Xie et al., with the covariance matrices and the pseudo-inverse written out."""
    names = np.unique(classes)
    means = np.array([states[classes == c].mean(0) for c in names])
    within = np.mean([np.cov(states[classes == c].T, bias=True) for c in names], axis=0)
    between = np.cov(means.T, bias=True)
    return float(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / len(names))


def test_variability_ratio_equals_a_hand_computed_case() -> None:
    # Means -2 and 2 on the first axis: S_B = 4 there. Within, (1 + 0)/2 = 1/2 there: the second axis does not count.
    states = np.array([[-3.0, 5], [-1, -5], [2, 9], [2, -9]])
    assert _ratio(states, [0, 0, 1, 1]) == pytest.approx(0.5 / 4 / 2)


def _random_classes(seed: int, n: int = 40, d: int = 6, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = np.arange(n) % n_classes
    return rng.normal(size=(n, d)) + rng.normal(size=(n_classes, d))[classes], classes


@pytest.mark.parametrize("d", [2, 3, 6, 60])
def test_variability_ratio_equals_its_definition(d: int) -> None:
    states, classes = _random_classes(0, d=d)
    assert _ratio(states, classes) == pytest.approx(_by_definition(states, classes), rel=1e-6)


@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-100, 100))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_variability_ratio_does_not_change_with_scale_place_or_direction(seed: int, scale: float, shift: float) -> None:
    states, classes = _random_classes(seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))
    expected = _ratio(states - states.mean(0), classes)
    moved = (scale * states + shift) @ rotation
    assert _ratio(moved - moved.mean(0), classes) == pytest.approx(expected, rel=1e-4)


def test_variability_ratio_of_classes_that_are_points_is_0() -> None:
    assert _ratio(np.array([[1.0, 0], [1, 0], [0, 2], [0, 2]]), [0, 0, 1, 1]) == pytest.approx(0)


def test_variability_ratio_grows_with_the_classes_width() -> None:
    states, classes = _random_classes(1)
    means = np.array([states[classes == c].mean(0) for c in range(4)])[classes]
    ratios = [_ratio(means + width * (states - means), classes) for width in (0.5, 1, 2)]
    np.testing.assert_allclose(ratios, [ratios[1] / 4, ratios[1], 4 * ratios[1]])


def test_variability_ratio_is_unknown_when_the_means_coincide() -> None:
    assert math.isnan(_ratio(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), [0, 0, 1, 1]))
    assert math.isnan(_ratio(np.ones((4, 2)), [0, 0, 0, 0]))


def test_variability_ratio_counts_a_state_as_often_as_it_is_drawn() -> None:
    states, classes = _random_classes(2, n=12)
    weights = np.random.default_rng(0).integers(1, 4, 12)
    assert _ratio(states, classes, weights) == pytest.approx(_ratio(states.repeat(weights, 0), classes.repeat(weights)))
    # A class that is not drawn at all takes no part.
    weights[classes == 3] = 0
    selected = classes != 3
    assert _ratio(states, classes, weights) == pytest.approx(
        _ratio(states[selected], classes[selected], weights[selected].astype(float))
    )


def _examples(labels: list[str | None]) -> list:
    return [make_example([3, 4], [5], row=i, label=label) for i, label in enumerate(labels)]


def test_choose_classed_takes_examples_of_classes_with_two() -> None:
    assert choose_classed(_examples(["a", "b", "a", None, "c", "b", None]), 4, 32, 0) == {0, 1, 2, 5}
    assert choose_classed(_examples([None] * 5), 4, 32, 0) == frozenset()


def test_choose_classed_keeps_memory_flat() -> None:
    many = _examples(["a", "b"] * 1000)
    chosen = choose_classed(many, 30, 576, 0)
    assert len(chosen) == 512
    assert chosen == choose_classed(many, 30, 576, 0) != choose_classed(many, 30, 576, 1)
    large = choose_classed(many, 80, 8192, 0)  # 2.5 MiB an example
    assert 2 < len(large) * 80 * 8192 * 4 / 2**20 <= 256


def _score(n_per_class: int, n_classes: int = 3, n_layers: int = 2, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = [f"class {i % n_classes}" for i in range(n_per_class * n_classes)]
    means = rng.normal(size=(n_classes, n_layers, 16))
    states = {
        i: (means[i % n_classes] + rng.normal(size=(n_layers, 16)) * [[1], [0.1]]).astype(np.float32)
        for i in range(len(labels))
    }
    return states, _examples(labels)


def test_variability_score_is_that_of_each_layers_output() -> None:
    states, examples = _score(10)
    score = variability_score(states, examples, 2, 0)
    classes = np.array([int(e.label[-1]) for e in examples])
    for layer in range(2):
        block = np.stack([states[i][layer] for i in range(30)]).astype(np.float64)
        assert score.values[layer] == pytest.approx(_by_definition(block, classes), rel=1e-5)
    assert score.values[0] > 10 * score.values[1]  # ten times as wide
    assert score.sample == "30 examples in 3 classes, at their first supervised token"
    assert score.reason == ""
    assert score.replicates is not None
    assert score.replicates.shape == (100, 2)
    low, high = np.percentile(score.replicates, [1, 99], axis=0)
    assert (low < score.values).all()
    assert (high > 0.7 * score.values).all()


def test_variability_score_has_no_replicates_where_classes_are_small_or_work_is_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states, examples = _score(7)
    assert variability_score(states, examples, 2, 0).replicates is None
    monkeypatch.setattr(variability, "_MOST_WORK", 1000)
    states, examples = _score(8)
    assert variability_score(states, examples, 2, 0).replicates is None


@pytest.mark.parametrize("labels", [[None] * 6, ["a"] * 6, ["a", "a", "a", "b", "c", "d"]])
def test_variability_score_asks_for_two_classes_of_two(labels: list[str | None]) -> None:
    examples = _examples(labels)
    chosen = choose_classed(examples, 2, 16, 0)
    score = variability_score({i: np.ones((2, 16), np.float32) for i in chosen}, examples, 2, 0)
    assert np.isnan(score.values).all()
    assert score.reason.startswith("it needs two classes of at least two examples each")


def test_variability_score_says_where_no_class_can_be_told_from_another() -> None:
    examples = _examples(["a", "b"] * 4)
    rng = np.random.default_rng(0)
    states = {i: np.stack([rng.normal(size=16), np.ones(16)]).astype(np.float32) for i in range(8)}
    score = variability_score(states, examples, 2, 0)
    assert np.isnan(score.values).all()
    assert score.reason == "all classes have the same mean state after layer 1"
