"""Language models: a checkpoint opened and loaded, its parts found and verified, its size counted."""

# The modules that other rooms may import.
__all__ = [
    "activation_count",
    "by_layer",
    "causal_lm",
    "checkpoint",
    "config_shape",
    "decoder",
    "embedded",
    "files",
    "flop_counter",
    "hub",
    "known_shapes",
    "limits",
    "loading",
    "loading_errors",
    "memory_forecast",
    "model_shape",
    "named_shape",
    "opening",
    "placement",
    "probe",
    "saved_tensors",
]
