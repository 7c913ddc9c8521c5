"""Freezing on models that transformers has loaded in 8 or 4 bits, with PEFT's adapters on them."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from semfreeze_core.errors import ModelError, PlanError
from semfreeze_core.finetune.audit.audit import audit
from semfreeze_core.finetune.freezing.freeze import apply_freeze_plan, freeze
from semfreeze_core.finetune.freezing.live_model import identify_base
from semfreeze_core.finetune.quantize.weights import quantized_names, quiet_bitsandbytes
from semfreeze_core.records.training import LoraSetup
from semfreeze_core.sources.models.loading_errors import quiet_transformers
from semfreeze_core.sources.models.model_shape import identify
from tests.core.finetune.live_steps import MODES, adapt, checkpoint, step, tokens_of
from tests.core.finetune.plans import SETUP, plan_of, shape_and_names
from tests.core.tiny_models import build_tiny, find_pieces

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # PEFT asks by the old name
]

LORA = LoraSetup(3)
CONFIGS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
    "nf4 doubly, stored in bfloat16": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_quant_storage": torch.bfloat16,
        "bnb_4bit_compute_dtype": torch.float32,
    },
    "int8": {"load_in_8bit": True},
}


def tiny(family="llama"):
    return build_tiny(family, tied=False, d_model=64, head_dim=16, mlp_width=64)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Loads a tiny model anew in a config of bitsandbytes, in training mode."""
    folder = tmp_path_factory.mktemp("models")
    quiet_bitsandbytes()

    def load(family, config):
        if not (folder / family).exists():
            with quiet_transformers():
                tiny(family).save_pretrained(folder / family)
        how = BitsAndBytesConfig(**CONFIGS[config])
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(
                folder / family, quantization_config=how, device_map="cpu", dtype=torch.float32
            )
        return model.train()

    return load


def adapted(load, plan, family="llama", config="nf4", *, wrapped=True):
    shape, names = shape_and_names(tiny(family))
    return adapt(load(family, config), shape, names.layer_prefix, plan.trainable, LORA, wrapped=wrapped)


def lora_plan(family="llama", k=2):
    return plan_of(tiny(family), k, setup=replace(SETUP, lora=LORA))


def bytes_of(parameter):
    """As they are: codes stored in bfloat16 may be no numbers."""
    return parameter.detach().contiguous().view(torch.uint8)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2_moe"])
def test_a_quantized_model_is_told_by_the_structure_it_had(load, family, config):
    base = identify_base(load(family, config))
    expected = identify(tiny(family), source="x", revision=None)
    assert (base.structure_digest, base.architecture) == (expected.structure_digest, expected.architecture)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("config", CONFIGS)
def test_the_gradient_stops_at_the_boundary_and_adapters_above_alone_learn(load, config, mode):
    plan = lora_plan()
    model = adapted(load, plan, config=config, wrapped=mode != "none")
    checkpoint(model, mode)
    freezing = apply_freeze_plan(model, plan, check_weights=False)
    carried = []
    layers = find_pieces(tiny()).layers
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    handles = [
        layer.register_forward_hook(lambda _, __, out: carried.append(out[0] if isinstance(out, tuple) else out))
        for layer in find_pieces(base).layers
    ]
    before = {name: bytes_of(p).clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(freezing.trainable_parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        loss = model(input_ids=tokens_of(base), labels=tokens_of(base), use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for handle in handles:
        handle.remove()
    assert [state.requires_grad for state in carried[:2]] == [False, False]
    assert len(carried) >= len(layers)
    assert losses[-1] < losses[0]
    moved = {name for name, p in model.named_parameters() if not torch.equal(bytes_of(p), before[name])}
    assert moved == set(freezing.trainable_names)
    assert all(".lora_" in name for name in moved)
    assert {int(name.split("layers.")[1].split(".")[0]) for name in moved} == {2, 3}
    freezing.undo()


def test_an_evaluation_between_steps_leaves_the_gradient_of_4_bit_layers(load):
    plan = lora_plan()
    model = adapted(load, plan)
    ids = tokens_of(tiny())
    with apply_freeze_plan(model, plan, check_weights=False) as freezing:
        model.eval()
        with torch.no_grad():
            model(input_ids=ids)
        model.train()
        step(model, ids)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in freezing.trainable_parameters())
    assert freezing.trainable_parameters()


def test_packed_weights_are_refused(load):
    plan = lora_plan()
    model = adapted(load, plan)
    first = next(m for m in model.modules() if type(m).__name__ == "Linear4bit" and hasattr(m.weight, "quant_state"))
    first.weight.quant_state.packing_format_for_cpu = True  # what a call in eval mode does where a CPU has AVX-512 BF16
    with pytest.raises(ModelError, match="packed by a call in eval mode"):
        apply_freeze_plan(model, plan, check_weights=False)


def test_weights_in_few_bits_are_not_compared_and_not_trained(load):
    plan = lora_plan()
    model = adapted(load, plan)
    with pytest.raises(PlanError, match=r"in 8 or 4 bits .* cannot be compared .* pass check_weights=False"):
        apply_freeze_plan(model, plan)
    other = plan_of(build_tiny("llama", tied=False), 2, setup=replace(SETUP, lora=LORA))
    with pytest.raises(PlanError, match="its layers or parameters differ"):
        apply_freeze_plan(model, other, check_weights=False)
    whole = plan_of(tiny(), 2)
    for config in CONFIGS:
        bare = load("llama", config)
        with pytest.raises(PlanError, match=r"14 weights to be trained are in 8 or 4 bits .* make a plan with LoRA"):
            apply_freeze_plan(bare, whole, check_weights=False)
        with pytest.raises(PlanError, match="take no gradient"):
            freeze(bare, whole.trainable)


def test_freeze_finds_the_parts_of_a_quantized_model_and_leaves_it_trainable(load):
    plan = lora_plan()
    for config in CONFIGS:
        model = adapted(load, plan, config=config)
        freezing = freeze(model, plan.trainable, lora=True)
        step(model, tokens_of(tiny()))
        assert all(p.grad is not None for p in freezing.trainable_parameters())


def test_an_audit_of_weights_in_few_bits_is_refused_for_its_count_would_be_wrong(load):
    plan = lora_plan()
    for config in CONFIGS:
        model = adapted(load, plan, config=config)
        assert len(quantized_names(model)) == 28
        with pytest.raises(ModelError, match=r"28 of its weights are in 8 or 4 bits .* FLOPs would be wrong"):
            audit(model, plan)
