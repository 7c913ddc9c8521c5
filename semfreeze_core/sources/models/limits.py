"""What semfreeze does not know, or counts otherwise than one might think, of a model that it can read."""

from typing import Any

from semfreeze_core.records.model import ModelShape

_WINDOWED = ("sliding_attention", "chunked_attention")


def limits_of(model: Any, shape: ModelShape) -> tuple[str, ...]:
    """Sentences, one a limit; empty for a model without any."""
    config = model.config.get_text_config(decoder=True)
    told = []
    if any(layer.kind == "other" for layer in shape.layer_shapes):
        told.append(
            "Activation bytes of its layers are in no formula: semfreeze cost --model M --calibrate counts them."
        )
    stacks = [matrix for layer in shape.layer_shapes for matrix in layer.matrices if matrix.copies > 1]
    if stacks:
        told.append(
            f"Its experts are priced by how many meet a token, {stacks[0].active} of {stacks[0].copies}; how evenly "
            "they are met is not known."
        )
    windowed = _windowed_layers(config, shape.n_layers)
    if windowed:
        told.append(
            f"{windowed} of {shape.n_layers} layers attend to a window only; they are priced as if to all, as eager "
            "attention computes all."
        )
    if shape.max_positions is None:
        told.append("Its config states no longest sequence: check --max-length against what it was trained on.")
    return tuple(told)


def _windowed_layers(config: Any, n_layers: int) -> int:
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return sum(kind in _WINDOWED for kind in kinds)
    return n_layers if getattr(config, "sliding_window", None) else 0
