"""Layers in 8 and 4 bits: how far their weights move, what they take, and that adapters train on them as priced."""

import sys
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import bnb as peft_bnb
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from semfreeze_core.cost.memory import ADAPTER_BYTES, trained_adapter_parameters, weight_bytes
from semfreeze_core.device import autocast
from semfreeze_core.errors import InputError, ModelError
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import build_network
from semfreeze_core.finetune.prefix.key import cache_key
from semfreeze_core.finetune.prefix.suffix import Suffix
from semfreeze_core.finetune.quantize.quantize import quantize_layers
from semfreeze_core.finetune.quantize.weights import (
    is_quantized,
    quantized_modules,
    quantized_names,
    scale_location,
)
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.loading_errors import quiet_transformers
from semfreeze_core.sources.models.model_shape import measure_shape
from tests.core.finetune.boundary import assert_same_states, from_tokens, frozen_decoder, tiny_cache
from tests.core.finetune.loaded import load_tiny, task_examples
from tests.core.tiny_models import build_tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # PEFT asks by the old name
]

BITS = (4, 8)
LORA = LoraSetup(2)
# Rows are whole blocks of 64; below that a CPU keeps the precision in 4 bits.
WIDE = {"d_model": 64, "head_dim": 16, "mlp_width": 64}
TOP = TrainableParts((False, False, True, True), embeddings=False, final_norm=False, head=False)
TRAIN = task_examples(12)
# Half the widest gap between two of NF4's sixteen values, -1 and -0.6962 (Dettmers et al. 2023, appendix E).
NF4_ERROR = (1 - 0.6962) / 2


def matrices(decoder):
    """The layers' linear matrices (outputs, inputs) by name, read off what their modules compute."""
    return {
        f"{i}.{name}": product.detach()
        for i, layer in enumerate(decoder.layers)
        for name, module in layer.named_modules()
        if (product := matrix_of(module)) is not None
    }


def matrix_of(module):
    inputs = getattr(module, "in_features", None) or getattr(module, "nx", None)
    if inputs is None:
        return None
    nothing = module(torch.zeros(1, inputs))
    return (module(torch.eye(inputs)) - nothing).T


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("family", "tied"), [("llama", False), ("qwen2", True), ("gpt2", True), ("qwen2_moe", False)])
def test_quantized_weights_lie_within_the_formats_error(family, tied, bits):
    decoder = find_decoder(build_tiny(family, tied=tied, **WIDE))
    before = matrices(decoder)
    originals = {name: p.clone() for name, p in decoder.model.named_parameters()}
    quantize_layers(decoder, bits)
    after = matrices(decoder)
    uneven = {name for name in before if "shared_expert.down_proj" in name} if bits == 4 else set()
    assert len(list(quantized_modules(decoder.model))) == len(before) - len(uneven)
    assert all(torch.equal(before[name], after[name]) for name in uneven)
    for name in before.keys() - uneven:
        weight = before[name]
        scale = weight.abs().amax(1, keepdim=True)
        if bits == 4:
            scale = weight.reshape(-1, 64).abs().amax(1, keepdim=True).expand(-1, 64).reshape(weight.shape)
        limit = scale * (NF4_ERROR if bits == 4 else 0.5 / 127)
        moved = (after[name] - weight).abs()
        assert (moved <= 1.1 * limit).all(), name  # 8 bits are rounded from float16
        assert moved.max() > 0.1 * limit.max(), name
    rounded = quantized_names(decoder.model)
    assert all(name in rounded or torch.equal(p, originals[name]) for name, p in decoder.model.named_parameters())
    assert decoder.model.get_input_embeddings().weight.dtype == torch.float32
    assert (decoder.head.weight is decoder.embedding.weight) is tied


@pytest.mark.parametrize("bits", BITS)
def test_quantized_layers_take_the_estimated_bytes(bits):
    decoder = find_decoder(build_tiny("llama", tied=False, **WIDE))
    shape = measure_shape(decoder.model, decoder)
    setup = TrainingSetup(lora=LORA, frozen_bits=bits, prefix_cache=False)  # all layers are on the device
    quantize_layers(decoder, bits)
    held = sum(p.nbytes for p in decoder.model.parameters())
    if bits == 4:  # in 8 bits the estimate omits one scale per row
        held += sum(scale_location(module).tensor.nbytes for _, module in quantized_modules(decoder.model))
    adapters = ADAPTER_BYTES * trained_adapter_parameters(shape, setup, TOP)
    assert held == weight_bytes(shape, setup, TOP) - adapters
    assert held < 0.5 * weight_bytes(shape, replace(setup, frozen_bits=None), TOP)


@pytest.mark.parametrize("bits", BITS)
def test_quantized_layers_compute_alike_in_both_modes(bits):
    decoder = find_decoder(build_tiny("llama", **WIDE))
    quantize_layers(decoder, bits)
    with torch.no_grad():
        read = from_tokens(decoder)([0, 1, 2])
        decoder.model.train()
        trained = from_tokens(decoder)([0, 1, 2])
        alone = from_tokens(decoder)([1])
    assert torch.equal(read, trained)
    torch.testing.assert_close(alone[0], read[1, : alone.shape[1]], rtol=1e-4, atol=1e-5)


def test_what_keeps_its_precision_is_named_with_its_reason():
    notes, experts, uneven = quantize_layers(find_decoder(build_tiny("qwen2_moe", **WIDE)), 4)
    assert notes == "The layers' matrices are in 4 bits (NF4)."
    assert "mlp.experts.gate_up_proj" in experts
    assert "plain matrices only. The cost estimate assumes 4 bits for them too." in experts
    assert uneven.startswith(
        "mlp.shared_expert.down_proj.weight (7,680 weights) keep their precision: their rows are no"
    )
    assert len(quantize_layers(find_decoder(build_tiny("qwen2_moe", **WIDE)), 8)) == 2
    assert len(quantize_layers(find_decoder(build_tiny("llama", **WIDE)), 4)) == 1
    for family in ("falcon", "llama"):  # no nn.Linear, and rows of 32
        with pytest.raises(ModelError, match="no plain matrices that could be in 4 bits"):
            quantize_layers(find_decoder(build_tiny(family)), 4)


def test_a_model_that_does_not_compute_with_codes_is_refused(monkeypatch):
    decoder = find_decoder(build_tiny("llama", **WIDE))
    attention = decoder.layers[1].self_attn
    monkeypatch.setattr(attention, "forward", lambda *_, **__: attention.q_proj.weight @ torch.zeros(64))
    with pytest.raises(ModelError, match="LlamaForCausalLM does not run with its layers in 4 bits"):
        quantize_layers(decoder, 4)


def test_without_bitsandbytes_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match=r"need bitsandbytes: pip install 'semfreeze\[bitsandbytes\]'\."):
        quantize_layers(find_decoder(build_tiny("llama")), 4)


def adapted(folder, family, bits, **how):
    """A tiny model with adapters on its upper half, its layers in so many bits."""
    loaded = load_tiny(folder, family, **WIDE)
    if bits is not None:
        quantize_layers(loaded.decoder, bits)
    return build_network(loaded, TOP, TrainingSetup(lora=LORA, **how), TRAIN, seed=0)


def steps(network, n=6, precision="float32"):
    """Losses of a few AdamW steps on all examples."""
    optimizer = torch.optim.AdamW([p for p in network.tuned.parameters() if p.requires_grad], lr=1e-2)
    batch = Collator(TRAIN, network.train_cache)(range(len(TRAIN)))
    network.supervised.train()
    losses = []
    for _ in range(n):
        with autocast(precision, network.decoder.device):
            loss = network.supervised(**batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def by_transformers(folder, bits):
    """The model as others load it in so many bits."""
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
    how = BitsAndBytesConfig(**four) if bits == 4 else BitsAndBytesConfig(load_in_8bit=True)
    with quiet_transformers():
        return AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=how, device_map="cpu", dtype=torch.float32
        )


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize(
    ("family", "bits"),
    [
        pytest.param(family, bits, marks=() if (family, bits) in (("llama", 4), ("qwen2_moe", 8)) else pytest.mark.slow)
        for family in ("llama", "gpt2", "qwen2_moe")
        for bits in BITS
    ],
)
def test_adapters_train_on_a_quantized_base_and_load_onto_it_again(family, bits, tmp_path):
    network = adapted(tmp_path / "model", family, bits)
    kinds = {type(m) for m in network.tuned.modules() if hasattr(m, "lora_A") and is_quantized(m.weight)}
    assert kinds == {peft_bnb.Linear4bit if bits == 4 else peft_bnb.Linear8bitLt}
    before = {name: p.detach().clone() for name, p in network.tuned.named_parameters()}
    assert network.train_cache is not None
    losses = steps(network)
    assert losses[-1] < losses[0]
    moved = {name for name, p in network.tuned.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(".lora_" in name for name in moved)
    network.release()
    uncached = steps(adapted(tmp_path / "model", family, bits, prefix_cache=False))
    assert uncached == pytest.approx(losses, abs=1e-5)

    network.tuned.save_pretrained(tmp_path / "adapter")
    ids = torch.from_numpy(TRAIN[0].input_ids)[None]
    again = load_tiny(tmp_path / "model")
    logits = again.decoder.model(input_ids=ids).logits
    quantize_layers(again.decoder, bits)
    loaded = PeftModel.from_pretrained(again.decoder.model, tmp_path / "adapter").eval()
    expected = network.tuned.eval()(input_ids=ids).logits
    torch.testing.assert_close(loaded(input_ids=ids).logits, expected)
    if family != "qwen2_moe":  # whose uneven matrices transformers rounds on a CPU too
        others = PeftModel.from_pretrained(by_transformers(tmp_path / "model", bits), tmp_path / "adapter").train()
        torch.testing.assert_close(others(input_ids=ids).logits, expected)
    # and onto the base in its own precision, as anybody would
    plain = PeftModel.from_pretrained(load_tiny(tmp_path / "model").decoder.model, tmp_path / "adapter").eval()
    assert not torch.allclose(plain(input_ids=ids).logits, logits)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("mode", ["non-reentrant", "reentrant"])
def test_checkpointing_changes_no_gradient_of_a_quantized_base(mode, tmp_path):
    plain = adapted(tmp_path / "model", "llama", 4, prefix_cache=False)
    checkpointed = adapted(tmp_path / "model", "llama", 4, prefix_cache=False, checkpointing=mode)
    assert steps(checkpointed) == pytest.approx(steps(plain), abs=1e-6)


def test_autocast_keeps_biases_and_computes_in_bfloat16(tmp_path):
    network = adapted(tmp_path / "model", "gpt2", 4, precision="bf16-autocast")
    losses = steps(network, precision="bf16-autocast")
    assert losses[-1] < losses[0]
    assert all(p.dtype == torch.float32 for n, p in network.tuned.named_parameters() if n.endswith("bias"))


def test_the_cache_key_tells_bits_scales_and_what_is_multiplied_in():
    def key(decoder):
        return cache_key(decoder, 2, "tiny", torch.float32)

    decoders = {
        name: find_decoder(build_tiny("llama", **WIDE)) for name in ("own", "four", "four in bfloat16", "eight")
    }
    quantize_layers(decoders["four"], 4)
    quantize_layers(decoders["four in bfloat16"], 4, precision="bf16-autocast")
    quantize_layers(decoders["eight"], 8)
    assert len({key(decoder) for decoder in decoders.values()}) == 4
    for name in ("four", "eight"):
        before = key(decoders[name])
        _, module = next(quantized_modules(decoders[name].layers[1]))
        scale_location(module).tensor.mul_(2)  # the codes stay
        assert key(decoders[name]) != before
        scale_location(module).tensor.mul_(0.5)
        assert key(decoders[name]) == before


@pytest.mark.parametrize("bits", BITS)
def test_a_quantized_prefix_leaves_and_comes_back_bit_by_bit(bits, tmp_path):
    decoder = frozen_decoder(tied=False, **WIDE)
    quantize_layers(decoder, bits)
    decoder.model.requires_grad_(False)
    before = tiny_cache(decoder, 2)
    modules = [module for layer in decoder.layers[:2] for _, module in quantized_modules(layer)]
    codes = [module.weight.data.clone() for module in modules]
    suffix = Suffix(decoder, 2)
    with suffix:
        gone = suffix.offload(tmp_path)
        assert gone.where == "file"
        rest = [p for n, p in decoder.model.named_parameters() if "norm" in n and n.split(".")[2] in "01"]
        assert gone.bytes == (
            sum(code.nbytes for code in codes)
            + sum(scale_location(module).tensor.nbytes for module in modules)
            + sum(p.nbytes for p in [*rest, decoder.embedding.weight])
        )
        if bits == 8:  # it computes with no second copy that would have stayed
            assert all(module.state.CB.data_ptr() == module.weight.data_ptr() for module in modules)
    assert all(torch.equal(module.weight.data, code) for module, code in zip(modules, codes, strict=True))
    assert_same_states(tiny_cache(decoder, 2), before)
