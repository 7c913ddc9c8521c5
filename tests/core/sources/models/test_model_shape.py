"""Counting a model: the same from weights, from the config alone, and by hand; what cannot be priced is refused."""

import dataclasses
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import (
    AutoModelForCausalLM,
    Gemma4TextConfig,
    JambaConfig,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MiniMaxConfig,
    Qwen3Config,
    Qwen3NextConfig,
    RwkvConfig,
)

from semfreeze_core.errors import ModelError
from semfreeze_core.records.model import LayerShape, Matrix, ModelShape
from semfreeze_core.sources.models.causal_lm import load_causal_lm, measure_empty
from semfreeze_core.sources.models.decoder import find_decoder, find_parts
from semfreeze_core.sources.models.model_shape import check_price, layer_matrices, measure_shape
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.cost.conftest import _tiny_shape as shape_by_hand
from tests.core.saved_models import save_tiny
from tests.core.sources.models.random_models import LLAMA_LIKE
from tests.core.tiny_models import VARIANTS, build_tiny

# Every family, its head and embedding tied or not in turn; of each style one both ways.
KINDS = [(family, i % 2 == 0) for i, family in enumerate(VARIANTS)]
KINDS += [(family, VARIANTS.index(family) % 2 == 1) for family in ("llama", "gpt2", "gpt_neox", "phi", "mixtral")]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def measure(model):
    return measure_shape(model, find_decoder(model))


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_measure_shape_agrees_with_counting_by_hand(family, tied):
    model = build_tiny(family, tied=tied)
    shape = measure(model)
    assert shape == shape_by_hand(model)
    assert shape.total_parameters == sum(p.numel() for p in model.parameters())


def test_measure_shape_of_a_tiny_llama_is_this():
    """Every number worked out on paper: d 32, 4 heads and 2 key/value heads of width 8, f 48, V 97, L 4."""
    matrices = (
        Matrix("self_attn.q_proj", 32, 32),
        Matrix("self_attn.k_proj", 32, 16),
        Matrix("self_attn.v_proj", 32, 16),
        Matrix("self_attn.o_proj", 32, 32),
        Matrix("mlp.gate_proj", 32, 48),
        Matrix("mlp.up_proj", 32, 48),
        Matrix("mlp.down_proj", 48, 32),
    )
    assert measure(build_tiny("llama", tied=True)) == ModelShape(
        d_model=32,
        vocab_rows=97,
        tied=True,
        layer_shapes=(
            LayerShape(
                parameters=sum(m.inputs * m.outputs for m in matrices) + 2 * 32,
                matrices=matrices,
                n_heads=4,
                n_kv_heads=2,
                head_dim=8,
                mlp_width=48,
                kind="gated-rmsnorm",
            ),
        ),
        layer_index=(0, 0, 0, 0),
        embedding_parameters=97 * 32,
        final_norm_parameters=32,
        head_parameters=0,
        head_linear_weights=97 * 32,
        max_positions=64,
    )


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_measure_empty_equals_counting_by_hand(tmp_path, family, tied):
    model = build_tiny(family, tied=tied)
    model.config.save_pretrained(tmp_path)
    assert measure_empty(open_checkpoint(str(tmp_path), config_only=True)) == shape_by_hand(model)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2_moe"])
def test_measure_empty_equals_the_shape_of_the_loaded_model(tmp_path, family):
    save_tiny(tmp_path / "whole", family)
    (tmp_path / "config").mkdir()
    shutil.copy(tmp_path / "whole" / "config.json", tmp_path / "config")
    alone = open_checkpoint(str(tmp_path / "config"), config_only=True)
    assert measure_empty(alone) == load_causal_lm(str(tmp_path / "whole"), dtype="float32", device="cpu").shape


def test_measure_shape_of_a_tiny_mixtral_is_this():
    """Attention as in the Llama above; a router of 4 rows; 4 experts of f 48, of which 2 meet a token."""
    (layer,) = measure(build_tiny("mixtral")).layer_shapes
    assert layer.matrices[4:] == (
        Matrix("mlp.gate", 32, 4),
        Matrix("mlp.experts.gate_up_proj", 32, 96, copies=4, active=2),
        Matrix("mlp.experts.down_proj", 48, 32, copies=4, active=2),
    )
    attention = 2 * 32 * 32 + 2 * 32 * 16
    assert layer.parameters == attention + 32 * 4 + 4 * 3 * 32 * 48 + 2 * 32
    assert layer.linear_weights == attention + 32 * 4 + 2 * 3 * 32 * 48
    assert (layer.mlp_width, layer.kind) == (48, "other")


def test_measure_shape_tells_dense_layers_from_sparse_ones():
    shape = measure(build_tiny("qwen2_moe"))
    dense, sparse = shape.layer_shapes
    assert shape.layer_index == (0, 1, 1, 1)
    assert (dense.mlp_width, sparse.mlp_width) == (48, 24)
    attention = 2 * 32 * 32 + 2 * 32 * 16
    assert dense.linear_weights == attention + 3 * 32 * 48
    shared_and_its_gate = 3 * 32 * 40 + 32
    assert sparse.linear_weights == attention + 32 * 4 + 2 * 3 * 32 * 24 + shared_and_its_gate
    assert measure(build_tiny("qwen3_moe")).layer_index == (0, 1, 0, 1)


def test_measure_shape_reads_stacks_that_are_stored_the_other_way_round():
    (layer,) = measure(build_tiny("gpt_oss")).layer_shapes
    assert layer.matrices[-2:] == (
        Matrix("mlp.experts.gate_up_proj", 32, 96, copies=4, active=2),
        Matrix("mlp.experts.down_proj", 48, 32, copies=4, active=2),
    )


def test_measure_shape_counts_projections_in_front_and_behind():
    shape = measure(build_tiny("opt-projected-normed"))
    assert (shape.embedding_linear_weights, shape.final_linear_weights) == (16 * 32, 32 * 16)
    assert shape.head_linear_weights == 16 * 97
    plain = measure(build_tiny("opt"))
    assert (plain.embedding_linear_weights, plain.final_linear_weights) == (0, 0)


def test_measure_shape_reads_the_heads_of_each_layer():
    """Gemma 4: layers that attend to everything have wider heads than those that slide."""
    kinds = ["sliding_attention", "full_attention", "full_attention"]
    config = Gemma4TextConfig(
        **LLAMA_LIKE, head_dim=8, global_head_dim=16, layer_types=kinds, hidden_size_per_layer_input=0
    )
    shape = measure(AutoModelForCausalLM.from_config(config))
    assert [layer.head_dim for layer in shape.layers] == [8, 16, 16]
    assert shape.layer_index == (0, 1, 1)
    attention, mlp = 2 * 32 * 32 + 2 * 32 * 16, 3 * 32 * 48
    assert [layer.linear_weights for layer in shape.layer_shapes] == [attention + mlp, 2 * attention + mlp]


def test_measure_shape_reads_a_head_width_of_its_own():
    shape = measure(AutoModelForCausalLM.from_config(Qwen3Config(**LLAMA_LIKE, head_dim=16)))
    assert (shape.layers[0].n_heads, shape.layers[0].n_kv_heads, shape.layers[0].head_dim) == (4, 2, 16)
    assert shape.layers[0].linear_weights == 2 * (32 * 64) + 2 * (32 * 32) + 3 * (32 * 48)


def test_measure_shape_takes_the_mean_of_a_keys_and_a_values_width():
    """DeepSeek's latent attention: keys of 8 + 4 numbers, values of 8."""
    assert {layer.head_dim for layer in measure(build_tiny("deepseek_v3")).layers} == {10}


WITHOUT_HEADS = {k: v for k, v in LLAMA_LIKE.items() if "heads" not in k}
JAMBA = JambaConfig(
    **LLAMA_LIKE, attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False, mamba_d_state=4, mamba_dt_rank=4
)


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(
    ("config", "module"),
    [
        (MambaConfig(**WITHOUT_HEADS, state_size=4), "backbone.layers.0.mixer (MambaMixer)"),
        (JAMBA, "model.layers.0.mamba (JambaMambaMixer)"),
        (RwkvConfig(**WITHOUT_HEADS, attention_hidden_size=32), "rwkv.blocks.0.attention (RwkvSelfAttention)"),
        (Qwen3NextConfig(**LLAMA_LIKE, head_dim=8), "model.layers.0.linear_attn.conv1d (Conv1d)"),
    ],
    ids=["mamba", "jamba", "rwkv", "qwen3_next"],
)
def test_measure_empty_refuses_what_is_no_attention(tmp_path, config, module):
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="Convolutions, state-space and recurrent layers") as caught:
        measure_empty(open_checkpoint(str(tmp_path), config_only=True))
    assert str(caught.value).startswith(f"{module} holds weights of shape [(")


@pytest.mark.parametrize(
    "config",
    [
        MiniMaxConfig(**LLAMA_LIKE, head_dim=8, num_local_experts=4, num_experts_per_tok=2),
        Llama4TextConfig(**LLAMA_LIKE, head_dim=8, num_local_experts=4, intermediate_size_mlp=48),
    ],
    ids=["linear attention", "experts that meet every token"],
)
def test_measure_empty_refuses_a_price_that_torch_does_not_find(tmp_path, config):
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"FLOPs by torch's counter, but [\d,]+ by its matrices and attention heads"):
        measure_empty(open_checkpoint(str(tmp_path), config_only=True))


def test_check_price_sees_one_matrix_too_few():
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA_LIKE), attn_implementation="eager")
        parts = find_parts(model)
    shape = measure_shape(model, parts)
    check_price(model, shape, parts.forward_flop)
    (layer,) = shape.layer_shapes
    poorer = dataclasses.replace(shape, layer_shapes=(dataclasses.replace(layer, matrices=layer.matrices[1:]),))
    with pytest.raises(ModelError, match="it computes something else besides"):
        check_price(model, poorer, parts.forward_flop)


def test_layer_matrices_refuses_experts_without_counts():
    model = build_tiny("mixtral")
    config = SimpleNamespace(hidden_size=32, num_local_experts=4)
    with pytest.raises(ModelError, match="The cost of experts without counts cannot be estimated") as caught:
        layer_matrices(model.model.layers[0], config, "model.layers.0")
    assert str(caught.value).startswith("model.layers.0.mlp.experts (MixtralExperts) holds stacks of 4 matrices")
    assert "(looked for num_experts_per_tok, " in str(caught.value)


def test_measure_shape_refuses_layers_without_heads():
    model = build_tiny("llama")
    text_config = SimpleNamespace(hidden_size=32, model_type="headless")
    headless = SimpleNamespace(
        config=SimpleNamespace(get_text_config=lambda decoder: text_config), named_parameters=model.named_parameters
    )
    with pytest.raises(ModelError, match=r"layers\.0: expected attention heads, but its config \(headless\) names"):
        measure_shape(headless, find_decoder(model))


def test_load_refuses_what_cannot_be_priced_before_reading_any_weights(tmp_path):
    save_tiny(tmp_path)
    MambaConfig(**WITHOUT_HEADS, state_size=4, architectures=["MambaForCausalLM"]).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError, match="are not supported yet"):
        load_causal_lm(str(tmp_path), device="cpu")
