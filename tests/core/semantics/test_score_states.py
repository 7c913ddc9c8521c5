import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.semantics import analysis
from semfreeze_core.semantics.analysis import prepare_labels, read_traces
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.semantics.score_states import ScoreStates, block_influence
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.probe import hidden_state
from tests.core.semantics.tiny_examples import random_examples

VOCAB = 97


def _states(*spaces: list[list[float]]) -> torch.Tensor:
    return torch.tensor(spaces)


def test_block_influence_equals_a_hand_computed_case() -> None:
    # One position goes from (1, 0) to (1, 1), turned by 45 degrees, to (-2, 2), by 90 degrees, to (3, -3), by 180.
    score = block_influence(_states([[1, 0]], [[1, 1]], [[-2, 2]], [[3, -3]]))
    torch.testing.assert_close(score[:, 0], torch.tensor([1 - math.sqrt(0.5), 1, 2]))


def test_block_influence_of_a_layer_that_hands_its_input_on_is_0() -> None:
    states = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    for factor in (1, 7):  # float32 rounds a cosine of 1 to a few 1e-7
        torch.testing.assert_close(block_influence(torch.stack([states, factor * states])), torch.zeros(1, 5))


def test_block_influence_is_within_0_and_2_and_does_not_depend_on_lengths() -> None:
    states = torch.randn(6, 50, 8, generator=torch.Generator().manual_seed(0))
    score = block_influence(states)
    assert score.shape == (5, 50)
    assert ((score >= 0) & (score <= 2)).all()
    torch.testing.assert_close(block_influence(states * torch.rand(6, 50, 1).add(0.1)), score)


def _read(decoder: Decoder, examples: list[TokenizedExample], keep: set[int] = frozenset(), **how: Any) -> ScoreStates:
    positions = choose_positions(examples, 64, 0)
    labels = prepare_labels(decoder, examples, positions, real_rows=VOCAB)
    states = ScoreStates(np.full((len(examples), len(decoder.layers)), np.nan, np.float32), frozenset(keep))
    read_traces(decoder, examples, positions, labels, scores=states, **how)
    return states


@torch.no_grad()
def _raw_spaces(decoder: Decoder, example: TokenizedExample) -> torch.Tensor:
    """Raw states (L + 1, T, d): what the library reports, and the last layer's output, which it reports normalized."""
    last: list[torch.Tensor] = []
    handle = decoder.layers[-1].register_forward_hook(lambda _, __, output: last.append(hidden_state(output)))
    ids = torch.from_numpy(example.input_ids)[None]
    reported = decoder.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    handle.remove()
    return torch.stack([*reported[:-1], last[0]])[:, 0]


def test_read_traces_gather_block_influence_of_every_layer(decoder: Decoder) -> None:
    examples = random_examples(8, seed=0)
    states = _read(decoder, examples)
    for i, example in enumerate(examples):
        raw = _raw_spaces(decoder, example)[:, np.flatnonzero(example.supervised) - 1]
        expected = 1 - torch.cosine_similarity(raw[1:], raw[:-1], dim=-1)
        np.testing.assert_allclose(states.influence[i], expected.mean(1), atol=1e-5)


@pytest.mark.parametrize("waiting", [1, 500, 1000, 2**18])
def test_read_traces_carry_the_last_state_over_between_reductions(
    tiny_decoder: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    decoder, examples = tiny_decoder(), random_examples(12, seed=1)
    whole = _read(decoder, examples, {2, 5})
    monkeypatch.setattr(analysis, "_WAITING_NUMBERS", waiting)
    for max_tokens in (16, 10_000):
        score_states = _read(decoder, examples, {2, 5}, max_tokens=max_tokens)
        np.testing.assert_allclose(score_states.influence, whole.influence, atol=1e-5)
        for example in (2, 5):
            np.testing.assert_allclose(score_states.first[example], whole.first[example], atol=1e-5)


@pytest.mark.parametrize("max_tokens", [16, 10_000])
def test_read_traces_keep_the_raw_states_that_predict_the_first_token(decoder: Decoder, max_tokens: int) -> None:
    examples = random_examples(10, seed=2, completion=(2, 5))
    states = _read(decoder, examples, {1, 7, 8}, max_tokens=max_tokens)
    assert set(states.first) == {1, 7, 8}
    for i, state in states.first.items():
        first = int(np.flatnonzero(examples[i].supervised)[0])
        assert state.dtype == np.float32
        np.testing.assert_allclose(state, _raw_spaces(decoder, examples[i])[1:, first - 1], rtol=1e-4, atol=1e-5)
