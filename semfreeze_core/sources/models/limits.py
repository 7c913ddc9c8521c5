"""What semfreeze does not know about a supported model, or counts in a way that one might not expect."""

from typing import Any

from semfreeze_core.records.model import ModelShape
from semfreeze_core.sources.models.families import multi_token_layers

_WINDOWED = ("sliding_attention", "chunked_attention")


def limits_of(model: Any, shape: ModelShape) -> tuple[str, ...]:
    """Sentences, one a limit; empty for a model without any."""
    config = model.config.get_text_config(decoder=True)
    limits = []
    if any(layer.kind == "other" for layer in shape.layer_shapes):
        limits.append(
            "No formula covers the activation bytes of its layers. Count them with: "
            "semfreeze cost --model M --calibrate."
        )
    stacks = [matrix for layer in shape.layer_shapes for matrix in layer.matrices if matrix.copies > 1]
    if stacks:
        limits.append(
            f"The cost of its experts counts the {stacks[0].active} of {stacks[0].copies} that each token meets. How "
            "evenly tokens meet them is not known."
        )
    windowed = _windowed_layers(config, shape.n_layers)
    if windowed:
        limits.append(
            f"{windowed} of {shape.n_layers} layers attend to a window only. Their cost is estimated as if they "
            "attended to all tokens, which eager attention computes."
        )
    extra = multi_token_layers(model.config)
    if extra:
        limits.append(
            f"Its layers that predict more than the next token (num_nextn_predict_layers: {extra}) are neither "
            "analyzed nor trained, and a finetuned model is saved without them."
        )
    if shape.max_positions is None:
        limits.append(
            "Its config states no maximum sequence length. Check --max-length against what it was trained on."
        )
    return tuple(limits)


def _windowed_layers(config: Any, n_layers: int) -> int:
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return sum(kind in _WINDOWED for kind in kinds)
    return n_layers if getattr(config, "sliding_window", None) else 0
