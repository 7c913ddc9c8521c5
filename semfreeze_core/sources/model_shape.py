"""Counting a model: sizes from its real modules (torch's `meta` device will do), and digests that tell models apart."""

import hashlib
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from semfreeze_core.errors import ModelError
from semfreeze_core.records.model import LayerShape, Matrix, ModelIdentity, ModelShape, ParameterNames
from semfreeze_core.sources.families import layer_kind


def measure_shape(model: Any, layers: nn.ModuleList, head: nn.Linear, names: ParameterNames, tied: bool) -> ModelShape:
    """Count a model's layers, parameters and matrix weights.

    Raises:
        ModelError: a layer multiplies by something other than plain matrices (experts), or layers without
            attention or with different heads, so FLOP cannot be counted.
    """
    config = model.config.get_text_config(decoder=True)
    d_model = config.hidden_size
    matrices = layer_matrices(layers, names.layer_prefix)
    n_heads, n_kv_heads, head_dim = _attention_widths(model, config)
    parameters = dict(model.named_parameters())

    def count(which: tuple[str, ...]) -> int:
        return sum(parameters[name].numel() for name in which)

    shapes = [
        LayerShape(
            parameters=sum(p.numel() for p in layer.parameters()),
            matrices=own,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=head_dim,
            mlp_width=_mlp_width(config, d_model),
            kind=layer_kind(config),
        )
        for layer, own in zip(layers, matrices, strict=True)
    ]
    different = tuple(dict.fromkeys(shapes))
    return ModelShape(
        d_model=d_model,
        vocab_rows=head.out_features,
        tied=tied,
        layer_shapes=different,
        layer_index=tuple(different.index(shape) for shape in shapes),
        embedding_parameters=count(names.embeddings),
        final_norm_parameters=count(names.final_norm),
        head_parameters=count(names.head),
        head_linear_weights=head.in_features * head.out_features,
        max_positions=getattr(config, "max_position_embeddings", None),
    )


def _attention_widths(model: Any, config: Any) -> tuple[int, int, int]:
    """Query heads, key/value heads and head width."""
    try:
        n_heads = config.num_attention_heads
        n_kv_heads = getattr(config, "num_key_value_heads", None) or n_heads
        return n_heads, n_kv_heads, getattr(config, "head_dim", None) or config.hidden_size // n_heads
    except (AttributeError, RuntimeError) as error:  # the latter is how transformers says that layers differ
        raise ModelError(
            f"{type(model).__name__}: expected attention heads of one number and width in all layers, but its config "
            "names none, or others for each layer. Such models cannot be priced yet."
        ) from error


def layer_matrices(layers: nn.ModuleList, prefix: str) -> tuple[tuple[Matrix, ...], ...]:
    """The weight matrices that each layer multiplies by; modules without weights will do.

    Raises:
        ModelError: a layer multiplies by something other than plain matrices.
    """
    return tuple(_matrices(layer, f"{prefix}{i}") for i, layer in enumerate(layers))


def _matrices(layer: nn.Module, name: str) -> tuple[Matrix, ...]:
    found = []
    for module_name, module in layer.named_modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.Linear):
            found.append(Matrix(module_name, module.in_features, module.out_features))
        elif isinstance(module, Conv1D):
            found.append(Matrix(module_name, module.nx, module.nf))
        elif any(p.ndim > 1 for p in own):
            raise ModelError(
                f"{name}.{module_name} ({type(module).__name__}) holds weights of shape "
                f"{[tuple(p.shape) for p in own]}: expected plain linear layers. Mixtures of experts and convolutions "
                "cannot be priced yet."
            )
    return tuple(found)


def _mlp_width(config: Any, d_model: int) -> int:
    for name in ("intermediate_size", "n_inner", "ffn_dim"):
        width = getattr(config, name, None)
        if width:
            return int(width)
    return 4 * d_model  # what GPT-2-style configs mean by leaving it out


def identify(model: Any, *, source: str, revision: str | None) -> ModelIdentity:
    """Digests of a model's structure and weights, for telling one model from another."""
    structure, weights = hashlib.sha256(), hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        line = f"{name} {tuple(parameter.shape)}\n".encode()
        structure.update(line)
        weights.update(line)
        flat = parameter.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)].to(torch.bfloat16).cpu()
        weights.update(sample.view(torch.int16).numpy().tobytes())
    return ModelIdentity(
        source=source,
        revision=revision,
        family=model.config.model_type,
        architecture=type(model).__name__,
        structure_digest=structure.hexdigest(),
        weights_digest=weights.hexdigest(),
    )
