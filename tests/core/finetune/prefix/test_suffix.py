"""A model run from its boundary states: its own answers, its price, and weights that leave and come back."""

import gc
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch
from torch.utils.flop_counter import FlopCounterMode

from semfreeze_core.cost import flop_status, step_flop
from semfreeze_core.errors import ResourceError, RunError
from semfreeze_core.finetune.freezing.freeze import freeze
from semfreeze_core.finetune.prefix.forward import boundary_states
from semfreeze_core.finetune.prefix.suffix import Suffix
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.model_shape import measure_shape
from semfreeze_core.temporary import remove_leftovers
from tests.core.cost.counted_step import prepare
from tests.core.finetune.boundary import (
    BATCHES,
    N_LAYERS,
    from_tokens,
    frozen_decoder,
    loss_of,
    tiny_cache,
    token_batch,
    trained_from,
)
from tests.core.tiny_models import VARIANTS, build_tiny

DEPTHS = range(1, N_LAYERS + 1)
SETUP = TrainingSetup(batch_size=2, sequence_length=11)


def two_depths(family):
    """Two of the depths, one apart from the other, in turn."""
    turn = VARIANTS.index(family) % 2
    return (DEPTHS[turn], DEPTHS[turn + 2])


def boundary(decoder, k, ids, mask=None):
    return boundary_states(decoder, k, lambda: decoder.base(input_ids=ids, attention_mask=mask, use_cache=False))


def gradients(decoder):
    return {n: p.grad.clone() for n, p in decoder.model.named_parameters() if p.grad is not None}


# Answers


@pytest.mark.parametrize("family", VARIANTS)
def test_a_suffix_gives_the_head_what_the_model_gives_it(family):
    for k in two_depths(family):
        decoder = frozen_decoder(family, k)
        ids, mask = token_batch(BATCHES[0])
        expected = from_tokens(decoder)(BATCHES[0])
        states = boundary(decoder, k, ids, mask)
        with Suffix(decoder, k) as suffix:
            output = suffix(states, mask)
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
        assert not torch.equal(output[0, :-1], output[0, 1:])  # states, not one constant


def test_a_suffix_without_a_mask_reads_states_of_one_length():
    decoder = frozen_decoder("bloom", 2)
    ids = torch.arange(3, 25).reshape(2, 11)
    with Suffix(decoder, 2) as suffix:
        output = suffix(boundary(decoder, 2, ids))
    torch.testing.assert_close(output, decoder.base(input_ids=ids, use_cache=False).last_hidden_state)


def test_between_its_calls_the_model_is_its_own():
    decoder = frozen_decoder("opt-projected-normed", 2)
    classes = {module: type(module) for module in decoder.model.modules()}
    expected = from_tokens(decoder)(BATCHES[0])
    cache = tiny_cache(decoder, 2)
    with Suffix(decoder, 2) as suffix:
        suffix(*cache.batch(BATCHES[1]))
        assert torch.equal(from_tokens(decoder)(BATCHES[0]), expected)
        assert torch.equal(
            deepcopy(decoder.model)(*token_batch(BATCHES[0])).logits, decoder.model(*token_batch(BATCHES[0])).logits
        )
    assert {module: type(module) for module in decoder.model.modules()} == classes
    assert not suffix.installed


def test_a_suffix_keeps_the_boundary_of_a_frozen_model():
    decoder = find_decoder(build_tiny("llama"))
    cache = tiny_cache(decoder, 2)
    with freeze(decoder.model, trained_from(2)):
        classes = [type(layer) for layer in decoder.layers]
        with Suffix(decoder, 2) as suffix:
            loss_of(decoder, suffix(*cache.batch(BATCHES[0])), BATCHES[0]).backward()
            cached = gradients(decoder)
            decoder.model.zero_grad()
            loss_of(decoder, from_tokens(decoder)(BATCHES[0]), BATCHES[0]).backward()
        assert [type(layer) for layer in decoder.layers] == classes
        assert cached.keys() == gradients(decoder).keys()
        for name, gradient in gradients(decoder).items():
            torch.testing.assert_close(cached[name], gradient, rtol=1e-4, atol=1e-7)


def test_a_suffix_leaves_alone_what_was_given_back_before_it():
    decoder = find_decoder(build_tiny("llama"))
    layer_class = type(decoder.layers[0])
    freezing = freeze(decoder.model, trained_from(2))
    suffix = Suffix(decoder, 2)
    suffix.install()
    freezing.undo()
    suffix.remove()
    assert all(type(layer) is layer_class for layer in decoder.layers)


def test_an_error_in_a_trained_layer_leaves_no_states_behind():
    decoder = frozen_decoder("llama", 2)
    cache = tiny_cache(decoder, 2)
    expected = from_tokens(decoder)(BATCHES[0])

    def fail(*_):
        raise OverflowError

    with Suffix(decoder, 2) as suffix:
        handle = decoder.layers[3].register_forward_pre_hook(fail)
        with pytest.raises(OverflowError):
            suffix(*cache.batch(BATCHES[0]))
        handle.remove()
        assert torch.equal(from_tokens(decoder)(BATCHES[0]), expected)


def test_a_suffix_refuses_what_it_cannot_do():
    decoder = frozen_decoder("opt", 2)
    cache = tiny_cache(decoder, 2)
    for k in (0, N_LAYERS + 1):
        with pytest.raises(ValueError, match=f"a prefix has 1 to {N_LAYERS} layers, not {k}"):
            Suffix(decoder, k)
    suffix = Suffix(decoder, 2)
    with pytest.raises(RuntimeError, match="not installed"):
        suffix(*cache.batch([0]))
    with pytest.raises(RuntimeError, match="only an installed suffix"):
        suffix.offload()
    with suffix:
        with pytest.raises(RuntimeError, match="installed already"):
            suffix.install()
        decoder.model.model.decoder.layerdrop = 1.0
        decoder.model.train()
        with pytest.raises(RuntimeError, match="did not call layer 1"):
            suffix(*cache.batch([0]))


# Price


@pytest.mark.parametrize("family", VARIANTS)
def test_a_cached_step_costs_what_step_flop_says(family):
    tied = VARIANTS.index(family) % 4 < 2  # in turn, beside the depths
    model = build_tiny(family, tied=tied, attention="eager")
    decoder = find_decoder(model)
    shape = measure_shape(model, decoder)
    ids = torch.randint(3, 97, (SETUP.batch_size, SETUP.sequence_length), generator=torch.Generator().manual_seed(0))
    for k in two_depths(family):
        parts = trained_from(k)
        prepare(model, shape, SETUP, parts, boundary=False)
        states = boundary(decoder, k, ids)
        with Suffix(decoder, k) as suffix, FlopCounterMode(display=False) as counter:
            decoder.head(suffix(states)).sum().backward()
        assert counter.get_total_flops() == step_flop(shape, SETUP, parts, cached=True).total, k
        model.zero_grad()


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize(
    ("family", "mode"),
    [
        ("llama", "reentrant"),
        ("llama", "non-reentrant"),
        ("gpt2", "reentrant"),
        ("gpt_neox", "non-reentrant"),
        ("falcon-alibi", "reentrant"),
        ("qwen3_moe", "non-reentrant"),
    ],
)
def test_checkpointed_layers_get_the_same_gradients_from_states_at_the_price_of_step_flop(family, mode):
    decoder = find_decoder(build_tiny(family, attention="eager"))
    shape, setup, parts = measure_shape(decoder.model, decoder), replace(SETUP, checkpointing=mode), trained_from(2)
    ids = torch.randint(3, 97, (setup.batch_size, setup.sequence_length), generator=torch.Generator().manual_seed(0))
    states = boundary(decoder, 2, ids)
    decoder.model.train()
    by_checkpointing = []
    with Suffix(decoder, 2) as suffix:
        for how in (SETUP, setup):
            prepare(decoder.model, shape, how, parts, boundary=False)
            with FlopCounterMode(display=False) as counter:
                decoder.head(suffix(states)).square().mean().backward()
            by_checkpointing.append(gradients(decoder))
            if flop_status(shape, how) == "exact":
                assert counter.get_total_flops() == step_flop(shape, how, parts, cached=True).total
            decoder.model.zero_grad()
    expected, checkpointed = by_checkpointing
    assert any(name.startswith(f"{decoder.names.layer_prefix}2.") for name in expected)
    assert checkpointed.keys() == expected.keys()
    for name, gradient in checkpointed.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7)


# Weights off the device


def lies_in_a_file(parameter):
    """Whether a tensor's memory is mapped from a file."""
    address = parameter.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        low, high = (int(end, 16) for end in fields[0].split("-"))
        if low <= address < high:
            return len(fields) == 6 and ".semfreeze-part-" in fields[5]
    return False


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what memory is mapped from")
@pytest.mark.parametrize("tied", [False, True])
def test_offloaded_weights_lie_in_a_file_and_come_back_bit_by_bit(tied, tmp_path):
    decoder = frozen_decoder("gpt2", 2, tied=tied)
    cache = tiny_cache(decoder, 2)
    before = {name: p.detach().clone() for name, p in decoder.model.named_parameters()}
    names = [n for n in before if n.startswith(("transformer.wpe", "transformer.h.0.", "transformer.h.1."))]
    names += [] if tied else ["transformer.wte.weight"]
    parameters = dict(decoder.model.named_parameters())
    with Suffix(decoder, 2) as suffix:
        expected = suffix(*cache.batch(BATCHES[0]))
        gone = suffix.offload(tmp_path / "weights")
        assert (gone.where, gone.bytes) == ("file", sum(before[n].nbytes for n in names))
        assert suffix.offload(tmp_path / "weights") == gone
        assert {n for n, p in parameters.items() if lies_in_a_file(p)} == set(names)
        assert list((tmp_path / "weights").iterdir()) == []  # nameless once mapped
        assert torch.equal(suffix(*cache.batch(BATCHES[0])), expected)
    gc.collect()
    assert not any(lies_in_a_file(p) for p in parameters.values())
    assert dict(decoder.model.named_parameters()) == parameters
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())


def test_offloading_survives_another_process_that_clears_leftovers_away(tmp_path, monkeypatch):
    def after_clearing(*args, **how):
        remove_leftovers(tmp_path)  # as a process does that offloads at the same time
        return safetensors.safe_open(*args, **how)

    monkeypatch.setattr("semfreeze_core.finetune.prefix.offload.safe_open", after_clearing)
    with Suffix(frozen_decoder("llama", 2), 2) as suffix:
        assert suffix.offload(tmp_path).where == "file"


def test_offload_without_a_folder_says_that_weights_on_a_cpu_stay():
    with Suffix(frozen_decoder("llama", 2), 2) as suffix:
        gone = suffix.offload()
    assert (gone.where, gone.bytes) == ("stayed", 0)


@pytest.mark.parametrize(
    ("said", "error"), [("No space left on device (os error 28)", ResourceError), ("File too large", RunError)]
)
def test_offload_to_a_full_disk_leaves_the_weights(said, error, tmp_path, monkeypatch):
    def fail(*_):
        raise safetensors.SafetensorError(said)

    monkeypatch.setattr("semfreeze_core.finetune.prefix.offload.save_file", fail)
    decoder = frozen_decoder("llama", 2)
    expected = from_tokens(decoder)(BATCHES[0])
    with Suffix(decoder, 2) as suffix:
        with pytest.raises(error):
            suffix.offload(tmp_path)
        assert torch.equal(from_tokens(decoder)(BATCHES[0]), expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
def test_offloaded_weights_leave_a_gpu_and_come_back():
    decoder = frozen_decoder("gpt2", 2, tied=False)
    decoder.model.to("cuda")
    cache = tiny_cache(decoder, 2)
    before = {name: p.detach().clone() for name, p in decoder.model.named_parameters()}
    with Suffix(decoder, 2) as suffix:
        expected = suffix(*cache.batch(BATCHES[0]))
        assert suffix.offload().where == "cpu"
        assert decoder.layers[1].attn.c_attn.weight.device.type == "cpu"
        assert torch.equal(suffix(*cache.batch(BATCHES[0])), expected)
        with pytest.raises(RuntimeError, match=r"onload\(\) first"):
            decoder.model(torch.tensor([[5, 6]], device="cuda"))
    assert all(p.is_cuda and torch.equal(p, before[name]) for name, p in decoder.model.named_parameters())
