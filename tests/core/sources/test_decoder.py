"""Finding a decoder's parts: the right modules, every parameter in exactly one part, and refusals in clear words."""

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    ModernBertDecoderConfig,
    OPTConfig,
    PhiConfig,
    XLMConfig,
)

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.decoder import HeadTransform, find_decoder, find_parts
from semfreeze_core.sources.probe import describe_space, find_layers
from tests.core.tiny_models import FAMILIES, build_tiny, find_pieces

KINDS = [(family, tied) for family in FAMILIES for tied in (False, True)]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 97,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
LLAMA_LIKE = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 48}

# Names as the families' own code gives them, written down.
NAMES = {
    "llama": ("model.layers.", ("model.embed_tokens.weight",), ("model.norm.weight",), ("lm_head.weight",)),
    "qwen2": ("model.layers.", ("model.embed_tokens.weight",), ("model.norm.weight",), ("lm_head.weight",)),
    "gpt2": (
        "transformer.h.",
        ("transformer.wte.weight", "transformer.wpe.weight"),
        ("transformer.ln_f.weight", "transformer.ln_f.bias"),
        ("lm_head.weight",),
    ),
    "gpt_neox": (
        "gpt_neox.layers.",
        ("gpt_neox.embed_in.weight",),
        ("gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias"),
        ("lm_head.weight",),
    ),
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def build(config, seed=0):
    """A random model of a config, in eval mode, with norms and biases away from their neutral starting values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    assert sum(p.numel() for p in model.parameters()) < 300_000
    return model


def refusal(model):
    with pytest.raises(ModelError) as caught:
        find_decoder(model)
    return str(caught.value)


def assert_partition(model, names):
    """Every parameter belongs to exactly one part."""
    layers = [n for n, _ in model.named_parameters() if n.startswith(names.layer_prefix)]
    parts = [*names.embeddings, *layers, *names.final_norm, *names.head]
    assert sorted(parts) == sorted(n for n, _ in model.named_parameters())


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_find_decoder_finds_the_parts_its_family_names(family, tied):
    model = build_tiny(family, tied=tied)
    decoder, pieces = find_decoder(model), find_pieces(model)
    assert decoder.layers is pieces.layers
    assert decoder.final_norm is pieces.final_norm
    assert decoder.head is pieces.head
    assert decoder.embedding is pieces.embeddings[0]
    assert decoder.base is model.base_model
    assert decoder.tied is tied
    assert decoder.transform == HeadTransform()
    assert not model.training


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_find_decoder_names_every_parameter_once(family, tied):
    model = build_tiny(family, tied=tied)
    names = find_decoder(model).names
    prefix, embeddings, final_norm, head = NAMES[family]
    assert names.layer_prefix == prefix
    assert names.embeddings == embeddings
    assert names.final_norm == final_norm
    if family == "gpt_neox" and hasattr(model, "embed_out"):
        head = ("embed_out.weight",)  # as older versions of transformers call it
    assert names.head == (() if tied else head)
    assert_partition(model, names)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_find_decoder_rebuilds_the_logits(family, tied, dtype):
    decoder = find_decoder(build_tiny(family, tied=tied).to(dtype))
    assert decoder.logits_error < 1e-6
    assert decoder.dtype == dtype
    assert decoder.device == torch.device("cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_models_own(family):
    model = build_tiny(family)
    decoder = find_decoder(model)
    ids = torch.arange(3, 23)[None]
    with torch.no_grad():
        output = model(input_ids=ids, output_hidden_states=True)
    # transformers hands out the last hidden state with the final norm already on it.
    assert torch.allclose(decoder.logits(output.hidden_states[-1]), output.logits, atol=1e-5)


def test_find_decoder_takes_a_head_with_bias():
    untied, tied = (
        build(PhiConfig(**LLAMA_LIKE, partial_rotary_factor=0.5, tie_word_embeddings=tied)) for tied in (False, True)
    )
    assert find_decoder(untied).names.head == ("lm_head.weight", "lm_head.bias")
    decoder = find_decoder(tied)
    assert decoder.names.head == ("lm_head.bias",)
    assert decoder.logits_error < 1e-6
    assert_partition(tied, decoder.names)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("config", "scale"),
    [(GraniteConfig(**LLAMA_LIKE, logits_scaling=4.0), 0.25), (CohereConfig(**LLAMA_LIKE, logit_scale=0.0625), 0.0625)],
    ids=["granite", "cohere"],
)
def test_find_decoder_reproduces_a_scaled_head(config, scale, dtype):
    decoder = find_decoder(build(config).to(dtype))
    assert decoder.transform.scale == pytest.approx(scale, rel=1e-2 if dtype == torch.bfloat16 else 1e-5)
    assert decoder.transform.softcap is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cap", [30.0, 0.5])
def test_find_decoder_reproduces_a_capped_head(cap, dtype):
    """Logits far below the cap look uncapped: the config's word is taken when it fits."""
    config = Gemma2Config(**LLAMA_LIKE, head_dim=8, query_pre_attn_scalar=8, final_logit_softcapping=cap)
    model = build(config).to(dtype)
    decoder = find_decoder(model)
    assert decoder.transform == HeadTransform(softcap=cap)
    states = torch.randn(5, 32, generator=torch.Generator().manual_seed(0)) * 30
    assert decoder.logits(states).abs().max() <= cap


def test_head_transform_by_hand():
    logits = torch.tensor([0.0, 1.0, -2.0])
    assert torch.equal(HeadTransform()(logits), logits)
    assert torch.equal(HeadTransform(scale=0.5)(logits), torch.tensor([0.0, 0.5, -1.0]))
    capped = HeadTransform(scale=2.0, softcap=4.0)(logits)
    assert capped.tolist() == pytest.approx([0.0, 4 * 0.46211716, -4 * 0.76159416])  # tanh(1/2), tanh(1)


def test_find_decoder_takes_a_projection_for_the_final_norm():
    """OPT-350m: no norm at the end, but a matrix from the layers' width to the head's."""
    config = OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=16, do_layer_norm_before=False)
    decoder = find_decoder(build(config))
    assert isinstance(decoder.final_norm, nn.Linear)
    assert decoder.names.final_norm == ("model.decoder.project_out.weight",)
    assert "model.decoder.project_in.weight" in decoder.names.embeddings


@pytest.mark.parametrize("family", FAMILIES)
def test_find_decoder_leaves_no_hook_behind(family):
    model = build_tiny(family)
    find_decoder(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_find_decoder_refuses_an_encoder():
    message = refusal(build(BertConfig(**SIZES, intermediate_size=48)))
    assert message.startswith("BertLMHeadModel looks ahead: changing later tokens changed earlier logits.")
    assert "decoder-only" in message


@pytest.mark.parametrize("find", [find_decoder, find_parts])
@pytest.mark.parametrize(
    ("config", "between"),
    [
        (BertConfig(**SIZES, intermediate_size=48, is_decoder=True), "found none and cls.predictions"),
        (ModernBertDecoderConfig(**SIZES, intermediate_size=48), "found model.final_norm and lm_head.dense"),
    ],
    ids=["bert", "modernbert"],
)
def test_find_parts_refuses_a_head_with_layers_of_its_own(find, config, between):
    model = build(config)
    with pytest.raises(ModelError, match="expected one final norm between the last layer and the head") as caught:
        find(model)
    assert between in str(caught.value)


def test_find_decoder_refuses_one_layer():
    message = refusal(build_tiny("llama", n_layers=1))
    assert message == "LlamaForCausalLM has 1 layer; choosing a freeze depth needs at least 2."


def test_find_decoder_takes_two_layers():
    assert len(find_decoder(build_tiny("gpt2", n_layers=2)).layers) == 2


def test_find_layers_refuses_several_lists():
    config = XLMConfig(emb_dim=32, n_layers=3, n_heads=4, n_words=97, causal=True)
    message = refusal(build(config))
    assert message.startswith("XLMWithLMHeadModel: expected one list of 3 layers, found 4.")
    assert "transformer.attentions (3), transformer.layer_norm1 (3)" in message


def test_find_layers_refuses_a_missing_list():
    model = build_tiny("llama")
    model.model.layers = model.model.layers[:3]
    with pytest.raises(ModelError, match=r"expected one list of 4 layers, found 0\. Module lists.*model\.layers \(3\)"):
        find_layers(model)


def test_find_layers_gives_the_outermost_list():
    model = build_tiny("llama")
    for layer in model.model.layers:
        layer.experts = nn.ModuleList(nn.Identity() for _ in range(4))
    layers, prefix = find_layers(model)
    assert layers is model.model.layers
    assert prefix == "model.layers."


def test_find_decoder_refuses_layers_that_are_no_chain():
    model = build_tiny("llama")
    model.model.layers[2].register_forward_pre_hook(lambda _, args: (args[0] * 1.01, *args[1:]))
    message = refusal(model)
    assert "layer 1 does not hand its output on to layer 2 unchanged" in message


def test_find_decoder_refuses_a_layer_that_runs_twice():
    model = build_tiny("llama")
    model.model.layers[2] = model.model.layers[1]
    assert "expected every layer and the head to run once, found 6 calls of 4 layers" in refusal(model)


def test_find_decoder_refuses_logits_it_cannot_rebuild():
    model = build_tiny("llama")

    def bend(_, __, output):
        output.logits = output.logits.abs().sqrt()
        return output

    model.register_forward_hook(bend)
    message = refusal(model)
    assert "does not reproduce the model's own logits" in message
    assert "(allowed 0.001), tried plain, scaled by" in message


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_find_decoder_names_the_damaged_layer(layer, value):
    model = build_tiny("llama")
    model.model.layers[layer].mlp.down_proj.weight.data[3, 4] = value
    message = refusal(model)
    assert f"the output of layer {layer} holds NaN or infinity on a probe of 12 tokens in torch.float32" in message
    assert "--dtype float32" in message


def test_find_decoder_names_damaged_embeddings_and_head():
    model = build_tiny("llama")
    model.model.embed_tokens.weight.data[:] = float("nan")
    assert "the input of layer 0 holds NaN" in refusal(model)
    model = build_tiny("llama")
    model.lm_head.weight.data[5] = float("nan")
    assert "the final norm or the head is damaged" in refusal(model)


def test_find_decoder_refuses_an_empty_head():
    model = build_tiny("llama")
    model.lm_head.weight.data.zero_()
    assert "its head is empty" in refusal(model)


def test_find_decoder_refuses_a_model_that_cannot_run():
    model = build_tiny("llama")
    model.model.layers[1].self_attn.q_proj = nn.Linear(31, 32)
    message = refusal(model)
    assert message.startswith("LlamaForCausalLM cannot run on a probe of 12 tokens in torch.float32: RuntimeError:")


def test_find_decoder_refuses_a_head_that_is_no_matrix():
    model = build_tiny("llama")
    model.set_output_embeddings(nn.Identity())
    assert "expected a linear head with floating-point weights, found Identity" in refusal(model)
    model = build_tiny("llama")
    model.lm_head.weight = nn.Parameter(torch.zeros(97, 32, dtype=torch.int8), requires_grad=False)
    assert "expected a linear head with floating-point weights" in refusal(model)


def test_describe_space_counts_layers_from_zero():
    assert describe_space(0) == "the input of layer 0"
    assert describe_space(1) == "the output of layer 0"
