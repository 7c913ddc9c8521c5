"""Model shapes for tests, by what the cost formulas see: elements, not matrices."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from semfreeze_core.records.model import LayerKind, LayerShape, Matrix, ModelShape


def shape_of_layers(
    layer_linear_weights: Sequence[int],
    layer_parameters: Sequence[int],
    *,
    n_heads: int,
    n_kv_heads: int,
    head_dim: int,
    mlp_width: int,
    layer_kind: LayerKind,
    **sizes: Any,
) -> ModelShape:
    """A shape whose layers each multiply by one matrix of the given number of elements."""
    layers = [
        LayerShape(parameters, (Matrix("only", 1, weights),), n_heads, n_kv_heads, head_dim, mlp_width, layer_kind)
        for weights, parameters in zip(layer_linear_weights, layer_parameters, strict=True)
    ]
    different = tuple(dict.fromkeys(layers))
    return ModelShape(layer_shapes=different, layer_index=tuple(map(different.index, layers)), **sizes)


def with_kind(shape: ModelShape, kind: LayerKind) -> ModelShape:
    """The shape with all layers of one kind."""
    return replace(shape, layer_shapes=tuple(replace(layer, kind=kind) for layer in shape.layer_shapes))
