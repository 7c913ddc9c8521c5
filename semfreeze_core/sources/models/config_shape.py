"""The shape of the best-known dense families from config.json alone: a cost estimate without torch or a wait.

Everything else is counted from real modules (model_shape.py). Importing torch and transformers takes several seconds,
which is more than the question "what would freezing save on a 70B model?" should. The families here are one
architecture whose modules follow from the config; tests hold each answer equal to the counted one, and any entry that
could change the modules in a way not written here sends the config to the real modules.
"""

from pathlib import Path
from typing import Any

from semfreeze_core.errors import ModelError
from semfreeze_core.records.model import LayerKind, LayerShape, Matrix, ModelShape
from semfreeze_core.sources.models.files import check_sizes, read_object

# Entries that mean other modules, other weights, or another window for some layers.
_UNKNOWN = ("auto_map", "quantization_config", "layer_types", "text_config", "num_experts", "num_local_experts")
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
)
_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


def shape_from_config(path: Path) -> ModelShape | None:
    """The shape a config.json describes, or None when the real modules must be asked.

    Args:
        path: the file, or the folder that holds it.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        config = read_object(file)
        check_sizes(config, str(file))
    except (OSError, ModelError):
        return None  # what is wrong with it is said where configs are loaded
    return shape_of_config(config)


def shape_of_config(config: dict[str, Any]) -> ModelShape | None:
    """The shape that the entries of a config.json describe, or None when the real modules must be asked."""
    return _dense_shape(config) if _is_plain(config) else None


def _is_plain(config: dict[str, Any]) -> bool:
    if config.get("model_type") not in _FAMILIES:
        return False
    sizes = [config.get(name) for name in _SIZES]
    flags = [config.get(name, False) for name in ("tie_word_embeddings", "attention_bias", "mlp_bias")]
    return (
        all(type(size) is int and size > 0 for size in sizes)
        and all(type(flag) is bool for flag in flags)
        and config["num_hidden_layers"] > 1
        and config.get("hidden_act", "silu") == "silu"
        and not any(config.get(name) for name in (*_UNKNOWN, "use_sliding_window"))
        and (config["model_type"] != "mistral" or _window_is_wide(config))
        and (config.get("head_dim") is not None or _heads_divide_width(config))
    )


def _window_is_wide(config: dict[str, Any]) -> bool:
    """Whether Mistral's window, 4096 when unset, covers the longest sequence."""
    window = config.get("sliding_window", 4096)
    return window is None or bool(window >= config["max_position_embeddings"])


def _heads_divide_width(config: dict[str, Any]) -> bool:
    # Qwen3's heads are 128 wide when the config does not say.
    return config["model_type"] != "qwen3" and not config["hidden_size"] % config["num_attention_heads"]


def _dense_shape(config: dict[str, Any]) -> ModelShape:
    family, d, f = config["model_type"], config["hidden_size"], config["intermediate_size"]
    n_heads, n_kv_heads, rows = config["num_attention_heads"], config["num_key_value_heads"], config["vocab_size"]
    head_dim = config.get("head_dim") or d // n_heads
    q, kv, tied = n_heads * head_dim, n_kv_heads * head_dim, config.get("tie_word_embeddings", False)
    matrices = (
        Matrix("self_attn.q_proj", d, q),
        Matrix("self_attn.k_proj", d, kv),
        Matrix("self_attn.v_proj", d, kv),
        Matrix("self_attn.o_proj", q, d),
        Matrix("mlp.gate_proj", d, f),
        Matrix("mlp.up_proj", d, f),
        Matrix("mlp.down_proj", f, d),
    )
    attention_bias = family in ("llama", "qwen3") and config.get("attention_bias", False)
    vectors = 2 * d  # the two norms
    vectors += (q + 2 * kv) * (attention_bias or family == "qwen2") + d * attention_bias
    vectors += (2 * f + d) * (family == "llama" and config.get("mlp_bias", False))
    vectors += 2 * head_dim * (family == "qwen3")
    kind: LayerKind = "gated-rmsnorm-qk" if family == "qwen3" else "gated-rmsnorm"
    layer = LayerShape(sum(m.parameters for m in matrices) + vectors, matrices, n_heads, n_kv_heads, head_dim, f, kind)
    return ModelShape(
        d_model=d,
        vocab_rows=rows,
        tied=tied,
        layer_shapes=(layer,),
        layer_index=(0,) * config["num_hidden_layers"],
        embedding_parameters=rows * d,
        final_norm_parameters=d,
        head_parameters=0 if tied else rows * d,
        head_linear_weights=rows * d,
        max_positions=config["max_position_embeddings"],
        stored_in_bfloat16=config.get("dtype", config.get("torch_dtype")) == "bfloat16",
    )
