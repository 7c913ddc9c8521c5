"""Random models small enough to train in milliseconds, one for each family whose costs are known."""

from typing import Literal, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, PreTrainedModel, Qwen2Config

from semfreeze_core.records.training import TrainableParts

Family = Literal["llama", "qwen2", "gpt2", "gpt_neox"]
FAMILIES: tuple[Family, ...] = ("llama", "qwen2", "gpt2", "gpt_neox")

TIED_BY_DEFAULT = {"llama": False, "qwen2": False, "gpt2": True, "gpt_neox": False}

# Written down, not computed: a change of transformers that makes a tiny model another model must be seen.
DEFAULT_PARAMETERS = {
    ("llama", False): 37_216,
    ("llama", True): 34_112,
    ("qwen2", False): 37_472,
    ("qwen2", True): 34_368,
    ("gpt2", False): 38_336,
    ("gpt2", True): 35_232,
    ("gpt_neox", False): 36_288,
    ("gpt_neox", True): 33_184,
}
MOST_PARAMETERS = 300_000


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
        family: the config's model_type.
        tied: whether head and embedding are one parameter; the family's own habit when None.
        n_kv_heads, head_dim: Llama and Qwen2 only; the other two have n_heads heads of width d_model / n_heads.
        attention: "eager" multiplies matrices in the open, "sdpa" is fused.
        seed: of the weights; torch's own generator is left as it was.
    """
    tied = TIED_BY_DEFAULT[family] if tied is None else tied
    common = {
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    match family:
        case "llama" | "qwen2":
            config_class = LlamaConfig if family == "llama" else Qwen2Config
            config = config_class(
                hidden_size=d_model,
                num_hidden_layers=n_layers,
                num_attention_heads=n_heads,
                num_key_value_heads=n_kv_heads,
                head_dim=head_dim,
                intermediate_size=mlp_width,
                max_position_embeddings=max_positions,
                attention_dropout=0.0,
                **common,
            )
        case "gpt2":
            config = GPT2Config(
                n_embd=d_model,
                n_layer=n_layers,
                n_head=n_heads,
                n_inner=mlp_width,
                n_positions=max_positions,
                attn_pdrop=0.0,
                embd_pdrop=0.0,
                resid_pdrop=0.0,
                **common,
            )
        case "gpt_neox":
            config = GPTNeoXConfig(
                hidden_size=d_model,
                num_hidden_layers=n_layers,
                num_attention_heads=n_heads,
                intermediate_size=mlp_width,
                max_position_embeddings=max_positions,
                attention_dropout=0.0,
                hidden_dropout=0.0,
                **common,
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    found = sum(parameter.numel() for parameter in model.parameters())
    sizes = (n_layers, d_model, n_heads, n_kv_heads, head_dim, mlp_width, vocab, max_positions)
    if sizes == (4, 32, 4, 2, 8, 48, 97, 64):
        assert found == DEFAULT_PARAMETERS[family, tied], f"tiny {family}, tied={tied}: {found} parameters"
    assert found < MOST_PARAMETERS, f"a tiny {family} has {found} parameters: use smaller sizes"
    return model.train()


def find_pieces(model: PreTrainedModel) -> ModelPieces:
    """Embeddings, layers, final norm and head of a tiny model, by the names its family gives them."""
    base, head = model.base_model, model.get_output_embeddings()
    match model.config.model_type:
        case "llama" | "qwen2":
            return ModelPieces((base.embed_tokens,), base.layers, base.norm, head)
        case "gpt2":
            return ModelPieces((base.wte, base.wpe), base.h, base.ln_f, head)
        case "gpt_neox":
            return ModelPieces((base.embed_in,), base.layers, base.final_layer_norm, head)
        case other:
            raise ValueError(f"{other} is not a tiny family")


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
