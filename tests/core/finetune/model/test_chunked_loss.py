"""A loss of a few logits at a time has the value and the gradients of all at once, and holds no more of them."""

import pytest
import torch

from semfreeze_core.finetune.model import chunked_loss as chunked_loss_module
from semfreeze_core.finetune.model import supervised_head
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.sources.models.decoder import find_decoder
from tests.core.finetune.loaded import task_examples
from tests.core.tiny_models import build_tiny

BATCH = Collator(task_examples(10, vocab=90))(range(6))
N_TARGETS = int((BATCH["labels"][:, 1:] >= 0).sum())


def gradients(decoder, loss, *, frozen=(), autocast=False):
    """The loss of a batch over twice its tokens, and the gradients of all trained parameters."""
    decoder.model.requires_grad_(True)
    for name, parameter in decoder.model.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(not any(part in name for part in frozen))
    network = SupervisedModel(decoder.model, decoder, loss=loss).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = network(**BATCH, num_items_in_batch=2 * N_TARGETS)["loss"]
    value.backward()
    assert network.sizes == [(6, BATCH["labels"].shape[1], N_TARGETS)]
    return value.item(), {name: p.grad for name, p in decoder.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("chunk", [1, 7, N_TARGETS, 10_000])
@pytest.mark.parametrize(
    ("family", "frozen"),
    [("llama", ()), ("llama", ("lm_head",)), ("gpt2", ()), ("gemma2", ()), ("opt-projected", ()), ("phi", ())],
)
def test_value_and_gradients_are_those_of_all_logits_at_once(family, frozen, chunk, monkeypatch):
    decoder = find_decoder(build_tiny(family))
    expected, whole = gradients(decoder, "supervised-only", frozen=frozen)
    monkeypatch.setattr(supervised_head, "chunk_tokens", lambda _: chunk)
    value, ours = gradients(decoder, "chunked", frozen=frozen)
    assert value == pytest.approx(expected, abs=1e-6)
    assert ours.keys() == whole.keys()
    for name, gradient in whole.items():
        assert torch.allclose(ours[name], gradient, atol=1e-7, rtol=1e-5), name


def test_only_the_head_may_be_trained():
    decoder = find_decoder(build_tiny("llama"))
    _, whole = gradients(decoder, "supervised-only", frozen=("model.",))
    _, ours = gradients(decoder, "chunked", frozen=("model.",))
    assert list(ours) == ["lm_head.weight"]
    assert torch.allclose(ours["lm_head.weight"], whole["lm_head.weight"], atol=1e-7)


def test_a_trained_head_under_autocast_sums_over_chunks(monkeypatch):
    decoder = find_decoder(build_tiny("llama"))
    _, exact = gradients(decoder, "supervised-only")
    monkeypatch.setattr(supervised_head, "chunk_tokens", lambda _: 5)
    _, ours = gradients(decoder, "chunked", autocast=True)
    assert torch.nn.functional.cosine_similarity(
        ours["lm_head.weight"].flatten(), exact["lm_head.weight"].flatten(), dim=0
    ) == pytest.approx(1, abs=1e-3)


def test_never_more_than_a_chunks_logits_are_computed_and_none_are_kept(monkeypatch):
    decoder = find_decoder(build_tiny("llama"))
    vocab, rows, saved = decoder.head.out_features, [], []
    whole = chunked_loss_module.linear
    monkeypatch.setattr(chunked_loss_module, "linear", lambda x, *how: rows.append(len(x)) or whole(x, *how))
    monkeypatch.setattr(supervised_head, "chunk_tokens", lambda _: 4)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(tuple(x.shape)) or x, lambda x: x):
        SupervisedModel(decoder.model, decoder, loss="chunked").train()(**BATCH)
        chunked, saved[:] = {shape for shape in saved if shape[-1:] == (vocab,)}, []
        SupervisedModel(decoder.model, decoder).train()(**BATCH)
    assert (max(rows), sum(rows)) == (4, N_TARGETS)
    assert {shape[0] for shape in chunked if len(shape) == 2} <= {4, N_TARGETS % 4}, "dropped with their chunk"
    assert (N_TARGETS, vocab) in saved


def test_an_evaluation_has_each_tokens_loss():
    decoder = find_decoder(build_tiny("llama"))
    with torch.no_grad():
        losses = [
            SupervisedModel(decoder.model, decoder, loss=loss)(**BATCH)["loss"]
            for loss in ("chunked", "supervised-only")
        ]
    assert torch.equal(*losses)


def test_a_batch_without_target_tokens_trains_nothing():
    decoder = find_decoder(build_tiny("llama"))
    empty = {**BATCH, "labels": torch.full_like(BATCH["labels"], -100)}
    loss = SupervisedModel(decoder.model, decoder, loss="chunked").train()(**empty, num_items_in_batch=1)["loss"]
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in decoder.model.parameters() if p.grad is not None)
