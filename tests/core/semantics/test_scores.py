from collections.abc import Callable

import numpy as np
import pytest
import torch

from semfreeze_core.gains import score_coverage
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.scores import SCORE_NAMES, SLOW_SCORES, LayerScore
from semfreeze_core.semantics.analysis import prepare_labels, read_traces
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.semantics.scores import depth_prior, influence_score, read_scores, states_to_keep
from semfreeze_core.sources.models.decoder import Decoder
from tests.core.semantics.tiny_examples import make_example


def _examples(n: int = 24, *, labels: bool = True) -> list[TokenizedExample]:
    rng = np.random.default_rng(0)
    classes = [f"class {i % 2}" if labels else None for i in range(n)]
    return [
        make_example(rng.integers(3, 97, 5), rng.integers(3, 97, 3), row=i, label=label)
        for i, label in enumerate(classes)
    ]


def _read(decoder: Decoder, examples: list[TokenizedExample], seed: int = 0) -> dict[str, LayerScore]:
    positions = choose_positions(examples, 64, seed)
    states = states_to_keep(decoder, examples, seed)
    labels = prepare_labels(decoder, examples, positions, real_rows=97)
    read_traces(decoder, examples, positions, labels, scores=states)
    return read_scores(examples, states, 4, seed)


def test_read_scores_measure_all_that_comes_with_the_passes(decoder: Decoder) -> None:
    scores = _read(decoder, _examples())
    assert {*scores} == {*SCORE_NAMES} - {*SLOW_SCORES}
    for name, score in scores.items():
        assert score.name == name
        assert score.reason == ""
        assert score.values.shape == (4,)
        assert np.isfinite(score.values).all()
        assert score.sample
        coverage = score_coverage(score)
        assert (coverage.mean[0], coverage.mean[-1]) == (1, 0)
        assert (np.diff(coverage.mean) <= 0).all()


def test_read_scores_say_why_variability_is_missing(tiny_decoder: Callable[..., Decoder]) -> None:
    scores = _read(tiny_decoder(), _examples(labels=False))
    assert np.isnan(scores["variability"].values).all()
    assert "--label-field" in scores["variability"].reason
    assert np.isfinite(scores["block_influence"].values).all()


def test_read_scores_draw_their_replicates_with_the_seed(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), _examples()
    one, again, other = (_read(decoder, examples, seed=seed) for seed in (0, 0, 1))
    for name in ("block_influence", "variability"):
        np.testing.assert_allclose(one[name].replicates, again[name].replicates, rtol=1e-5)
        assert not np.allclose(one[name].replicates, other[name].replicates)
        np.testing.assert_allclose(one[name].values, other[name].values, rtol=1e-5)


def test_block_influence_of_layers_that_do_nothing_is_0(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder = tiny_decoder()
    with torch.no_grad():
        for part in (decoder.layers[1].self_attn.o_proj, decoder.layers[1].mlp.down_proj):
            part.weight.zero_()
    values = _read(decoder, _examples())["block_influence"].values
    assert values[1] == pytest.approx(0, abs=1e-6)
    assert (values[[0, 2, 3]] > 1e-4).all()


def test_influence_score_is_the_mean_over_examples() -> None:
    score = influence_score(np.array([[0.1, 0.4], [0.3, 0.2]], dtype=np.float32), seed=0)
    np.testing.assert_allclose(score.values, [0.2, 0.3], rtol=1e-6)
    assert score.replicates is not None
    assert score.replicates.shape == (1000, 2)
    # Two examples drawn twice: each twice, or one of each.
    assert {round(float(r[0]), 6) for r in score.replicates} == {0.1, 0.2, 0.3}
    assert score.sample == "2 examples"


def test_influence_score_is_unknown_where_a_state_is_zero() -> None:
    score = influence_score(np.array([[0.1, np.nan], [0.3, 0.2]], dtype=np.float32), seed=0)
    assert np.isnan(score.values).all()
    assert score.reason == "a state is zero at a supervised position"


def test_depth_prior_covers_what_is_left_of_the_layers() -> None:
    for n_layers in (2, 7, 30):
        expected = (n_layers - np.arange(n_layers + 1)) / n_layers
        np.testing.assert_allclose(score_coverage(depth_prior(n_layers)).mean, expected)
