"""Counting a step: what torch counts is what is priced, and the model is left as it was."""

import pytest
import torch

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.finetune.arm.flop import batch_flop, cache_flop
from semfreeze_core.finetune.audit.step_count import count_step, eager_attention
from semfreeze_core.finetune.freezing.freeze import freeze
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.model_shape import measure_shape
from tests.core.finetune.loaded import task_examples
from tests.core.tiny_models import build_tiny

EXAMPLES = task_examples(6)


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
    seen = []

    def fail():
        with eager_attention(model):
            seen.append(model.config._attn_implementation)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert seen == ["eager"]
    assert model.config._attn_implementation == "sdpa"


def test_cache_flop_is_the_prefix_of_each_example_at_its_own_length():
    model = build_tiny("llama")
    shape = measure_shape(model, find_decoder(model))
    parts = parts_at_depth(shape, 3)
    setup = TrainingSetup()
    total = cache_flop(shape, setup, parts, EXAMPLES)
    assert total == sum(cache_flop(shape, setup, parts, [e]) for e in EXAMPLES)
    assert total == 3 * cache_flop(shape, setup, parts_at_depth(shape, 1), EXAMPLES)
