"""Finding a decoder's parts: the right modules, every parameter in exactly one part, and refusals in clear words."""

import pytest
import torch
from torch import nn
from transformers import (
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    PhiConfig,
)

from semfreeze_core.sources.models.decoder import HeadTransform, find_decoder
from semfreeze_core.sources.models.probe import describe_space
from tests.core.sources.models.random_models import LLAMA_LIKE, build, unsettled
from tests.core.tiny_models import FAMILIES, VARIANTS, build_tiny, find_pieces

# Every family, its head and embedding tied or not in turn; of each style one both ways.
KINDS = [(family, i % 2 == 0) for i, family in enumerate(VARIANTS)]
KINDS += [(family, VARIANTS.index(family) % 2 == 1) for family in ("llama", "gpt2", "gpt_neox", "phi", "mixtral")]
# Names as the families' own code gives them: of the layers, and of the parameters in front, at the end and in the head.
LLAMA_NAMES = ("model.layers.", ("model.embed_tokens.weight",), ("model.norm.weight",), ("lm_head.weight",))
BIASED_NORM = ("model.norm.weight", "model.norm.bias")
OPT_EMBEDDINGS = ("model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight")
OPT_NORM = ("model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias")
OPT_IN, OPT_OUT = ("model.decoder.project_in.weight",), ("model.decoder.project_out.weight",)
BLOOM_NORM = ("transformer.word_embeddings_layernorm.weight", "transformer.word_embeddings_layernorm.bias")
FINAL_NORM = ("transformer.ln_f.weight", "transformer.ln_f.bias")
FALCON_NAMES = ("transformer.h.", ("transformer.word_embeddings.weight",), FINAL_NORM, ("lm_head.weight",))
NAMES = {
    "starcoder2": (*LLAMA_NAMES[:2], BIASED_NORM, LLAMA_NAMES[3]),
    "phi": (
        *LLAMA_NAMES[:2],
        ("model.final_layernorm.weight", "model.final_layernorm.bias"),
        ("lm_head.weight", "lm_head.bias"),
    ),
    "gpt2": ("transformer.h.", ("transformer.wte.weight", "transformer.wpe.weight"), FINAL_NORM, ("lm_head.weight",)),
    "gpt_neox": (
        "gpt_neox.layers.",
        ("gpt_neox.embed_in.weight",),
        ("gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias"),
        ("lm_head.weight",),
    ),
    "opt": ("model.decoder.layers.", OPT_EMBEDDINGS, OPT_NORM, ("lm_head.weight",)),
    "opt-projected": ("model.decoder.layers.", (*OPT_EMBEDDINGS, *OPT_IN), OPT_OUT, ("lm_head.weight",)),
    "opt-projected-normed": (
        "model.decoder.layers.",
        (*OPT_EMBEDDINGS, *OPT_IN),
        (*OPT_NORM, *OPT_OUT),
        ("lm_head.weight",),
    ),
    "falcon": FALCON_NAMES,
    "falcon-new": FALCON_NAMES,
    "falcon-alibi": FALCON_NAMES,
    "bloom": ("transformer.h.", (*FALCON_NAMES[1], *BLOOM_NORM), FINAL_NORM, ("lm_head.weight",)),
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


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
    if family == "opt-projected-normed":
        assert list(decoder.final_norm) == list(pieces.final_norm)
    else:
        assert decoder.final_norm is pieces.final_norm
    assert decoder.head is pieces.head
    assert decoder.embedding is pieces.embeddings[0]
    assert decoder.base is model.base_model
    assert decoder.tied is tied
    assert decoder.transform == HeadTransform(softcap=30.0 if family == "gemma2" else None)
    assert not model.training


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", VARIANTS)
def test_find_decoder_names_every_parameter_once(family, tied):
    model = build_tiny(family, tied=tied)
    names = find_decoder(model).names
    prefix, embeddings, final_norm, head = NAMES.get(family, LLAMA_NAMES)
    assert names.layer_prefix == prefix
    assert sorted(names.embeddings) == sorted(embeddings)
    assert names.final_norm == final_norm
    if family == "gpt_neox" and hasattr(model, "embed_out"):
        head = ("embed_out.weight",)  # as older versions of transformers call it
    assert names.head == (head[1:] if tied else head), "a tied weight is the embedding's; a bias stays the head's own"
    assert_partition(model, names)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_find_decoder_rebuilds_the_logits(family, tied, dtype):
    decoder = find_decoder(unsettled(build_tiny(family, tied=tied)).to(dtype))
    rounds = family == "gemma2" and dtype == torch.bfloat16  # its own soft-cap, which semfreeze computes in float32
    assert decoder.logits_error < (3e-2 if rounds else 1e-6)
    assert decoder.dtype == dtype
    assert decoder.device == torch.device("cpu")


@pytest.mark.parametrize("family", VARIANTS)
def test_logits_are_the_models_own(family):
    model = unsettled(build_tiny(family))
    decoder = find_decoder(model)
    ids = torch.arange(3, 23)[None]
    with torch.no_grad():
        normalized = model.base_model(input_ids=ids).last_hidden_state
        logits = model(input_ids=ids).logits
    assert torch.allclose(decoder.logits(normalized), logits, atol=1e-5)


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
    decoder = find_decoder(build_tiny("opt-projected"))
    assert isinstance(decoder.final_norm, nn.Linear)
    assert (decoder.head.in_features, decoder.final_norm.in_features) == (16, 32)


def test_find_decoder_composes_what_stands_between_the_last_layer_and_the_head():
    model = unsettled(build_tiny("opt-projected-normed"))
    final_norm = find_decoder(model).final_norm
    states = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        by_hand = model.model.decoder.project_out(model.model.decoder.final_layer_norm(states))
        assert torch.equal(final_norm(states), by_hand)


def test_find_parts_names_what_runs_in_front():
    model = build_tiny("opt-projected")
    front = model.model.decoder
    assert set(find_decoder(model).front) == {front.embed_tokens, front.embed_positions, front.project_in}
    decoder = find_decoder(build_tiny("llama"))
    assert decoder.front == (decoder.embedding,)


@pytest.mark.parametrize("family", FAMILIES)
def test_find_decoder_leaves_no_hook_behind(family):
    model = build_tiny(family)
    find_decoder(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_describe_space_counts_layers_from_zero():
    assert describe_space(0) == "the input of layer 0"
    assert describe_space(1) == "the output of layer 0"
