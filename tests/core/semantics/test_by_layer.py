"""Examples read layer by layer: what readers get is what they get from whole passes, bit for bit."""

import pytest
import torch

from semfreeze_core.semantics import extraction
from semfreeze_core.semantics.extraction import ExtractionTally, stream_batches
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.sources.models import by_layer, causal_lm
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.memory_forecast import model_bytes
from semfreeze_core.sources.models.placement import brought_in, is_elsewhere, place_layers
from tests.core.saved_models import save_tiny
from tests.core.semantics.tiny_examples import random_examples

pytestmark = pytest.mark.usefixtures("measured_once")
EXAMPLES = random_examples(12, seed=0)
POSITIONS = choose_positions(EXAMPLES, 64, seed=0)


def load_with_layers_on_disk(folder, n_disk, dtype="float32"):
    """A tiny model of four layers whose first ones are on disk."""
    with pytest.MonkeyPatch.context() as patch:
        whole = load_causal_lm(str(folder), dtype=dtype, device="cpu").decoder
        layers = [sum(p.numel() for p in layer.parameters()) for layer in whole.layers]
        needed = sum(p.numel() for p in whole.model.parameters()) - sum(layers[:n_disk]) + max(layers)
        patch.setattr(causal_lm, "free_bytes", lambda _: model_bytes(needed, whole.dtype))
        decoder = load_causal_lm(str(folder), dtype=dtype, device="cpu", placing=place_layers).decoder
    assert [is_elsewhere(layer) for layer in decoder.layers] == [True] * n_disk + [False] * (4 - n_disk)
    return decoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("by_layer")
    save_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def decoder(folder):
    return load_with_layers_on_disk(folder, 3)


def read(decoder, max_tokens=32, progress=lambda _: None):
    """Raw states (L + 1, n, d) of each batch, and what the reading took."""
    tally, states = ExtractionTally(), {}

    class Reader:
        def __init__(self, batch):
            self.spaces = []

        def __call__(self, space, raw):
            assert space == len(self.spaces)
            self.spaces.append(raw.clone())

    stream = stream_batches(
        decoder, EXAMPLES, POSITIONS, Reader, tally, stage="Reading", max_tokens=max_tokens, progress=progress
    )
    for batch, reader in stream:
        states[batch.examples] = torch.stack(reader.spaces)
    return states, tally


def assert_reads_the_same(decoder, monkeypatch):
    by_layers, tally = read(decoder)
    assert tally.by_layer
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "reads_by_layer", lambda *_: None)
        by_batches, other = read(decoder)
    assert not other.by_layer
    assert tally.tokens == other.tokens
    assert list(by_layers) == list(by_batches)
    assert len(by_layers) > 3
    assert all(torch.equal(by_layers[examples], states) for examples, states in by_batches.items())


@pytest.mark.parametrize("n_disk", [2, 4])
def test_readers_get_the_states_of_whole_passes(folder, monkeypatch, n_disk):
    assert_reads_the_same(load_with_layers_on_disk(folder, n_disk), monkeypatch)


def test_states_between_layers_may_be_kept_in_a_file(decoder, monkeypatch, tmp_path):
    monkeypatch.setattr(by_layer, "scratch_parent", lambda: tmp_path)
    monkeypatch.setattr(by_layer, "_MEMORY_SHARE", 0)
    assert by_layer.room_for_states(1) == "file"
    assert by_layer.room_for_states(2**62) is None
    written = []
    monkeypatch.setattr(
        by_layer._InFile,
        "write",
        lambda self, *args, to=by_layer._InFile.write: (written.append(list(tmp_path.iterdir())), to(self, *args)),
    )
    assert_reads_the_same(decoder, monkeypatch)
    assert all(written)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mixtral", "qwen3", "bloom", "gpt_oss", "opt", "falcon"])
def test_other_families_are_read_the_same(tmp_path, monkeypatch, family, dtype):
    save_tiny(tmp_path, family)
    assert_reads_the_same(load_with_layers_on_disk(tmp_path, 4, dtype), monkeypatch)


def test_each_layer_is_read_from_disk_once(decoder, monkeypatch):
    module = decoder.layers[0].mlp.up_proj
    loaded = []
    fetch = type(module._hf_hook.weights_map.dataset).__getitem__
    monkeypatch.setattr(
        type(module._hf_hook.weights_map.dataset),
        "__getitem__",
        lambda self, key: (loaded.append(key), fetch(self, key))[1],
    )
    read(decoder)
    assert loaded
    assert len(loaded) == len(set(loaded))


def test_a_layer_that_was_brought_in_leaves_again_and_its_calls_bring_it_in(decoder):
    layer = decoder.layers[0]
    with brought_in(layer):
        assert not is_elsewhere(layer)
    assert is_elsewhere(layer)
    assert decoder.model(torch.arange(5, 9)[None]).logits.isfinite().all()
    assert is_elsewhere(layer)


def test_one_batch_and_a_model_on_the_device_are_read_in_whole_passes(folder, decoder):
    assert not read(decoder, max_tokens=10_000)[1].by_layer
    assert not read(load_causal_lm(str(folder), dtype="float32", device="cpu").decoder)[1].by_layer


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (by_layer.StatesDiffer(), "(this model hands on more than a hidden state)"),
        (torch.OutOfMemoryError("CUDA out of memory"), "(CUDA out of memory)"),
        (OSError(28, "No space left on device"), "([Errno 28] No space left on device)"),
    ],
)
def test_where_it_cannot_be_done_batches_are_read_one_after_the_other(decoder, monkeypatch, error, reason):
    expected = read(decoder)[0]
    run, events = by_layer._run_layers, []

    def fail(decoder, which, *args):
        if which[0] == 1:
            raise error
        return run(decoder, which, *args)

    monkeypatch.setattr(by_layer, "_run_layers", fail)
    states, tally = read(decoder, progress=events.append)
    assert not tally.by_layer
    assert all(torch.equal(states[examples], value) for examples, value in expected.items())
    assert [event.message for event in events if event.message] == [
        f"The examples are not read layer by layer {reason}: every batch brings all layers in."
    ]
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in decoder.layers)


def test_a_model_that_hands_on_more_than_a_state_is_found_out(decoder, monkeypatch):
    forward = decoder.layers[1].forward
    monkeypatch.setattr(decoder.layers[1], "forward", lambda state, **rest: forward(state, **rest) * 1.001)
    with pytest.raises(by_layer.StatesDiffer):
        by_layer.pass_by_layer(decoder, [], 4, "memory")
