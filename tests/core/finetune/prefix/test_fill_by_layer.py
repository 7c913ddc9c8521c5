"""Boundary states of a prefix that is kept off the device: its layers come in once for many batches."""

import functools

import pytest
import torch
from accelerate.utils import OffloadedWeightsLoader

from semfreeze_core.finetune.freezing.freeze import freeze
from semfreeze_core.finetune.prefix import fill
from semfreeze_core.finetune.prefix.cache import build_prefix_cache
from semfreeze_core.finetune.prefix.store import CacheUnavailable
from semfreeze_core.records.training import TrainableParts
from semfreeze_core.sources.models import by_layer, causal_lm
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.memory_forecast import model_bytes
from semfreeze_core.sources.models.placement import place_prefix
from tests.core.saved_models import save_tiny
from tests.core.semantics.tiny_examples import random_examples

DEPTH = 3
EXAMPLES = random_examples(12, seed=0)
TOP = TrainableParts((False, False, False, True), embeddings=False, final_norm=True, head=False)


def load_both(folder, family="llama", dtype="float32"):
    """A tiny model frozen below its last layer: whole, and with that prefix on disk."""
    save_tiny(folder, family)
    decoders = [load_causal_lm(str(folder), dtype=dtype, device="cpu").decoder]
    parameters = sum(p.numel() for p in decoders[0].model.parameters())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal_lm, "free_bytes", lambda _: model_bytes(parameters, decoders[0].dtype) - 1)
        placing = functools.partial(place_prefix, DEPTH)
        decoders.append(load_causal_lm(str(folder), dtype=dtype, device="cpu", placing=placing).decoder)
    assert decoders[1].probe_spaces
    for decoder in decoders:
        freeze(decoder.model, TOP, names=decoder.names)
        decoder.model.train()
    return decoders


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    return load_both(tmp_path_factory.mktemp("fill_by_layer"))


@pytest.fixture
def passed(monkeypatch):
    """How many batches passed all layers together, each time."""
    counts = []

    def counting(decoder, batches, *args, **how):
        by_layer.pass_by_layer(decoder, batches, *args, **how)
        counts.append(len(batches))

    monkeypatch.setattr(fill, "pass_by_layer", counting)
    return counts


def states_of(decoder, *, batch_tokens=32, progress=lambda _: None, **how):
    return build_prefix_cache(
        decoder, DEPTH, EXAMPLES, key_base="tiny", memory_limit_bytes=2**30, batch_tokens=batch_tokens,
        progress=progress, **how,
    )  # fmt: skip


def assert_same_states(decoders, **how):
    whole, apart = (states_of(decoder, **how) for decoder in decoders)
    assert apart.key == whole.key
    assert apart.computed_in == whole.computed_in
    assert len(whole.states) == 12
    assert all(torch.equal(states, apart.states[sample]) for sample, states in whole.states.items())


def test_states_are_those_of_whole_passes_and_can_be_trained_from(decoders, passed):
    assert_same_states(decoders)
    assert len(passed) == 1
    assert passed[0] > 4
    states = next(iter(states_of(decoders[1]).states.values()))
    assert not states.is_inference()
    assert decoders[1].model.training


def test_under_autocast_too(decoders, passed):
    assert_same_states(decoders, compute_dtype=torch.bfloat16)
    assert len(passed) == 1


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mixtral", "qwen3", "bloom", "gpt_oss", "opt-projected"])
def test_of_other_families_too(tmp_path, passed, family, dtype):
    assert_same_states(load_both(tmp_path, family, dtype))
    assert len(passed) == 1


def test_each_layer_is_read_once_for_all_batches_that_memory_holds_states_of(decoders, monkeypatch, passed):
    read, fetch = [], OffloadedWeightsLoader.__getitem__

    def reading(loader, name):
        read.append(name)
        return fetch(loader, name)

    def reads(**how):
        read.clear()
        states_of(decoders[1], weights=lambda _: "known", **how)
        return sum(name == "model.layers.2.mlp.up_proj.weight" for name in read)

    monkeypatch.setattr(OffloadedWeightsLoader, "__getitem__", reading)
    assert reads() == 1
    assert "model.embed_tokens.weight" in read
    assert len(read) == len(set(read)), "the embedding too"
    n_batches = passed[-1]
    most = 32 * 32 * 4  # of one batch: tokens x d x bytes
    monkeypatch.setattr(fill, "memory_for_states", lambda: 2 * most)
    assert 1 < reads() < n_batches
    assert sum(passed[1:]) == n_batches
    monkeypatch.setattr(fill, "memory_for_states", lambda: 0)
    assert reads() == n_batches


def test_from_lower_states_too_each_layer_is_read_once(decoders, monkeypatch, passed):
    known = {"weights": lambda depth: f"known at {depth}"}  # their digest would read them too
    read, fetch = [], OffloadedWeightsLoader.__getitem__
    starts = [
        build_prefix_cache(decoder, 1, EXAMPLES, key_base="tiny", memory_limit_bytes=2**30, batch_tokens=32, **known)
        for decoder in decoders
    ]
    whole = states_of(decoders[0], start=starts[0], **known)
    passed.clear()
    monkeypatch.setattr(OffloadedWeightsLoader, "__getitem__", lambda *given: read.append(given[1]) or fetch(*given))
    apart = states_of(decoders[1], start=starts[1], **known)
    assert len(passed) == 1
    assert read.count("model.layers.2.mlp.up_proj.weight") == 1
    assert all(torch.equal(states, apart.states[sample]) for sample, states in whole.states.items())
    one = states_of(decoders[1], start=starts[1], batch_tokens=10_000, **known)
    assert len(passed) == 1, "a single batch starts where its states are"
    assert one.states.keys() == whole.states.keys()


def test_progress_goes_on_layer_by_layer_and_ends_with_all_tokens(decoders):
    events = []
    states_of(decoders[1], progress=events.append)
    done = [event.done for event in events if not event.message]
    total = sum(len(example.input_ids) for example in EXAMPLES)
    assert done[:2] == [total // DEPTH, 2 * total // DEPTH]
    assert max(done) == done[-1] == total


def test_a_model_that_hands_on_more_than_a_state_takes_whole_passes(decoders, monkeypatch):
    def differ(*_, **__):
        raise by_layer.StatesDiffer

    monkeypatch.setattr(fill, "pass_by_layer", differ)
    assert_same_states(decoders)


def test_a_batch_that_does_not_fit_is_named(decoders, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fill, "pass_by_layer", full)
    with pytest.raises(CacheUnavailable, match=r"Boundary states of \d x \d+ tokens do not fit into cpu's memory\."):
        states_of(decoders[1])
