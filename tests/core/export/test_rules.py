"""By each trainer's own rule, over every family and way of building it: an export trains what the plan trains."""

import re
from functools import cache

import pytest

from semfreeze_core.cost.lora import adapted_matrices
from semfreeze_core.errors import PlanError
from semfreeze_core.export import export_plan
from semfreeze_core.records.training import LoraSetup, TrainableParts
from tests.core.export.exports import (
    LORA,
    MODELS,
    call_arguments,
    exported_flags,
    exported_yaml,
    names_of,
    planned_names,
    tiny_plan,
)
from tests.core.export.rules import (
    axolotl_linear_names,
    axolotl_trains,
    llama_factory_trains,
    mlx_trains,
    ms_swift_trains,
    nemo_adapts,
    nemo_trains,
    oumi_adapts,
    oumi_trains,
    peft_adapts,
    unsloth_adapts,
)
from tests.core.finetune.plans import shape_and_names
from tests.core.tiny_models import TIED_BY_DEFAULT, VARIANTS, build_tiny

# Twelve layers, so that layer 1 is a prefix of 10 and 11.
N_LAYERS, SIZES = 12, {"n_layers": 12, "d_model": 16, "n_heads": 2, "head_dim": 8, "mlp_width": 16, "vocab": 40}
# Depths in turn; models whose head is tied the other way meet the other depth than their family does.
over_models_and_depths = pytest.mark.parametrize(
    ("family", "tied", "k"),
    [
        (family, tied, (1, 10)[(VARIANTS.index(family) + (tied is not TIED_BY_DEFAULT[family])) % 2])
        for family, tied in MODELS
    ],
)


@cache
def tiny(family, tied=None):
    return build_tiny(family, tied=tied, **SIZES)


@cache
def plan_for(family, tied, k, lora=None):
    return tiny_plan(tiny(family, tied), k, lora=lora)


@cache
def parts_of(family, tied):
    return shape_and_names(tiny(family, tied))


def left_frozen(exported, names):
    """Parameters that the notes say stay frozen."""
    note = next((note for note in exported.notes if " stays frozen: " in note), "")
    return {name for name in names if re.search(rf"(^|[ ,]){re.escape(name)}[ ,]", note)}


@over_models_and_depths
def test_axolotl_trains_what_the_plan_trains(family, tied, k):
    model = tiny(family, tied)
    plan = plan_for(family, tied, k)
    patterns = exported_yaml(plan, "axolotl")["unfrozen_parameters"]
    names = {name for name in names_of(model) if axolotl_trains(patterns, name)}
    assert names == planned_names(plan, model)
    assert not any("lm_head" in pattern or "embed_tokens" in pattern for pattern in patterns)


@over_models_and_depths
def test_ms_swift_trains_what_the_plan_trains(family, tied, k):
    model = tiny(family, tied)
    plan = plan_for(family, tied, k)
    assert ms_swift_trains(exported_flags(plan), names_of(model)) == planned_names(plan, model)


@over_models_and_depths
def test_nemo_automodel_trains_what_the_plan_trains(family, tied, k):
    model = tiny(family, tied)
    plan = plan_for(family, tied, k)
    assert nemo_trains(exported_yaml(plan, "nemo-automodel")["freeze_config"], model) == planned_names(plan, model)


@over_models_and_depths
def test_oumi_trains_what_the_plan_trains(family, tied, k):
    model = tiny(family, tied)
    plan = plan_for(family, tied, k)
    assert oumi_trains(exported_yaml(plan, "oumi")["model"]["freeze_layers"], model) == planned_names(plan, model)


@over_models_and_depths
def test_llama_factory_trains_what_the_plan_trains_or_says_what_stays_frozen(family, tied, k):
    model = tiny(family, tied)
    plan = plan_for(family, tied, k)
    exported = export_plan(plan, "llama-factory")
    names = llama_factory_trains(exported_yaml(plan, "llama-factory"), N_LAYERS, names_of(model))
    planned = planned_names(plan, model)
    assert names == planned - left_frozen(exported, names_of(model))
    if family in ("gpt2", "falcon", "bloom", "phi"):  # whose final norm has a name of its own
        assert names == planned


def test_llama_factory_would_train_frozen_layers_norms_by_the_name_norm():
    """Why the final norm of most families is left out."""
    model = tiny("llama", False)
    plan = tiny_plan(model, 10)
    config = exported_yaml(plan, "llama-factory") | {"freeze_extra_modules": "norm"}
    assert "model.layers.0.input_layernorm.weight" in llama_factory_trains(config, N_LAYERS, names_of(model))


def test_llama_factory_takes_experts_of_transformers_4_by_number_as_its_note_says():
    plan = tiny_plan(tiny("mixtral", False), 11)
    config = exported_yaml(plan, "llama-factory")
    assert llama_factory_trains(config, N_LAYERS, ["model.layers.0.block_sparse_moe.experts.11.w1.weight"])
    assert any("With transformers 4" in note for note in export_plan(plan, "llama-factory").notes)


@pytest.mark.quick_cases(4)
@over_models_and_depths
def test_mlx_trains_the_plans_layers_and_says_what_stays_frozen(family, tied, k):
    model = tiny(family, tied)
    plan = plan_for(family, tied, k)
    prefix = parts_of(family, tied)[1].layer_prefix
    names = mlx_trains(exported_yaml(plan, "mlx-lm"), prefix, N_LAYERS, names_of(model))
    assert names == planned_names(plan, model) - left_frozen(export_plan(plan, "mlx-lm"), names_of(model))
    assert any(name.startswith(f"{prefix}{k}.") for name in names)
    bare = TrainableParts(tuple(i >= k for i in range(N_LAYERS)), False, False, False)
    plan = tiny_plan(model, k, parts=bare)
    assert mlx_trains(exported_yaml(plan, "mlx-lm"), prefix, N_LAYERS, names_of(model)) == planned_names(plan, model)


def adaptable(family, tied, layers, ends=None):
    """Modules that the plan's price gives an adapter: plain matrices of the chosen layers."""
    shape, names = parts_of(family, tied)
    lora = LoraSetup(4, ends or ("all-linear",))
    return {f"{names.layer_prefix}{i}.{m.name}" for i in layers for m in adapted_matrices(shape.layers[i], lora)}


@over_models_and_depths
def test_unsloth_adapts_what_the_plan_adapts(family, tied, k):
    model = tiny(family, tied)
    said = call_arguments(export_plan(plan_for(family, tied, k, LORA), "unsloth").text, "get_peft_model")
    names = unsloth_adapts(model, said["target_modules"], said["layers_to_transform"], said["layers_pattern"])
    assert names == adaptable(family, tied, range(k, N_LAYERS))


@over_models_and_depths
def test_axolotl_adapts_what_the_plan_adapts(family, tied, k):
    model = tiny(family, tied)
    plan = plan_for(family, tied, k, LORA)
    if family == "gpt2":
        with pytest.raises(PlanError, match="--lora-targets c_attn,c_proj,c_fc"):
            export_plan(plan, "axolotl")
        return
    config = exported_yaml(plan, "axolotl")
    assert config["lora_target_linear"]
    assert "unfrozen_parameters" not in config
    (pattern,) = config["peft_layers_pattern"]
    names = peft_adapts(model, axolotl_linear_names(model), config["peft_layers_to_transform"], pattern)
    assert names == adaptable(family, tied, range(k, N_LAYERS))


@over_models_and_depths
def test_nemo_automodel_adapts_what_the_plan_adapts(family, tied, k):
    model = tiny(family, tied)
    plan = plan_for(family, tied, k, LORA)
    if family == "gpt2":
        with pytest.raises(PlanError, match="GPT-2 stores its matrices as Conv1D"):
            export_plan(plan, "nemo-automodel")
        return
    config = exported_yaml(plan, "nemo-automodel")
    assert "freeze_config" not in config
    assert nemo_adapts(model, config["peft"]) == adaptable(family, tied, range(k, N_LAYERS))


@over_models_and_depths
def test_oumi_adapts_what_the_plan_adapts(family, tied, k):
    model = tiny(family, tied)
    config = exported_yaml(plan_for(family, tied, k, LORA), "oumi")
    assert config["training"]["use_peft"]
    assert "freeze_layers" not in config["model"]
    assert oumi_adapts(model, config["peft"]) == adaptable(family, tied, range(k, N_LAYERS))


@pytest.mark.parametrize(("family", "ends"), [("llama", ("q_proj", "self_attn.v_proj")), ("gpt2", ("c_attn",))])
def test_named_matrices_get_adapters_by_every_rule(family, ends):
    model = tiny(family, None)
    plan = tiny_plan(model, 10, lora=LoraSetup(4, ends))
    expected = adaptable(family, None, (10, 11), ends)
    assert expected
    said = call_arguments(export_plan(plan, "unsloth").text, "get_peft_model")
    assert (
        unsloth_adapts(model, said["target_modules"], said["layers_to_transform"], said["layers_pattern"]) == expected
    )
    config = exported_yaml(plan, "axolotl")
    (pattern,) = config["peft_layers_pattern"]
    assert peft_adapts(model, config["lora_target_modules"], config["peft_layers_to_transform"], pattern) == expected
    regex = exported_flags(plan)["target_regex"]  # PEFT: a text is matched against the whole name
    assert {name for name, _ in model.named_modules() if re.fullmatch(regex, name)} == expected
    assert oumi_adapts(model, exported_yaml(plan, "oumi")["peft"]) == expected
    if family != "gpt2":
        assert nemo_adapts(model, exported_yaml(plan, "nemo-automodel")["peft"]) == expected
    with pytest.raises(PlanError, match="mlx-lm uses other names for the matrices"):
        export_plan(plan, "mlx-lm")


@pytest.mark.parametrize("lora", [None, LORA])
def test_mlx_adapts_as_many_last_layers_as_the_plan(lora):
    config = exported_yaml(tiny_plan(tiny("llama", False), 10, lora=lora), "mlx-lm")
    assert (config["fine_tune_type"], config["num_layers"]) == ("full" if lora is None else "lora", 2)


EVERY_OTHER = TrainableParts(tuple(i % 2 == 1 for i in range(N_LAYERS)), False, True, False)
NORM_ALONE = TrainableParts((False,) * N_LAYERS, False, True, False)
WITH_HEAD = TrainableParts(tuple(i >= 10 for i in range(N_LAYERS)), False, True, True)


@pytest.mark.parametrize("parts", [EVERY_OTHER, NORM_ALONE, WITH_HEAD])
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "phi"])
def test_other_choices_are_carried_where_they_can_be(family, parts):
    model = tiny(family, False)
    plan = tiny_plan(model, parts.freeze_depth, parts=parts)
    planned = planned_names(plan, model)
    exported = export_plan(plan, "axolotl")
    patterns = exported_yaml(plan, "axolotl")["unfrozen_parameters"]
    assert {name for name in names_of(model) if axolotl_trains(patterns, name)} == planned
    assert parts.head == any("require a gradient of the embedding's output" in note for note in exported.notes)
    assert ms_swift_trains(exported_flags(plan), names_of(model)) == planned
    assert nemo_trains(exported_yaml(plan, "nemo-automodel")["freeze_config"], model) == planned
    assert oumi_trains(exported_yaml(plan, "oumi")["model"]["freeze_layers"], model) == planned
    if parts.head:
        config = exported_yaml(plan, "llama-factory")
        assert "lm_head" in config["freeze_extra_modules"]
        left = left_frozen(export_plan(plan, "llama-factory"), names_of(model))
        assert llama_factory_trains(config, N_LAYERS, names_of(model)) == planned - left
    else:
        for target, name in (("mlx-lm", "mlx-lm"), ("llama-factory", "LLaMA-Factory")):
            with pytest.raises(PlanError, match=f"{name} can train only the last layers, and this plan"):
                export_plan(plan, target)


def test_full_finetuning_is_told_as_such():
    plan = tiny_plan(tiny("llama", False), 0)
    assert "unfrozen_parameters" not in exported_yaml(plan, "axolotl")
    assert exported_yaml(plan, "llama-factory")["finetuning_type"] == "full"
    flags = exported_flags(plan)
    assert flags["tuner_type"] == "full"
    assert "freeze_parameters_ratio" not in flags
    assert "freeze_config" not in exported_yaml(plan, "nemo-automodel")
    assert "freeze_layers" not in exported_yaml(plan, "oumi")["model"]
    assert exported_yaml(plan, "mlx-lm")["num_layers"] == N_LAYERS
