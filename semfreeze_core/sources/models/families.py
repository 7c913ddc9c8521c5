"""The one file that knows model families by name: what their configs mean, and whose saved activations were counted.

Finding a model's parts needs no names (see decoder.py). A family that is not listed here is analyzed and planned all
the same, with its FLOPs; only its activation bytes are reported as unknown.
"""

from typing import Any

from semfreeze_core.records.model import LayerKind


def layer_kind(config: Any) -> LayerKind:
    """The saved-activation formula that holds for a config's layers, or "other" when none has been checked."""
    match config.model_type:
        case "llama" | "mistral" | "qwen2" if config.hidden_act == "silu" and _attends_to_all(config):
            return "gated-rmsnorm"
        case "qwen3" if config.hidden_act == "silu" and _attends_to_all(config):
            return "gated-rmsnorm-qk"
        case "gpt2" if config.activation_function == "gelu_new":
            return "mlp-layernorm"
        case "gpt_neox" if config.use_parallel_residual and config.hidden_act == "gelu":
            return "parallel-layernorm"
        case _:
            return "other"


def _attends_to_all(config: Any) -> bool:
    """Whether no sliding window is shorter than the longest sequence: one would need a mask, which repeats k and v."""
    window = getattr(config, "sliding_window", None)
    return window is None or window >= config.max_position_embeddings


def multi_token_layers(config: Any) -> int:
    """Layers behind the last one that predict more than the next token.

    DeepSeek-V3, GLM-4-MoE and others keep them in the checkpoint as if they were further layers of the model.
    """
    named = getattr(config.get_text_config(decoder=True), "num_nextn_predict_layers", None)
    return named if isinstance(named, int) else 0


def key_value_heads(config: Any, n_heads: int) -> int:
    """Heads of keys and values, given the number of query heads."""
    match config.model_type:
        case "falcon" if config.multi_query and not config.new_decoder_architecture:
            return 1
        case "gpt_bigcode" if config.multi_query:
            return 1
    for name in ("num_key_value_heads", "num_kv_heads"):
        heads = getattr(config, name, None)
        if heads:
            return int(heads)
    return n_heads
