"""Random models small enough to train in milliseconds, one for each family and each way a family can be built."""

from typing import Literal, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from semfreeze_core.records.training import TrainableParts
from tests.core.tiny_configs import Sizes, tiny_config

# Those whose saved activations were counted and written as a formula first; VARIANTS are all.
Family = str
FAMILIES: tuple[Family, ...] = ("llama", "qwen2", "gpt2", "gpt_neox")

# Parameters (untied, tied). Written down, not computed: a change of transformers that makes a tiny model another model
# must be seen.
_PARAMETERS = {
    "llama": (37_216, 34_112),
    "qwen2": (37_472, 34_368),
    "mistral": (37_216, 34_112),
    "mistral-sliding": (37_216, 34_112),
    "qwen3": (37_280, 34_176),
    "gemma2": (37_472, 34_368),
    "gemma3_text": (37_536, 34_432),
    "phi3": (37_216, 34_112),
    "phi": (31_905, 28_801),
    "olmo2": (37_408, 34_304),
    "starcoder2": (32_064, 28_960),
    "gpt2": (38_336, 35_232),
    "gpt_neox": (36_288, 33_184),
    "opt": (38_400, 35_296),
    "opt-projected": (36_256, 34_704),
    "opt-projected-normed": (36_320, 34_768),
    "falcon": (29_056, 25_952),
    "falcon-new": (31_360, 28_256),
    "falcon-alibi": (36_288, 33_184),
    "bloom": (57_152, 54_048),
    "mixtral": (93_024, 89_920),
    "qwen2_moe": (63_296, 60_192),
    "qwen3_moe": (46_752, 43_648),
    "gpt_oss": (95_488, 92_384),
    "deepseek_v3": (62_048, 58_944),
}
VARIANTS: tuple[Family, ...] = tuple(_PARAMETERS)
DEFAULT_PARAMETERS = {
    (variant, tied): count
    for variant, both in _PARAMETERS.items()
    for tied, count in zip((False, True), both, strict=True)
}
MOST_PARAMETERS = 300_000
# One of each kind of attention, position, norm, MLP and expert: tests of all families meet the others with -m slow.
QUICK: tuple[Family, ...] = (
    *FAMILIES, "gemma3_text", "opt-projected", "falcon-alibi", "mixtral", "gpt_oss", "deepseek_v3",
)  # fmt: skip
_TIED = ("gpt2", "gemma2", "gemma3_text", "opt", "falcon", "bloom", "starcoder2")
TIED_BY_DEFAULT = {variant: variant.split("-")[0] in _TIED for variant in VARIANTS}


class ModelPieces(NamedTuple):
    """Where a tiny model's parts are."""

    embeddings: tuple[nn.Module, ...]
    layers: nn.ModuleList
    final_norm: nn.Module
    head: nn.Linear


def build_tiny(
    family: Family,
    *,
    n_layers: int = 4,
    tied: bool | None = None,
    d_model: int = 32,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    head_dim: int = 8,
    mlp_width: int = 48,
    vocab: int = 97,
    max_positions: int = 64,
    attention: Literal["eager", "sdpa"] = "sdpa",
    seed: int = 0,
) -> PreTrainedModel:
    """A random float32 model in training mode, without dropout.

    Args:
        family: one of VARIANTS.
        tied: whether head and embedding are one parameter; the family's own habit when None.
        n_kv_heads, head_dim: of families that know them; others have n_heads heads of width d_model / n_heads.
        attention: "eager" multiplies matrices in the open, experts' too; "sdpa" is fused, where a family can be.
        seed: of the weights; torch's own generator is left as it was.
    """
    tied = TIED_BY_DEFAULT[family] if tied is None else tied
    sizes = Sizes(n_layers, d_model, n_heads, n_kv_heads, head_dim, mlp_width, vocab, max_positions)
    config = tiny_config(family, sizes, tied=tied)
    how = {"attn_implementation": "eager", "experts_implementation": "eager"} if attention == "eager" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, **how)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if sizes == (4, 32, 4, 2, 8, 48, 97, 64):
        assert n_parameters == DEFAULT_PARAMETERS[family, tied], (
            f"tiny {family}, tied={tied}: {n_parameters} parameters"
        )
    assert n_parameters < MOST_PARAMETERS, f"a tiny {family} has {n_parameters} parameters: use smaller sizes"
    return model.train()


def find_pieces(model: PreTrainedModel) -> ModelPieces:
    """Embeddings, layers, final norm and head of a tiny model, by the names its family gives them."""
    base, head = model.base_model, model.get_output_embeddings()
    match model.config.model_type:
        case "gpt2":
            return ModelPieces((base.wte, base.wpe), base.h, base.ln_f, head)
        case "gpt_neox":
            return ModelPieces((base.embed_in,), base.layers, base.final_layer_norm, head)
        case "phi":
            return ModelPieces((base.embed_tokens,), base.layers, base.final_layernorm, head)
        case "falcon":
            return ModelPieces((base.word_embeddings,), base.h, base.ln_f, head)
        case "bloom":
            return ModelPieces((base.word_embeddings, base.word_embeddings_layernorm), base.h, base.ln_f, head)
        case "opt":
            return _opt_pieces(base.decoder, head)
        case _:
            return ModelPieces((base.embed_tokens,), base.layers, base.norm, head)


def _opt_pieces(decoder: nn.Module, head: nn.Linear) -> ModelPieces:
    front = [decoder.embed_tokens, decoder.embed_positions, decoder.project_in]
    end = [m for m in (decoder.final_layer_norm, decoder.project_out) if m is not None]
    final_norm = end[0] if len(end) == 1 else nn.Sequential(*end)
    return ModelPieces(tuple(m for m in front if m is not None), decoder.layers, final_norm, head)


def set_trainable(model: PreTrainedModel, parts: TrainableParts) -> None:
    """Let exactly these parts require gradients; a parameter shared by two parts does when either is trained."""
    pieces = find_pieces(model)
    model.requires_grad_(False)
    for layer, trained in zip(pieces.layers, parts.layers, strict=True):
        layer.requires_grad_(trained)
    pieces.final_norm.requires_grad_(parts.final_norm)
    if parts.embeddings:
        for module in pieces.embeddings:
            module.requires_grad_(True)
    if parts.head:
        pieces.head.requires_grad_(True)
