from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.semantics import gradient_norm
from semfreeze_core.semantics.gradient_norm import gradient_score, relative_norm
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.sources.models.decoder import Decoder
from tests.core.semantics.tiny_examples import make_example, random_examples


def test_relative_norm_equals_a_hand_computed_case() -> None:
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
        layer.bias.fill_(12.0)
    assert relative_norm(layer) == 0
    layer.weight.grad = torch.tensor([[0.3, 0.4]])
    layer.bias.grad = torch.tensor([1.2])
    assert relative_norm(layer) == pytest.approx(0.1)
    layer.bias.grad = None
    assert relative_norm(layer) == pytest.approx(0.5 / 13)


def _by_hand(decoder: Decoder, examples: list[TokenizedExample]) -> list[float]:
    """One example after the other through the whole model, and one backward pass of their mean loss."""
    losses = []
    for example in examples:
        ids = torch.from_numpy(example.input_ids)
        logits = decoder.model(input_ids=ids[None]).logits[0]
        at = np.flatnonzero(example.supervised)
        losses.append(nn.functional.cross_entropy(logits[at - 1], ids[at]))
    decoder.model.zero_grad()
    torch.stack(losses).mean().backward()
    norms = [
        (sum(p.grad.square().sum() for p in layer.parameters()) / sum(p.square().sum() for p in layer.parameters()))
        .sqrt()
        .item()
        for layer in decoder.layers
    ]
    decoder.model.zero_grad()
    return norms


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("max_tokens", [16, 10_000])
def test_gradient_score_equals_autograd_by_hand(decoder: Decoder, max_tokens: int) -> None:
    examples = random_examples(9, seed=0)
    score = gradient_score(decoder, examples, choose_positions(examples, 64, 0), max_tokens=max_tokens)
    np.testing.assert_allclose(score.values, _by_hand(decoder, examples), rtol=1e-4)
    assert (score.sample, score.reason, score.replicates) == ("9 examples, one backward pass", "", None)


def test_gradient_score_does_not_depend_on_how_many_logits_live_at_once(
    tiny_decoder: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, examples = tiny_decoder(), random_examples(9, seed=1, completion=(3, 5))
    positions = choose_positions(examples, 64, 0)
    whole = gradient_score(decoder, examples, positions)
    monkeypatch.setattr(gradient_norm, "_HEAD_CHUNK", 4)
    np.testing.assert_allclose(gradient_score(decoder, examples, positions).values, whole.values, rtol=1e-5)


def test_gradient_score_weighs_every_example_alike(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder = tiny_decoder()
    short, long = make_example([5, 6], [7], row=0), make_example([8, 9], [10, 11, 12, 13], row=1)
    score = gradient_score(decoder, [short, long], choose_positions([short, long], 64, 0))
    np.testing.assert_allclose(score.values, _by_hand(decoder, [short, long]), rtol=1e-4)


def test_gradient_score_reads_only_the_positions_it_is_given(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, example = tiny_decoder(), make_example([8, 9], [10, 11, 12, 13])
    first = gradient_score(decoder, [example], choose_positions([example], 1, 0))
    np.testing.assert_allclose(first.values, _by_hand(decoder, [make_example([8, 9], [10])]), rtol=1e-4)


@pytest.mark.parametrize("inference", [False, True])
def test_gradient_score_leaves_the_model_as_it_was(tiny_decoder: Callable[..., Decoder], inference: bool) -> None:
    decoder, examples = tiny_decoder(), random_examples(4, seed=0)
    decoder.layers[1].requires_grad_(False)
    before = {n: (p.detach().clone(), p.requires_grad) for n, p in decoder.model.named_parameters()}
    with torch.no_grad() if inference else torch.enable_grad():
        score = gradient_score(decoder, examples, choose_positions(examples, 64, 0))
    assert (score.values > 0).all()
    for name, parameter in decoder.model.named_parameters():
        values, required = before[name]
        assert torch.equal(parameter, values)
        assert parameter.requires_grad == required
        assert parameter.grad is None
    for layer in decoder.layers:
        assert not layer._forward_hooks


def test_gradient_score_is_unknown_when_memory_runs_out(
    tiny_decoder: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    decoder, examples = tiny_decoder(), random_examples(4, seed=0)
    monkeypatch.setattr(gradient_norm, "_add_gradient", no_memory)
    score = gradient_score(decoder, examples, choose_positions(examples, 64, 0))
    assert np.isnan(score.values).all()
    assert score.reason.startswith("memory ran out")
    assert all(p.requires_grad for p in decoder.model.parameters())


def test_gradient_score_passes_other_errors_on_and_cleans_up(
    tiny_decoder: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a matrix has the wrong shape")

    decoder, examples = tiny_decoder(), random_examples(4, seed=0)
    monkeypatch.setattr(gradient_norm, "_add_gradient", broken)
    with pytest.raises(RuntimeError, match="wrong shape"):
        gradient_score(decoder, examples, choose_positions(examples, 64, 0))
    assert all(p.requires_grad and p.grad is None for p in decoder.model.parameters())


def test_gradient_score_is_unknown_when_the_loss_is_not_finite(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), random_examples(4, seed=0)
    with torch.no_grad():
        decoder.head.weight[5] = torch.inf
    score = gradient_score(decoder, examples, choose_positions(examples, 64, 0))
    assert np.isnan(score.values).all()
    assert score.reason == "the loss's gradient is not finite in this dtype"
