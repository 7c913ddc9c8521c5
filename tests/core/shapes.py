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


# d = 4, q = 4, kv = 2, f = 6, 2 heads, 5 vocabulary rows; 108 + 58 + 20 + 4 + 20 = 210 parameters.
# Of 10 tokens in two rows of 5: C = 2 * 10 * 100 = 2000 FLOP in layer 0 and 2 * 10 * 50 = 1000 in layer 1,
# A = 4 * 10 * 5 * 4 = 800 in the attention of each, and U = 2 * 10 * 20 = 400 in the head.
TWO_LAYERS = shape_of_layers(
    d_model=4,
    vocab_rows=5,
    tied=False,
    n_heads=2,
    n_kv_heads=1,
    head_dim=2,
    mlp_width=6,
    layer_kind="gated-rmsnorm",
    layer_linear_weights=(100, 50),
    layer_parameters=(108, 58),
    embedding_parameters=20,
    final_norm_parameters=4,
    head_parameters=20,
    head_linear_weights=20,
    max_positions=None,
)
TIED_LAYERS = replace(TWO_LAYERS, tied=True, head_parameters=0)
