"""Layers kept off the device: how many, where, and that a model reads the same with them."""

import numpy as np
import pytest
import torch

from semfreeze_core.device import free_bytes
from semfreeze_core.errors import ResourceError
from semfreeze_core.records.preview import LayerPlacement, PrefixPlacement
from semfreeze_core.semantics.spectrum import spectrum_score, spectrum_work
from semfreeze_core.sources.models import causal_lm, placement
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.memory_forecast import model_bytes
from semfreeze_core.sources.models.placement import (
    is_elsewhere,
    parameter_values,
    place_layers,
    place_prefix,
    values_in_memory,
)
from semfreeze_core.wording.runs import placement_sentence, prefix_placement_sentence
from tests.core.runs.tiny_run import read_tiny, task_rows, write_jsonl
from tests.core.saved_models import save_tiny
from tests.core.tiny_models import build_tiny

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("measured_once")


@pytest.fixture
def room(monkeypatch):
    """Sets how many bytes are free."""

    def allow(n):
        monkeypatch.setattr(causal_lm, "free_bytes", lambda _: n)

    return allow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placed")
    save_tiny(folder)
    return folder


def sizes(model):
    """Parameters of one layer, and of all that is no layer."""
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    return layer, sum(p.numel() for p in model.parameters()) - 4 * layer


@pytest.mark.parametrize(("n_layers", "expected"), [(1, (0, 4)), (2, (1, 3)), (3, (2, 2)), (4, (3, 1)), (5, (4, 0))])
def test_the_last_layers_stay_and_one_place_is_left_for_a_layer_on_its_way(n_layers, expected):
    model = build_tiny("llama")
    layer, others = sizes(model)
    placed = place_layers(model, torch.float32, CPU, model_bytes(others + n_layers * layer, torch.float32), 0)
    on_device, on_disk = expected
    assert placed.layers == LayerPlacement(on_device, 0, on_disk, on_disk * layer * 4)
    devices = [placed.device_map[f"model.layers.{i}"] for i in range(4)]
    assert devices == ["disk"] * on_disk + ["cpu"] * on_device
    assert {module_device for name, module_device in placed.device_map.items() if "layers" not in name} == {"cpu"}


def test_without_room_for_the_rest_and_a_layer_nothing_is_placed():
    model = build_tiny("llama")
    layer, others = sizes(model)
    assert place_layers(model, torch.float32, CPU, model_bytes(others + layer, torch.float32) - 1, 0) is None


def test_beside_a_gpu_the_machines_memory_is_filled_before_the_disk(monkeypatch):
    monkeypatch.setattr(placement, "has_own_memory", lambda _: True)
    model = build_tiny("llama")
    layer, others = sizes(model)
    gpu, memory = (model_bytes(n, torch.bfloat16) for n in (others + 2 * layer, 2 * layer))
    placed = place_layers(model, torch.bfloat16, torch.device("cuda:1"), gpu, memory)
    assert placed.layers == LayerPlacement(1, 2, 1, 2 * layer)
    assert [placed.device_map[f"model.layers.{i}"] for i in range(4)] == ["disk", "cpu", "cpu", "cuda:1"]
    assert placement_sentence(placed.layers, "cuda:1").startswith(
        "Slow: 1 of 4 layers stay on cuda:1; 2 in the machine's memory; 1 on disk, "
    )


def test_a_training_keeps_all_frozen_layers_and_an_untied_embedding_elsewhere():
    model = build_tiny("llama")
    layer, others = sizes(model)
    embedding = model.model.embed_tokens.weight.numel()
    needed = model_bytes(2 * layer + others - embedding + max(layer, embedding), torch.float32)
    assert place_prefix(2, model, torch.float32, CPU, needed - 1, 0) is None
    placed = place_prefix(2, model, torch.float32, CPU, needed, 0)
    assert placed.layers == LayerPlacement(2, 0, 2, 4 * (2 * layer + embedding))
    assert placed.prefix == PrefixPlacement(2, 4, True, 0, 4 * (2 * layer + embedding), needed)
    elsewhere = {name for name, device in placed.device_map.items() if device == "disk"}
    assert elsewhere == {"model.embed_tokens", "model.layers.0", "model.layers.1"}
    assert prefix_placement_sentence(placed.prefix, "cpu").startswith(
        "The first 2 of 4 layers and the token embedding are kept off cpu, which has no room for the whole model: "
    )


def test_a_tied_embedding_stays_where_the_head_is():
    model = build_tiny("llama", tied=True)
    placed = place_prefix(4, model, torch.float32, CPU, 2**40, 0)
    assert not placed.prefix.embedding
    assert {name for name, device in placed.device_map.items() if device == "disk"} == {
        f"model.layers.{i}" for i in range(4)
    }


def test_beside_a_gpu_a_trainings_layers_fill_the_machines_memory_from_the_boundary_down(monkeypatch):
    monkeypatch.setattr(placement, "has_own_memory", lambda _: True)
    model = build_tiny("llama")
    layer, _ = sizes(model)
    embedding = model.model.embed_tokens.weight.numel()
    gpu = torch.device("cuda:1")
    for memory, expected in ((layer, ["disk", "disk", "cpu"]), (2 * layer + embedding, ["cpu", "cpu", "cpu"])):
        free = model_bytes(memory, torch.bfloat16)
        placed = place_prefix(2, model, torch.bfloat16, gpu, 2**40, free)
        names = ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.layers.2"]
        assert [placed.device_map[name] for name in names] == [*expected, "cuda:1"]
        assert placed.prefix.memory_bytes == 2 * memory
        assert placed.prefix.memory_bytes + placed.prefix.disk_bytes == 2 * (2 * layer + embedding)


def test_what_is_saved_comes_from_disk_to_the_machines_memory(folder, room):
    layer, others = sizes(load_causal_lm(str(folder), dtype="float32", device="cpu").decoder.model)
    room(model_bytes(others + layer, torch.float32))
    model = load_causal_lm(str(folder), dtype="float32", device="cpu", placing=place_layers).decoder.model
    loader = model.model.layers[0].mlp.up_proj._hf_hook.weights_map.dataset
    loader.device = "meta"  # stands for a GPU
    with values_in_memory(model):
        assert loader["model.layers.0.mlp.up_proj.weight"].device == CPU
    assert loader.device == "meta"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_with_layers_on_disk_reads_the_same(folder, room, dtype):
    whole = load_causal_lm(str(folder), dtype=dtype, device="cpu")
    layer, others = sizes(whole.decoder.model)
    room(model_bytes(others + 2 * layer, whole.decoder.dtype))
    placed = load_causal_lm(str(folder), dtype=dtype, device="cpu", placing=place_layers)
    assert is_elsewhere(placed.decoder.model.model.layers[2])
    assert not is_elsewhere(placed.decoder.model.model.layers[3])
    assert (placed.identity, placed.shape) == (whole.identity, whole.shape)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(placed.decoder.model(ids).logits, whole.decoder.model(ids).logits)
    scores = [spectrum_score(loaded.decoder.layers, requested=True) for loaded in (placed, whole)]
    assert scores[0].values.tolist() == scores[1].values.tolist()
    assert spectrum_work(placed.decoder.layers) == spectrum_work(whole.decoder.layers)
    assert any("1 of 4 layers stay on cpu; 3 on disk" in note for note in placed.notes)
    assert is_elsewhere(placed.decoder.model.model.layers[0]), "reading brings nothing in for good"


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_experts_that_are_stacked_anew_are_read_from_disk_too(tmp_path, room, family):
    save_tiny(tmp_path, family)
    whole = load_causal_lm(str(tmp_path), dtype="float32", device="cpu")
    layers = [sum(p.numel() for p in layer.parameters()) for layer in whole.decoder.layers]
    parameters = sum(p.numel() for p in whole.decoder.model.parameters())
    room(model_bytes(parameters - sum(layers) + max(layers), torch.float32))
    placed = load_causal_lm(str(tmp_path), dtype="float32", device="cpu", placing=place_layers)
    assert all(map(is_elsewhere, placed.decoder.layers))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(placed.decoder.model(ids).logits, whole.decoder.model(ids).logits)


def test_an_analysis_from_disk_gives_the_same_run(folder, room, tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", task_rows())
    whole = read_tiny(folder, data, scores=("gradient_norm",), batch_tokens=256)
    layer, others = sizes(build_tiny("llama", vocab=whole.shape.vocab_rows))
    room(model_bytes(others + layer, torch.float32))
    placed = read_tiny(folder, data, scores=("gradient_norm",), batch_tokens=256)
    assert "Each layer off the device came in once for all examples." in placed.manifest.notes
    for metric, trace in whole.traces.items():
        assert np.array_equal(placed.traces[metric].deviation, trace.deviation)
        assert np.array_equal(placed.pairs[metric].swapped, whole.pairs[metric].swapped)
    assert np.array_equal(placed.display.coordinates, whole.display.coordinates)
    assert placed.scores["block_influence"].values.tolist() == whole.scores["block_influence"].values.tolist()
    assert placed.scores["spectrum"].values.tolist() == whole.scores["spectrum"].values.tolist()
    assert "gradients need every layer on the device" in placed.scores["gradient_norm"].reason


def test_values_come_in_the_order_asked_for():
    model = build_tiny("llama")
    names = ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"]
    values = list(parameter_values(model, names))
    assert [name for name, _ in values] == names
    assert torch.equal(values[1][1], model.model.layers[1].mlp.up_proj.weight)


def test_what_is_to_be_trained_is_loaded_whole_or_refused(folder, room):
    room(1000)
    with pytest.raises(ResourceError, match="are free on cpu"):
        load_causal_lm(str(folder), dtype="float32", device="cpu")
    with pytest.raises(ResourceError, match="are free on cpu"):  # not even one layer has room
        load_causal_lm(str(folder), dtype="float32", device="cpu", placing=place_layers)


def test_a_model_that_fits_is_loaded_whole(folder):
    loaded = load_causal_lm(str(folder), dtype="float32", device="cpu", placing=place_layers)
    assert not is_elsewhere(loaded.decoder.model)
    assert free_bytes(CPU) > 0
