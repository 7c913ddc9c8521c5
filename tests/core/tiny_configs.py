"""Configs of random models, one for each family and each way a family can be built."""

from typing import Any, NamedTuple

from transformers import (
    BloomConfig,
    DeepseekV3Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    Starcoder2Config,
)


class Sizes(NamedTuple):
    """What a tiny model can be told; a family takes what it knows."""

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    mlp_width: int
    vocab: int
    max_positions: int


N_EXPERTS, ACTIVE_EXPERTS = 4, 2
EXPERT_WIDTH, SHARED_WIDTH = 24, 40
SLIDING_WINDOW = 8
_SPECIAL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def tiny_config(variant: str, sizes: Sizes, *, tied: bool) -> PreTrainedConfig:
    """The config of one variant, without dropout; what stands before a dash is the config's model_type."""
    names = {
        "hidden_size": sizes.d_model,
        "num_hidden_layers": sizes.n_layers,
        "num_attention_heads": sizes.n_heads,
        "vocab_size": sizes.vocab,
        "max_position_embeddings": sizes.max_positions,
        "tie_word_embeddings": tied,
        "attention_dropout": 0.0,
        **_SPECIAL,
    }
    grouped = {**names, "num_key_value_heads": sizes.n_kv_heads, "intermediate_size": sizes.mlp_width}
    with_width = {**grouped, "head_dim": sizes.head_dim}
    experts = {"num_experts": N_EXPERTS, "num_experts_per_tok": ACTIVE_EXPERTS, "moe_intermediate_size": EXPERT_WIDTH}
    match variant:
        case "llama":
            return LlamaConfig(**with_width)
        case "qwen2":
            return Qwen2Config(**with_width)
        case "mistral" | "mistral-sliding":
            return MistralConfig(**with_width, sliding_window=SLIDING_WINDOW if variant != "mistral" else None)
        case "qwen3":
            return Qwen3Config(**with_width)
        case "gemma2":  # every other layer slides
            return Gemma2Config(**with_width, query_pre_attn_scalar=sizes.head_dim, sliding_window=SLIDING_WINDOW)
        case "gemma3_text":
            kinds = ["full_attention" if i % 3 == 2 else "sliding_attention" for i in range(sizes.n_layers)]
            options: dict[str, Any] = {"layer_types": kinds, "sliding_window": SLIDING_WINDOW}
            return Gemma3TextConfig(**with_width, **options, query_pre_attn_scalar=sizes.head_dim)
        case "phi3":
            return Phi3Config(**grouped)
        case "phi":
            return PhiConfig(**grouped, partial_rotary_factor=0.5)
        case "olmo2":
            return Olmo2Config(**grouped)
        case "starcoder2":
            return Starcoder2Config(**grouped)
        case "gpt2":
            return _gpt2(sizes, tied)
        case "gpt_neox":
            return GPTNeoXConfig(**names, intermediate_size=sizes.mlp_width, hidden_dropout=0.0)
        case "opt" | "opt-projected" | "opt-projected-normed":
            return _opt(variant, names, sizes)
        case "falcon":
            return FalconConfig(**names, ffn_hidden_size=sizes.mlp_width)
        case "falcon-new":
            new = {"new_decoder_architecture": True, "num_kv_heads": sizes.n_kv_heads}
            return FalconConfig(**names, ffn_hidden_size=sizes.mlp_width, **new)
        case "falcon-alibi":
            old = {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}
            return FalconConfig(**names, ffn_hidden_size=sizes.mlp_width, **old)
        case "bloom":
            return _bloom(sizes, tied)
        case "mixtral":
            return MixtralConfig(**with_width, num_local_experts=N_EXPERTS, num_experts_per_tok=ACTIVE_EXPERTS)
        case "qwen2_moe":  # layer 0 is dense, the others have a shared expert
            return Qwen2MoeConfig(
                **grouped, **experts, shared_expert_intermediate_size=SHARED_WIDTH, mlp_only_layers=[0]
            )
        case "qwen3_moe":  # every other layer is dense
            return Qwen3MoeConfig(**with_width, **experts, decoder_sparse_step=2)
        case "gpt_oss":
            return GptOssConfig(
                **with_width,
                num_local_experts=N_EXPERTS,
                num_experts_per_tok=ACTIVE_EXPERTS,
                sliding_window=SLIDING_WINDOW,
                rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            )
        case "deepseek_v3":
            return _deepseek(names, sizes)
    raise ValueError(f"{variant} is not a tiny model")


def _gpt2(sizes: Sizes, tied: bool) -> PreTrainedConfig:
    return GPT2Config(
        n_embd=sizes.d_model,
        n_layer=sizes.n_layers,
        n_head=sizes.n_heads,
        n_inner=sizes.mlp_width,
        n_positions=sizes.max_positions,
        vocab_size=sizes.vocab,
        tie_word_embeddings=tied,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        **_SPECIAL,
    )


def _opt(variant: str, names: dict[str, Any], sizes: Sizes) -> PreTrainedConfig:
    """OPT as most sizes are, as 350m is (a projection and no final norm), and with both a norm and a projection."""
    return OPTConfig(
        **names,
        ffn_dim=sizes.mlp_width,
        word_embed_proj_dim=sizes.d_model if variant == "opt" else sizes.d_model // 2,
        do_layer_norm_before=variant != "opt-projected",
        dropout=0.0,
    )


def _bloom(sizes: Sizes, tied: bool) -> PreTrainedConfig:
    return BloomConfig(
        hidden_size=sizes.d_model,
        n_layer=sizes.n_layers,
        n_head=sizes.n_heads,
        vocab_size=sizes.vocab,
        tie_word_embeddings=tied,
        **_SPECIAL,
    )


def _deepseek(names: dict[str, Any], sizes: Sizes) -> PreTrainedConfig:
    """Latent attention with keys of 12 and values of 8 numbers a head; layer 0 is dense, the others share an expert."""
    return DeepseekV3Config(
        **names,
        num_key_value_heads=sizes.n_heads,
        intermediate_size=sizes.mlp_width,
        moe_intermediate_size=EXPERT_WIDTH,
        n_routed_experts=N_EXPERTS,
        num_experts_per_tok=ACTIVE_EXPERTS,
        n_group=2,
        topk_group=2,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=4,
        v_head_dim=8,
    )
