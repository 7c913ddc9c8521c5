"""Boundary states computed once an example: what they are, what they cost, and that training from them is the same."""

import copy

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from semfreeze_core.cost import step_flop
from semfreeze_core.cost.boundary_states import boundary_state_bytes
from semfreeze_core.device import product_dtype, weight_dtype
from semfreeze_core.finetune.prefix.cache import build_prefix_cache
from semfreeze_core.finetune.prefix.key import cache_key
from semfreeze_core.finetune.prefix.proof import verify_cache
from semfreeze_core.finetune.prefix.store import CacheUnavailable
from semfreeze_core.finetune.prefix.suffix import Suffix
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.model_shape import measure_shape
from tests.core.finetune.boundary import (
    BATCHES,
    EXAMPLES,
    IN_MEMORY,
    N_LAYERS,
    filed,
    from_tokens,
    frozen_decoder,
    loss_of,
    tiny_cache,
    token_batch,
    train,
    trained_from,
)
from tests.core.semantics.tiny_examples import make_example, random_examples
from tests.core.tiny_models import FAMILIES, VARIANTS, build_tiny

# Nats per supervised token. Seen: float32 below 1e-7 when summed in float64; bfloat16 equal to the bit but for gpt_oss,
# up to 2e-3: its experts' biases sum gradients (zeros) over padding too, whose states and so whose experts differ.
FLOAT32_LOSS, BFLOAT16_LOSS = 1e-6, 5e-3


# Training


def train_both_ways(decoder, k):
    """Losses and final weights, from token ids and from cached states."""
    cache, suffix = tiny_cache(decoder, k), Suffix(decoder, k)
    verify_cache(decoder, suffix, cache, EXAMPLES)
    decoder.model.train()
    begun = copy.deepcopy(decoder.model.state_dict())
    uncached = train(decoder, from_tokens(decoder))
    weights = copy.deepcopy(decoder.model.state_dict())
    decoder.model.load_state_dict(begun)
    with suffix:
        cached = train(decoder, lambda indices: suffix(*cache.batch(indices)))
    changed = [name for name, weight in begun.items() if not torch.equal(weight, weights[name])]
    assert changed  # else nothing was trained and nothing proved
    return uncached, cached, weights


# Depths and tied heads in turn; the families written down first meet all.
DEPTHS = [(1, False), (N_LAYERS, False), (2, True)]
AT_DEPTHS = [
    (family, k, tied)
    for i, family in enumerate(VARIANTS)
    for k, tied in (DEPTHS if family in FAMILIES else DEPTHS[i % 3 : i % 3 + 1])
]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("family", "k", "tied"), AT_DEPTHS)
def test_training_from_a_cache_is_training(family, k, tied):
    decoder = frozen_decoder(family, k, tied=tied)
    uncached, cached, weights = train_both_ways(decoder, k)
    assert np.abs(np.subtract(uncached, cached)).max() <= FLOAT32_LOSS
    for name, weight in decoder.model.state_dict().items():
        # AdamW divides by a gradient's own size, so that rounding shows where a gradient is nothing but rounding.
        torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-4)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("family", [*FAMILIES, "gemma2", "opt-projected", "bloom", "mixtral", "gpt_oss", "deepseek_v3"])
def test_training_from_a_cache_in_bfloat16_is_training(family):
    uncached, cached, _ = train_both_ways(frozen_decoder(family, 2, dtype=torch.bfloat16), 2)
    assert np.abs(np.subtract(uncached, cached)).max() <= BFLOAT16_LOSS


# States


def test_a_batch_holds_the_models_own_states_and_zeros_beside_them():
    decoder = frozen_decoder("gemma2", 2)
    cache = tiny_cache(decoder, 2, batch_tokens=30)  # not the batches that are asked for
    states, mask = cache.batch(BATCHES[0])
    ids, own_mask = token_batch(BATCHES[0])
    expected = decoder.model(ids, attention_mask=own_mask, output_hidden_states=True).hidden_states[2]
    assert torch.equal(mask, own_mask)
    assert mask.min() == 0
    torch.testing.assert_close(states[mask == 1], expected[mask == 1], rtol=1e-5, atol=1e-5)
    assert not states[mask == 0].any()
    assert states.dtype == torch.float32
    assert not states.requires_grad


@pytest.mark.parametrize("family", ["llama", "opt-projected"])
def test_a_cache_says_what_it_holds(family):
    cache = tiny_cache(frozen_decoder(family, 2), 2)
    assert (len(cache), cache.k, cache.where, cache.hits) == (12, 2, "memory", 0)
    assert (
        cache.bytes == sum(s.nbytes for s in cache.states.values()) == 32 * 4 * sum(len(e.input_ids) for e in EXAMPLES)
    )
    assert cache.seconds > 0
    assert cache.computed_in == torch.float32


def test_equal_examples_share_their_states_and_supervision_does_not_matter():
    once, again = make_example([5, 6], [7]), make_example([5], [6, 7])
    cache = build_prefix_cache(frozen_decoder(), 2, [once, again], **IN_MEMORY)
    assert len(cache) == 2
    assert cache.bytes == 3 * 32 * 4
    states, _ = cache.batch([0, 1])
    assert torch.equal(states[0], states[1])


def test_the_prefix_runs_in_eval_mode_and_keeps_its_mode():
    decoder = frozen_decoder("gpt2", 2)
    expected = tiny_cache(decoder, 2).batch([0, 1])[0]
    for module in decoder.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    decoder.model.train()
    decoder.layers[3].eval()
    modes = [module.training for module in decoder.model.modules()]
    assert torch.equal(tiny_cache(decoder, 2).batch([0, 1])[0], expected)
    assert [module.training for module in decoder.model.modules()] == modes


def test_progress_tells_tokens_up_to_all():
    events = []
    tiny_cache(frozen_decoder(), 2, batch_tokens=40, progress=events.append)
    total = sum(len(e.input_ids) for e in EXAMPLES)
    done = [event.done for event in events]
    assert done == sorted(done)
    assert len(done) > 3
    assert (done[-1], events[0].total, events[0].unit) == (total, total, "tokens")


def test_a_prefix_cache_needs_examples_and_a_prefix():
    decoder = frozen_decoder()
    with pytest.raises(ValueError, match="needs examples"):
        build_prefix_cache(decoder, 2, [], **IN_MEMORY)
    for k in (0, N_LAYERS + 1):
        with pytest.raises(ValueError, match="a prefix has 1 to 4 layers"):
            tiny_cache(decoder, k)
    with pytest.raises(CacheUnavailable, match=r"take 0.0 MiB, the memory limit is 0.0 MiB, and there is no folder"):
        tiny_cache(decoder, 2, memory_limit_bytes=100)


def test_a_device_without_memory_makes_no_cache():
    decoder = frozen_decoder()

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    decoder.layers[0].register_forward_pre_hook(fail)
    with pytest.raises(CacheUnavailable, match=r"Boundary states of 12 x \d+ tokens do not fit into cpu's memory"):
        tiny_cache(decoder, 2)


# Price


def prefix_flop(shape, k, batch_size, sequence_length):
    """As a run's price counts filling the cache: the forward pass without the part that cached steps compute."""
    setup = TrainingSetup(batch_size=batch_size, sequence_length=sequence_length)
    uncached, cached = (step_flop(shape, setup, trained_from(k), cached=c).forward for c in (False, True))
    return uncached - cached


def count(build):
    with FlopCounterMode(display=False) as counter:
        cache = build()
    return cache, counter.get_total_flops()


@pytest.mark.parametrize("family", ["llama", "opt-projected", "falcon-alibi", "deepseek_v3"])
def test_filling_costs_the_prefix_alone(family):
    decoder = find_decoder(build_tiny(family, attention="eager"))
    shape = measure_shape(decoder.model, decoder)
    equal = random_examples(6, 1, prompt=(6, 6), completion=(3, 3))
    for k in range(1, N_LAYERS + 1):
        _, counted = count(lambda k=k: build_prefix_cache(decoder, k, equal, batch_tokens=27, **IN_MEMORY))
        assert counted == prefix_flop(shape, k, 6, 9)


def test_going_on_from_a_lower_depth_costs_the_layers_between():
    decoder = find_decoder(build_tiny("llama", attention="eager"))
    shape = measure_shape(decoder.model, decoder)
    equal = random_examples(6, 1, prompt=(6, 6), completion=(3, 3))
    start, whole = (build_prefix_cache(decoder, k, equal, **IN_MEMORY) for k in (1, 3))
    cache, counted = count(lambda: build_prefix_cache(decoder, 3, equal, start=start, **IN_MEMORY))
    probe = prefix_flop(shape, 1, 2, 12)  # from which the suffix learns how layer 0 answers
    assert counted == prefix_flop(shape, 3, 6, 9) - prefix_flop(shape, 1, 6, 9) + probe
    assert cache.key == whole.key
    torch.testing.assert_close(cache.batch(range(6))[0], whole.batch(range(6))[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", VARIANTS)
def test_going_on_from_a_lower_depth_gives_the_same_states(family):
    decoder = frozen_decoder(family, 3)
    cache = tiny_cache(decoder, 3, start=tiny_cache(decoder, 1), batch_tokens=40)
    torch.testing.assert_close(
        cache.batch(range(12))[0], tiny_cache(decoder, 3).batch(range(12))[0], rtol=1e-4, atol=1e-5
    )


def test_going_on_refuses_a_start_of_something_else():
    decoder = frozen_decoder()
    lower = tiny_cache(decoder, 2)
    with pytest.raises(CacheUnavailable, match=r"Depth 2 cannot start from a cache of another .*depth is 2"):
        tiny_cache(decoder, 2, start=lower)
    with pytest.raises(CacheUnavailable, match="Depth 3 cannot"):
        tiny_cache(frozen_decoder(seed=1), 3, start=lower)
    with pytest.raises(CacheUnavailable, match="Depth 3 cannot"):
        build_prefix_cache(decoder, 3, [*EXAMPLES, make_example([9, 9], [9])], start=lower, **IN_MEMORY)


# Precision


def test_a_lower_precision_is_used_when_it_agrees():
    decoder, events = frozen_decoder(), []
    precise = tiny_cache(decoder, 2)
    rough = tiny_cache(decoder, 2, compute_dtype=torch.bfloat16, progress=events.append)
    states, _ = rough.batch(range(12))
    assert rough.computed_in == torch.bfloat16
    assert rough.key != precise.key
    assert states.dtype == torch.bfloat16
    assert rough.bytes == precise.bytes // 2
    torch.testing.assert_close(states.float(), precise.batch(range(12))[0], rtol=0.05, atol=0.05)
    assert (
        "computed and stored in bfloat16: the mean cosine of bfloat16 and float32 on a probe is 1.0000, at least"
        in events[0].message
    )
    verify_cache(decoder, Suffix(decoder, 2), rough, EXAMPLES)  # to the tolerance of bfloat16


def test_a_lower_precision_that_disagrees_is_not_used(monkeypatch):
    monkeypatch.setattr("semfreeze_core.finetune.prefix.fill._AGREEMENT", 1.1)
    decoder, events = frozen_decoder(), []
    cache = tiny_cache(decoder, 2, compute_dtype=torch.bfloat16, progress=events.append)
    precise = tiny_cache(decoder, 2)
    assert (cache.computed_in, cache.key) == (torch.float32, precise.key)
    assert torch.equal(cache.batch([0])[0], precise.batch([0])[0])
    assert "computed and stored in float32" in events[0].message
    assert "not at least" in events[0].message


def autocast_loss(decoder, head_input, indices):
    """Loss and gradients under autocast."""
    decoder.model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(decoder, head_input(indices), indices)
    loss.backward()
    trained = [p.grad.flatten() for p in decoder.model.parameters() if p.requires_grad]
    return loss.item(), torch.cat(trained)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("k", [1, 3])
def test_states_stored_in_bfloat16_train_under_autocast_as_its_own_do(family, k):
    """Read in the model's dtype, they differ by one rounding: seen in the loss up to 2e-4, in gradients up to 0.6%."""
    decoder = frozen_decoder(family, k)
    cache = tiny_cache(decoder, k, compute_dtype=torch.bfloat16)
    assert cache.computed_in == torch.bfloat16
    expected, gradient = autocast_loss(decoder, from_tokens(decoder), BATCHES[0])
    with Suffix(decoder, k) as suffix:
        states, mask = cache.batch(BATCHES[0])
        with torch.autocast("cpu", torch.bfloat16):
            assert suffix(states, mask).dtype == from_tokens(decoder)(BATCHES[0]).dtype
        loss, other = autocast_loss(decoder, lambda indices: suffix(*cache.batch(indices)), BATCHES[0])
    assert loss == pytest.approx(expected, abs=1e-3)
    assert float((other - gradient).norm() / gradient.norm()) < 0.02


@pytest.mark.parametrize("precision", ["float32", "bf16-autocast", "bf16"])
def test_the_price_of_states_is_what_they_take(precision):
    decoder = frozen_decoder(dtype=weight_dtype(precision))
    shape = measure_shape(decoder.model, decoder)
    for k in (1, 3):
        cache = tiny_cache(decoder, k, compute_dtype=product_dtype(precision))
        assert cache.bytes == sum(states.nbytes for states in cache.states.values())
        assert cache.bytes == boundary_state_bytes(shape, precision, sum(len(e.input_ids) for e in EXAMPLES))


def test_states_that_were_stored_in_the_models_dtype_are_not_taken_for_others(tmp_path, monkeypatch):
    decoder = frozen_decoder()
    filed(decoder, tmp_path, compute_dtype=torch.bfloat16)
    assert filed(decoder, tmp_path, compute_dtype=torch.bfloat16).hits == 12
    before = {"key_base": "tiny", "computed_in": torch.bfloat16}
    ours = cache_key(decoder, 2, **before)
    written = []
    monkeypatch.setattr("semfreeze_core.finetune.prefix.key.digest", written.append)
    cache_key(decoder, 2, **before)
    cache_key(decoder, 2, "tiny", torch.float32)
    assert [document.get("stored_in") for document in written] == ["torch.bfloat16", None]
    assert (tmp_path / ours).is_dir()


def test_a_model_in_bfloat16_keeps_states_in_bfloat16():
    decoder = frozen_decoder(dtype=torch.bfloat16)
    cache = tiny_cache(decoder, 2, compute_dtype=torch.bfloat16)
    assert cache.batch([0])[0].dtype == cache.computed_in == torch.bfloat16
    assert cache.bytes == 32 * 2 * sum(len(e.input_ids) for e in EXAMPLES)
    with pytest.raises(ValueError, match=r"in torch.bfloat16 cannot be computed in torch.float32"):
        tiny_cache(decoder, 2, compute_dtype=torch.float32)
