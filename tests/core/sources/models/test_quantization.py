"""Quantized checkpoints: unpacked where transformers can, else refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.causal_lm import load_causal_lm, measure_empty
from semfreeze_core.sources.models.loading import load_config
from semfreeze_core.sources.models.opening import open_checkpoint
from semfreeze_core.sources.models.quantization import describe_quantization, quantization_entry, unpacking
from tests.core.saved_models import save_tiny

BLOCK = 16


@pytest.fixture(autouse=True)
def _one_thread(measured_once):
    torch.set_num_threads(1)


def add_to_config(folder, entry):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": entry}))


def pack_as_fp8(folder):
    """Store every matrix of the layers in 8-bit floats with one scale a block of 16 x 16, as DeepSeek does."""
    packed = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "proj" not in name:
            packed[name] = weight
            continue
        rows, columns = weight.shape
        blocks = weight.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scale = blocks.abs().amax((1, 3)) / 448  # the largest number of this format
        packed[name] = (blocks / scale[:, None, :, None]).reshape(rows, columns).to(torch.float8_e4m3fn)
        packed[f"{name}_scale_inv"] = scale
    save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})
    add_to_config(folder, {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_load_unpacks_fp8(tmp_path, dtype):
    model = save_tiny(tmp_path)
    pack_as_fp8(tmp_path)
    loaded = load_causal_lm(str(tmp_path), dtype=str(dtype).removeprefix("torch."), device="cpu")
    assert "Its quantized weights (fp8) were unpacked." in loaded.notes
    for name, parameter in loaded.decoder.model.named_parameters():
        assert parameter.dtype == dtype
        unpacked = model.get_parameter(name)
        assert (parameter.float() - unpacked).abs().max() <= 0.04 * unpacked.abs().max(), (
            name
        )  # 3 bits after the leading one
    assert loaded.shape.total_parameters == sum(p.numel() for p in model.parameters())
    assert measure_empty(open_checkpoint(str(tmp_path))) == loaded.shape


REFUSED = [
    ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes, 4 bits"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes, 8 bits"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq, 4 bits"),
    ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "awq, 4 bits"),
    ({"quant_method": "awq", "w_bit": 4}, "awq, 4 bits"),
    ({"quant_method": "compressed-tensors", "format": "int-quantized"}, "compressed-tensors"),
    ({"quant_method": "never_heard_of"}, "never_heard_of"),
    ({"format": "odd"}, "an unnamed method"),
]


@pytest.mark.parametrize(("entry", "message"), REFUSED, ids=[message for _, message in REFUSED])
@pytest.mark.parametrize(
    "read",
    [
        lambda folder: load_causal_lm(str(folder), device="cpu"),
        lambda folder: measure_empty(open_checkpoint(str(folder))),
    ],
    ids=["load", "measure"],
)
def test_load_refuses_other_quantizations_by_name(tmp_path, entry, message, read):
    save_tiny(tmp_path)
    add_to_config(tmp_path, entry)
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds quantized weights ({message}), which semfreeze cannot unpack. Give the unquantized "
        "checkpoint it was made from."
    )


@pytest.mark.parametrize("entry", [entry for entry, _ in REFUSED[2:4]], ids=["gptq", "awq"])
def test_measure_empty_counts_a_quantized_model_of_which_the_config_alone_is_wanted(tmp_path, entry):
    save_tiny(tmp_path)
    plain = measure_empty(open_checkpoint(str(tmp_path), config_only=True))
    add_to_config(tmp_path, entry)
    assert measure_empty(open_checkpoint(str(tmp_path), config_only=True)) == plain


@pytest.mark.parametrize("entry", [None, {}])
def test_load_config_takes_a_config_that_says_nothing(tmp_path, entry):
    save_tiny(tmp_path)
    add_to_config(tmp_path, entry)
    assert quantization_entry(load_config(open_checkpoint(str(tmp_path)))) is None


def test_load_refuses_an_entry_that_is_no_object(tmp_path):
    save_tiny(tmp_path)
    add_to_config(tmp_path, "4bit")
    with pytest.raises(ModelError, match="its config could not be loaded"):
        load_config(open_checkpoint(str(tmp_path)))


def test_unpacking_keeps_what_the_checkpoint_says():
    entry = {"quant_method": "fp8", "weight_block_size": [16, 16], "modules_to_not_convert": ["lm_head"]}
    setting = unpacking(entry)
    assert setting.dequantize is True
    assert (setting.weight_block_size, setting.modules_to_not_convert) == ([16, 16], ["lm_head"])
    assert unpacking({"quant_method": "gptq"}) is None


def test_quantization_entry_reads_settings_that_are_objects():
    config = LlamaConfig()
    config.quantization_config = unpacking({"quant_method": "fp8"})
    assert describe_quantization(quantization_entry(config)) == "fp8"
