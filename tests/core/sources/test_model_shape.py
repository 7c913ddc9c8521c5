"""Counting a model: the same from weights, from the config alone, and by hand; digests that tell models apart."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from semfreeze_core.errors import ModelError
from semfreeze_core.records.model import LayerShape, Matrix, ModelShape
from semfreeze_core.sources.causal_lm import load_causal_lm, measure_empty
from semfreeze_core.sources.checkpoint import open_checkpoint
from semfreeze_core.sources.decoder import find_decoder, find_parts
from semfreeze_core.sources.model_shape import identify, measure_shape
from tests.core.cost.conftest import _tiny_shape as shape_by_hand
from tests.core.saved_models import save_tiny
from tests.core.tiny_models import FAMILIES, build_tiny

KINDS = [(family, tied) for family in FAMILIES for tied in (False, True)]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 97,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def measure(model):
    decoder = find_decoder(model)
    return measure_shape(model, decoder.layers, decoder.head, decoder.names, decoder.tied)


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


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_measure_empty_equals_measuring_the_loaded_model(tmp_path, family, tied):
    model = save_tiny(tmp_path / "whole", family, tied=tied)
    (tmp_path / "config").mkdir()
    shutil.copy(tmp_path / "whole" / "config.json", tmp_path / "config")
    alone = open_checkpoint(str(tmp_path / "config"), config_only=True)
    assert measure_empty(alone) == shape_by_hand(model)
    assert measure_empty(alone) == load_causal_lm(str(tmp_path / "whole"), dtype="float32", device="cpu").shape


def test_measure_empty_counts_published_sizes(tmp_path):
    """Mistral 7B v0.1 from its config: 7 241 732 096 parameters, as its checkpoint holds."""
    config = MistralConfig(
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        vocab_size=32000,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        architectures=["MistralForCausalLM"],
    )
    config.save_pretrained(tmp_path)
    shape = measure_empty(open_checkpoint(str(tmp_path), config_only=True))
    assert shape.total_parameters == 7_241_732_096
    assert shape.layers[0].kind == "other"
    assert (shape.n_layers, shape.d_model, shape.layers[0].n_kv_heads, shape.layers[0].head_dim) == (32, 4096, 8, 128)


def test_measure_shape_reads_a_head_width_of_its_own():
    config = Qwen3Config(**SIZES, head_dim=16)
    shape = measure(AutoModelForCausalLM.from_config(config))
    assert (shape.layers[0].n_heads, shape.layers[0].n_kv_heads, shape.layers[0].head_dim) == (4, 2, 16)
    assert shape.layers[0].linear_weights == 2 * (32 * 64) + 2 * (32 * 32) + 3 * (32 * 48)
    assert shape.layers[0].kind == "other", "an unchecked family has no formula for its activations"


@pytest.mark.parametrize(
    ("config", "module"),
    [
        (MixtralConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1), "model.layers.0.mlp."),
        (
            Qwen3MoeConfig(**SIZES, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
            "model.layers.0.mlp.",
        ),
        (MambaConfig(**{k: v for k, v in SIZES.items() if "heads" not in k}, state_size=4), "backbone.layers.0.mixer"),
    ],
    ids=["mixtral", "qwen3_moe", "mamba"],
)
def test_measure_shape_refuses_what_it_cannot_price(config, module):
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match="Mixtures of experts and convolutions cannot be priced yet") as caught:
        measure(model)
    assert str(caught.value).startswith(module)
    assert "holds weights of shape [(" in str(caught.value)


class DifferentHeads:
    """A config whose layers differ; transformers then raises a RuntimeError for what is no longer one number."""

    hidden_size = 32

    @property
    def num_attention_heads(self):
        raise RuntimeError("is a per-layer attribute and may vary across layers")


@pytest.mark.parametrize("text_config", [DifferentHeads(), SimpleNamespace(hidden_size=32)], ids=["different", "none"])
def test_measure_shape_refuses_layers_without_one_kind_of_heads(text_config):
    parts = find_parts(build_tiny("llama"))
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda decoder: text_config))
    with pytest.raises(ModelError, match="expected attention heads of one number and width in all layers"):
        measure_shape(model, parts.layers, parts.head, parts.names, parts.tied)


def test_load_refuses_experts_before_reading_any_weights(tmp_path):
    save_tiny(tmp_path)
    MixtralConfig(**SIZES, num_local_experts=2, architectures=["MixtralForCausalLM"]).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError, match="cannot be priced yet"):
        load_causal_lm(str(tmp_path), device="cpu")


@pytest.fixture
def identity_of():
    return lambda model: identify(model, source="somewhere", revision=None)


@pytest.mark.parametrize("saved_as", [torch.float32, torch.bfloat16, torch.float16])
def test_identify_agrees_between_dtypes_of_one_checkpoint(tmp_path, saved_as):
    save_tiny(tmp_path, dtype=saved_as)
    precise, coarse = (load_causal_lm(str(tmp_path), dtype=d, device="cpu") for d in ("float32", "bfloat16"))
    assert precise.decoder.dtype == torch.float32
    assert coarse.decoder.dtype == torch.bfloat16
    assert precise.identity == coarse.identity


def test_identify_says_what_was_read(identity_of):
    identity = identity_of(build_tiny("gpt2"))
    assert (identity.source, identity.revision) == ("somewhere", None)
    assert (identity.family, identity.architecture) == ("gpt2", "GPT2LMHeadModel")
    assert len(identity.structure_digest) == len(identity.weights_digest) == 64


@pytest.mark.parametrize("layer", range(4))
def test_identify_sees_one_changed_layer_in_the_weights_only(identity_of, layer):
    model = build_tiny("llama")
    before = identity_of(model)
    model.model.layers[layer].mlp.up_proj.weight.data *= 1.5
    after = identity_of(model)
    assert after.weights_digest != before.weights_digest
    assert after.structure_digest == before.structure_digest


def test_identify_sees_another_size(identity_of):
    one, other = identity_of(build_tiny("llama")), identity_of(build_tiny("llama", mlp_width=56))
    assert one.structure_digest != other.structure_digest
    assert one.weights_digest != other.weights_digest


def test_identify_sees_another_seed_in_the_weights_only(identity_of):
    one, other = identity_of(build_tiny("llama")), identity_of(build_tiny("llama", seed=1))
    assert one.structure_digest == other.structure_digest
    assert one.weights_digest != other.weights_digest


@pytest.mark.parametrize("family", FAMILIES)
def test_identify_of_a_tied_model_survives_saving(tmp_path, identity_of, family):
    model = save_tiny(tmp_path, family, tied=True)
    loaded = load_causal_lm(str(tmp_path), dtype="float32", device="cpu")
    assert loaded.decoder.tied
    assert loaded.identity.structure_digest == identity_of(model).structure_digest
    assert loaded.identity.weights_digest == identity_of(model).weights_digest


def test_identify_reads_parameters_smaller_than_its_sample(identity_of):
    class Small(nn.Module):
        config = build_tiny("llama").config

        def __init__(self):
            super().__init__()
            self.single = nn.Parameter(torch.ones(1))

    one, other = Small(), Small()
    other.single.data += 1
    assert identity_of(one).weights_digest != identity_of(other).weights_digest
