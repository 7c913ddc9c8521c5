"""What a reading needs, against arithmetic by hand and against the loader's own refusal."""

from types import SimpleNamespace

import pytest
import torch

from semfreeze_core.errors import ResourceError
from semfreeze_core.semantics import display
from semfreeze_core.sources.models import causal_lm, memory_forecast
from semfreeze_core.sources.models.causal_lm import first_dtype
from semfreeze_core.sources.models.memory_forecast import forecast_memory, model_bytes, process_bytes

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
MISTRAL = SimpleNamespace(n_layers=32, d_model=4096, total_parameters=7_241_732_096)
SMALL = SimpleNamespace(n_layers=30, d_model=576, total_parameters=134_515_008)


def test_a_model_takes_its_weights_and_a_tenth():
    assert model_bytes(1000, torch.float32) == 4400
    assert model_bytes(1000, torch.bfloat16) == 2200
    assert model_bytes(7_241_732_096, torch.float32) == 31_863_621_222  # 29.7 GiB


def test_small_models_forecast_by_hand():
    """1000 positions x 31 spaces x 576 numbers: 2 bytes each, and 4 for their copy."""
    forecast = forecast_memory(SMALL, torch.float32, CPU, 10**10, 1000)
    assert (forecast.parameters, forecast.dtype, forecast.device, forecast.free_bytes) == (
        134_515_008,
        "float32",
        "cpu",
        10**10,
    )
    assert forecast.model_bytes == 591_866_035  # 134,515,008 x 4 x 1.1
    assert forecast.states_bytes == 1000 * 31 * 576 * 6 == 107_136_000
    assert forecast.process_bytes == 600 * 2**20
    assert forecast.needed_bytes == 591_866_035 + 107_136_000 + 629_145_600
    assert forecast.fits


def test_large_models_keep_fewer_states():
    forecast = forecast_memory(MISTRAL, torch.bfloat16, CUDA, 10**10, 1000)
    assert forecast.states_bytes == 3 * 256 * 2**20  # 1000 x 33 x 4096 x 2 would be more
    assert forecast.process_bytes == 0
    assert memory_forecast._STATES_LIMIT == display._MAX_STATE_BYTES


@pytest.mark.parametrize(("missing", "fits"), [(0, True), (1, False)])
def test_fits_means_to_the_byte(missing, fits):
    needed = forecast_memory(SMALL, torch.float32, CPU, 0, 1000).needed_bytes
    assert forecast_memory(SMALL, torch.float32, CPU, needed - missing, 1000).fits == fits


@pytest.mark.parametrize(("device", "expected"), [(CPU, 600 * 2**20), (MPS, 600 * 2**20), (CUDA, 0)])
def test_process_bytes_count_where_memory_is_shared(device, expected):
    assert process_bytes(device) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loader_refuses_by_the_same_formula(dtype):
    needed = forecast_memory(MISTRAL, dtype, CPU, 0, 1000).model_bytes
    causal_lm._require_memory("big", MISTRAL.total_parameters, dtype, CPU, needed)
    with pytest.raises(ResourceError):
        causal_lm._require_memory("big", MISTRAL.total_parameters, dtype, CPU, needed - 1)


@pytest.mark.parametrize(
    ("dtype", "device", "native", "free", "expected"),
    [
        ("float32", CUDA, True, 0, torch.float32),
        ("bfloat16", CPU, False, 0, torch.bfloat16),
        ("auto", CUDA, True, 0, torch.bfloat16),
        ("auto", CUDA, False, 0, torch.float32),
        ("auto", CPU, False, 0, torch.float32),
        ("auto", MPS, True, 0, torch.float32),
        ("auto", CPU, True, 4400, torch.float32),
        ("auto", CPU, True, 4399, torch.bfloat16),
    ],
)
def test_first_dtype(monkeypatch, dtype, device, native, free, expected):
    monkeypatch.setattr(causal_lm, "_native_bfloat16", lambda: native)
    monkeypatch.setattr(causal_lm, "multiplies_bfloat16", lambda device: native and device.type == "cuda")
    assert first_dtype(dtype, 1000, device, free) == expected
