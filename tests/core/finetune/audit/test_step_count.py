"""Counting a step: what torch counts is what is priced, and the model is left as it was."""

import numpy as np
import pytest
import torch

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.finetune.arm.flop import batch_flop, cache_flop
from semfreeze_core.finetune.audit import step_count
from semfreeze_core.finetune.audit.step_count import count_step, eager_attention
from semfreeze_core.finetune.freezing.freeze import freeze
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.finetune.prefix.suffix import Suffix
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.model_shape import measure_shape
from tests.core.finetune.loaded import task_examples
from tests.core.tiny_models import build_tiny

EXAMPLES = task_examples(6)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("depth", [0, 2, 4])
def test_count_step_equals_the_cost_model_on_a_padded_batch(family, depth):
    model = build_tiny(family)
    decoder = find_decoder(model)
    shape = measure_shape(model, decoder)
    parts = parts_at_depth(shape, depth)
    network = SupervisedModel(model, decoder).train()
    with freeze(model, parts):
        counted = count_step(network, model, Collator(EXAMPLES)(range(4)))
    setup = TrainingSetup(prefix_cache=False)
    assert counted.flop == batch_flop(shape, setup, parts, network.sizes[0])
    assert counted.saved_bytes > 0


def test_count_step_leaves_everything_as_it_was():
    model = build_tiny("llama")
    decoder = find_decoder(model)
    network = SupervisedModel(model, decoder).train()
    before = [p.detach().clone() for p in model.parameters()]
    model.model.norm.weight.grad = torch.ones(32)
    state = torch.get_rng_state()
    count_step(network, model, Collator(EXAMPLES)([0]))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert torch.equal(model.model.norm.weight.grad, torch.ones(32))
    assert sum(p.grad is not None for p in model.parameters()) == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert model.config._attn_implementation == "sdpa"


def long_batch(lengths=(17, 40, 26), n_targets=9):
    """A batch of examples longer than the small batches that FLOPs are counted on."""
    rng = np.random.default_rng(0)
    examples = []
    for row, length in enumerate(lengths):
        supervised = np.zeros(length, dtype=bool)
        supervised[-n_targets - row :] = True
        examples.append(TokenizedExample(rng.integers(5, 97, length), supervised, None, row))
    return Collator(tuple(examples))(range(len(lengths)))


def sizes_counted(monkeypatch):
    """Rows and tokens of every batch whose FLOPs torch counts from now on."""
    sizes, count = [], step_count._flop

    def counted(network, batch):
        sizes.append(tuple(batch["labels"].shape))
        return count(network, batch)

    monkeypatch.setattr(step_count, "_flop", counted)
    return sizes


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral-sliding", "gemma2", "bloom", "mixtral", "deepseek_v3"])
@pytest.mark.parametrize("loss", ["supervised-only", "chunked", "materialised"])
def test_flops_of_small_batches_give_those_of_the_whole_exactly(family, loss, monkeypatch):
    model = build_tiny(family)
    decoder = find_decoder(model)
    network = SupervisedModel(model, decoder, loss=loss).train()
    batch = long_batch()
    with freeze(model, parts_at_depth(measure_shape(model, decoder), 2)), eager_attention(model):
        whole = step_count._flop(network, batch)
        sizes = sizes_counted(monkeypatch)
        assert count_step(network, model, batch).flop == whole
    assert max(rows * length for rows, length in sizes) == 40, "no batch was larger than one example of 40 tokens"


def test_flops_are_counted_on_the_whole_where_small_batches_do_not_give_them(monkeypatch):
    model = build_tiny("llama")
    network = SupervisedModel(model, find_decoder(model)).train()

    def padded_to_sixteen(module, args):
        (x,) = args
        return torch.nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 16))

    def cut(module, args, output):
        return output[:, : cut.length]

    def remember(module, args, kwargs):
        cut.length = kwargs["input_ids"].shape[1]

    model.model.register_forward_pre_hook(remember, with_kwargs=True)
    model.model.layers[1].mlp.register_forward_pre_hook(padded_to_sixteen)
    model.model.layers[1].mlp.register_forward_hook(cut)
    batch = long_batch()
    with eager_attention(model):
        whole = step_count._flop(network, batch)
    sizes = sizes_counted(monkeypatch)
    assert count_step(network, model, batch).flop == whole
    assert sizes[-1] == (3, 40)


def test_flops_of_small_batches_are_of_a_cached_step_and_of_one_row(monkeypatch):
    model = build_tiny("llama")
    decoder = find_decoder(model)
    batch = long_batch((30,))
    states = torch.randn(1, 30, 32)
    with freeze(model, parts_at_depth(measure_shape(model, decoder), 2)):
        suffix = Suffix(decoder, 2)
        suffix.install()
        network = SupervisedModel(model, decoder, suffix).train()
        cached = {"states": states, "attention_mask": batch["attention_mask"], "labels": batch["labels"]}
        with eager_attention(model):
            whole = step_count._flop(network, cached)
        sizes = sizes_counted(monkeypatch)
        assert count_step(network, model, cached).flop == whole
        suffix.remove()
    assert (2, 12) in sizes


def test_saved_bytes_fall_with_the_depth():
    saved = []
    for depth in (0, 2, 4):
        model = build_tiny("llama")
        decoder = find_decoder(model)
        network = SupervisedModel(model, decoder).train()
        with freeze(model, parts_at_depth(measure_shape(model, decoder), depth)):
            saved.append(count_step(network, model, Collator(EXAMPLES)(range(4))).saved_bytes)
    assert saved[0] > saved[1] > saved[2] > 0


def test_eager_attention_comes_back_after_an_error():
    model = build_tiny("llama")
    implementations = []

    def fail():
        with eager_attention(model):
            implementations.append(model.config._attn_implementation)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert implementations == ["eager"]
    assert model.config._attn_implementation == "sdpa"


def test_cache_flop_is_the_prefix_of_each_example_at_its_own_length():
    model = build_tiny("llama")
    shape = measure_shape(model, find_decoder(model))
    parts = parts_at_depth(shape, 3)
    setup = TrainingSetup()
    total = cache_flop(shape, setup, parts, EXAMPLES)
    assert total == sum(cache_flop(shape, setup, parts, [e]) for e in EXAMPLES)
    assert total == 3 * cache_flop(shape, setup, parts_at_depth(shape, 1), EXAMPLES)
