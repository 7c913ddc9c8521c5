"""The one file that knows model families by name: whose saved activations have been counted and written as a formula.

Finding a model's parts needs no names (see decoder.py). A family that is not listed here is read, planned and priced in
FLOP all the same; only its activation bytes are said to be unknown.
"""

from typing import Any

from semfreeze_core.records.model import LayerKind


def layer_kind(config: Any) -> LayerKind:
    """The saved-activation formula that holds for a config's layers, or "other" when none has been checked."""
    match config.model_type:
        case "llama" | "qwen2" if config.hidden_act == "silu":
            return "gated-rmsnorm"
        case "gpt2" if config.activation_function == "gelu_new":
            return "mlp-layernorm"
        case "gpt_neox" if config.use_parallel_residual and config.hidden_act == "gelu":
            return "parallel-layernorm"
        case _:
            return "other"
