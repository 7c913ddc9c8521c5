"""Loading for reading: the device, the memory asked first, and a dtype that was proved rather than assumed."""

import re
from types import SimpleNamespace

import pytest
import torch

from semfreeze_core.errors import ModelError, ResourceError
from semfreeze_core.sources.models import causal_lm
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from tests.core.saved_models import save_tiny, save_tiny_gguf
from tests.core.tiny_models import FAMILIES

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread(measured_once):
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path):
    save_tiny(tmp_path)
    return str(tmp_path)


@pytest.fixture
def loads(monkeypatch):
    """The dtypes in which weights are loaded, in order."""
    dtypes = []
    inner = causal_lm.load_model

    def load(checkpoint, dtype, *device):
        dtypes.append(dtype)
        return inner(checkpoint, dtype, *device)

    monkeypatch.setattr(causal_lm, "load_model", load)
    return dtypes


def allow_native_bfloat16(monkeypatch, native=True):
    monkeypatch.setattr(causal_lm, "_native_bfloat16", lambda: native)


def leave_free(monkeypatch, n_bytes):
    monkeypatch.setattr(causal_lm, "free_bytes", lambda device: n_bytes)


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("family", "dtype"), list(zip(FAMILIES, ["float32", "bfloat16"] * 2, strict=True)))
def test_load_causal_lm_takes_the_dtype_it_is_told(tmp_path, loads, family, dtype):
    save_tiny(tmp_path, family)
    loaded = load_causal_lm(str(tmp_path), dtype=dtype, device="cpu")
    assert loaded.decoder.dtype == getattr(torch, dtype)
    assert {p.dtype for p in loaded.decoder.model.parameters()} == {getattr(torch, dtype)}
    assert loads == [getattr(torch, dtype)]
    assert not loaded.decoder.model.training


def test_load_auto_takes_float32_without_native_bfloat16(monkeypatch, folder, loads):
    allow_native_bfloat16(monkeypatch, native=False)
    loaded = load_causal_lm(folder, device="cpu")
    assert loaded.decoder.dtype == torch.float32
    assert loaded.notes[0] == "Computed in float32 (this processor has no native bfloat16)."
    assert loads == [torch.float32]


def test_load_auto_takes_bfloat16_when_it_agrees(monkeypatch, folder, loads):
    allow_native_bfloat16(monkeypatch)
    loaded = load_causal_lm(folder, device="cpu")
    assert loaded.decoder.dtype == torch.bfloat16
    assert re.match(r"Computed in bfloat16: mean cosine with float32 is (0\.999\d|1\.0000) on a probe", loaded.notes[0])
    assert loads == [torch.float32, torch.bfloat16]


def test_load_auto_gives_the_model_that_bfloat16_gives(monkeypatch, folder):
    """Rotary frequencies stay in float32: rounded, they would be radians off a few hundred tokens on."""
    allow_native_bfloat16(monkeypatch)
    auto, explicit = (load_causal_lm(folder, dtype=dtype, device="cpu").decoder.model for dtype in ("auto", "bfloat16"))
    assert auto.model.rotary_emb.inv_freq.dtype == torch.float32
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        assert torch.equal(auto(ids).logits, explicit(ids).logits)


def test_load_auto_falls_back_when_bfloat16_disagrees(monkeypatch, folder, loads):
    allow_native_bfloat16(monkeypatch)
    monkeypatch.setattr(causal_lm, "_AGREEMENT", 1.5)
    loaded = load_causal_lm(folder, device="cpu")
    assert loaded.decoder.dtype == torch.float32
    assert loaded.notes[0].startswith("Computed in float32: bfloat16 agrees too little on a probe (mean cosine ")
    assert loaded.notes[0].endswith(" < 1.5).")
    assert loads == [torch.float32, torch.bfloat16, torch.float32]


def test_load_auto_falls_back_on_a_model_that_bfloat16_spoils(monkeypatch, tmp_path):
    """Attention so sharp that rounding changes what it looks at."""
    model = save_tiny(tmp_path)
    for layer in model.model.layers:
        for matrix in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.o_proj):
            matrix.weight.data *= 100
    model.save_pretrained(tmp_path)
    allow_native_bfloat16(monkeypatch)
    loaded = load_causal_lm(str(tmp_path), device="cpu")
    assert loaded.decoder.dtype == torch.float32
    assert loaded.notes[0].startswith("Computed in float32: bfloat16 agrees too little on a probe (mean cosine 0.")
    assert loaded.notes[0].endswith(" < 0.999).")


def test_load_auto_skips_the_check_when_there_is_no_room_for_it(monkeypatch, folder, loads):
    allow_native_bfloat16(monkeypatch)
    parameters = load_causal_lm(folder, dtype="float32", device="cpu").shape.total_parameters
    loads.clear()
    leave_free(monkeypatch, parameters * 3)  # bfloat16 with its tenth needs 2.2 bytes a parameter, float32 4.4
    loaded = load_causal_lm(folder, device="cpu")
    assert loaded.decoder.dtype == torch.bfloat16
    assert loaded.notes[0] == (
        "Computed in bfloat16, unchecked: there is no room for the float32 copy to compare it with."
    )
    assert loads == [torch.bfloat16]


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
@pytest.mark.parametrize("native", [True, False])
def test_load_causal_lm_refuses_what_does_not_fit(monkeypatch, folder, loads, dtype, native):
    allow_native_bfloat16(monkeypatch, native)
    leave_free(monkeypatch, 1000)
    with pytest.raises(ResourceError, match=r"0\.00 billion parameters in (float32|bfloat16) need about 0\.0 GiB"):
        load_causal_lm(folder, dtype=dtype, device="cpu")
    assert loads == []


def test_memory_refusal_says_the_numbers():
    """7.24 billion x 4 bytes x 1.1 = 29.7 GiB; half of it in bfloat16."""
    with pytest.raises(ResourceError) as caught:
        causal_lm._require_memory("big", 7_241_732_096, torch.float32, CPU, 16 * 2**30)
    assert str(caught.value) == (
        "big: 7.24 billion parameters in float32 need about 29.7 GiB, and 16.0 GiB are free on cpu. "
        "bfloat16 needs half."
    )
    causal_lm._require_memory("big", 7_241_732_096, torch.bfloat16, CPU, 16 * 2**30)
    with pytest.raises(ResourceError) as caught:
        causal_lm._require_memory("big", 7_241_732_096, torch.bfloat16, CPU, 8 * 2**30)
    assert str(caught.value).endswith("need about 14.8 GiB, and 8.0 GiB are free on cpu.")


def test_load_auto_takes_bfloat16_on_cuda(monkeypatch):
    monkeypatch.setattr(causal_lm, "load_model", lambda checkpoint, dtype, device: (dtype, device))
    gpu = torch.device("cuda:0")
    for native, dtype, note in (
        (True, torch.bfloat16, "Computed in bfloat16 (the default on CUDA)."),
        (False, torch.float32, "Computed in float32 (this GPU has no native bfloat16)."),
    ):
        monkeypatch.setattr(causal_lm, "multiplies_bfloat16", lambda device, native=native: native)
        assert causal_lm._load_auto(SimpleNamespace(source="x"), 1000, gpu, 2**30) == ((dtype, gpu), note)


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"arm_bf16": True}, True),
        ({"avx2": True, "avx512_f": True}, False),
    ],
)
def test_native_bfloat16_reads_the_processor(monkeypatch, capabilities, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert causal_lm._native_bfloat16() is native


def test_native_bfloat16_is_no_when_torch_cannot_say(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert causal_lm._native_bfloat16() is False


def test_load_causal_lm_reads_gguf_in_either_dtype(tmp_path):
    save_tiny_gguf(tmp_path / "tiny.gguf")
    precise, coarse = (
        load_causal_lm(str(tmp_path / "tiny.gguf"), dtype=dtype, device="cpu") for dtype in ("float32", "bfloat16")
    )
    assert coarse.decoder.dtype == torch.bfloat16
    assert precise.identity == coarse.identity


def test_load_causal_lm_refuses_damage_before_choosing_a_dtype(monkeypatch, tmp_path):
    model = save_tiny(tmp_path)
    model.model.layers[3].mlp.down_proj.weight.data[0] = float("nan")
    model.save_pretrained(tmp_path)
    allow_native_bfloat16(monkeypatch)
    with pytest.raises(ModelError, match="the output of layer 3 holds NaN or infinity"):
        load_causal_lm(str(tmp_path), device="cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_load_causal_lm_loads_onto_cuda(tmp_path, family):
    save_tiny(tmp_path, family)
    loaded = load_causal_lm(str(tmp_path), device="cuda")
    assert loaded.decoder.device.type == "cuda"
    assert loaded.decoder.dtype == torch.bfloat16
    assert loaded.identity == load_causal_lm(str(tmp_path), dtype="float32", device="cpu").identity
