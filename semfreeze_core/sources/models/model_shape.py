"""Counting a model: sizes from its real modules (fake tensors will do), and digests that tell models apart."""

import hashlib
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from semfreeze_core.cost import step_flop
from semfreeze_core.errors import ModelError
from semfreeze_core.records.model import LayerShape, Matrix, ModelIdentity, ModelShape
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from semfreeze_core.sources.models.decoder import Parts
from semfreeze_core.sources.models.families import key_value_heads, layer_kind
from semfreeze_core.sources.models.placement import parameter_values
from semfreeze_core.sources.models.probe import PROBE_SEQUENCES, PROBE_TOKENS

# What configs call the number of experts that one token meets.
_ACTIVE_EXPERTS = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k", "moe_k")


def measure_shape(model: Any, parts: Parts) -> ModelShape:
    """Count a model's layers, parameters and matrix weights.

    Raises:
        ModelError: a layer multiplies by something other than plain matrices and experts, has no attention heads, or
            its experts are not counted by the config, so FLOPs cannot be counted.
    """
    config = model.config.get_text_config(decoder=True)
    parameters = dict(model.named_parameters())

    def count(which: tuple[str, ...]) -> int:
        return sum(parameters[name].numel() for name in which)

    shapes = [
        _measure_layer(layer, _layer_config(config, i), i, f"{parts.names.layer_prefix}{i}")
        for i, layer in enumerate(parts.layers)
    ]
    different = tuple(dict.fromkeys(shapes))
    return ModelShape(
        d_model=config.hidden_size,
        vocab_rows=parts.head.out_features,
        tied=parts.tied,
        layer_shapes=different,
        layer_index=tuple(different.index(shape) for shape in shapes),
        embedding_parameters=count(parts.names.embeddings),
        final_norm_parameters=count(parts.names.final_norm),
        head_parameters=count(parts.names.head),
        head_linear_weights=parts.head.in_features * parts.head.out_features,
        max_positions=getattr(config, "max_position_embeddings", None),
        embedding_linear_weights=sum(_plain_weights(module) for module in parts.front),
        final_linear_weights=sum(_plain_weights(module) for module in parts.final_norm.modules()),
    )


def check_price(model: Any, shape: ModelShape, forward_flop: int) -> None:
    """Verify that a shape covers all that a forward pass computes: its FLOPs must be those torch counts on the probe.

    Args:
        model: named in the message.
        shape: the counted model.
        forward_flop: torch's count of the probe under eager attention, every expert's product included.

    Raises:
        ModelError: they differ, as when layers do more than multiply by matrices and attend with heads of one width.
    """
    setup = TrainingSetup(batch_size=PROBE_SEQUENCES, sequence_length=PROBE_TOKENS)
    all_frozen = TrainableParts((False,) * shape.n_layers, embeddings=False, final_norm=False, head=False)
    counted = step_flop(shape, setup, all_frozen).forward
    if counted != forward_flop:
        raise ModelError(
            f"{type(model).__name__}: a forward pass of {PROBE_SEQUENCES} x {PROBE_TOKENS} tokens takes "
            f"{forward_flop:,} FLOPs by torch's counter, but {counted:,} by its matrices and attention heads: it "
            "computes something else besides. semfreeze cannot estimate the cost of such models yet."
        )


def _layer_config(config: Any, layer: int) -> Any:
    """The config that holds for one layer; transformers has one each where layers differ."""
    views = getattr(config, "per_layer_config", None)
    return config if views is None else views[layer]


def _measure_layer(layer: nn.Module, config: Any, i: int, name: str) -> LayerShape:
    matrices = layer_matrices(layer, config, name)
    n_heads = _number(config, "num_attention_heads", i)
    if n_heads is None:
        raise ModelError(
            f"{name}: expected attention heads, but its config ({config.model_type}) names none. Layers "
            "without attention are not supported yet."
        )
    return LayerShape(
        parameters=sum(p.numel() for p in layer.parameters()),
        matrices=matrices,
        n_heads=n_heads,
        n_kv_heads=key_value_heads(config, n_heads),
        head_dim=_head_width(config, n_heads, i),
        mlp_width=_mlp_width(config, matrices, i),
        kind=layer_kind(config),
    )


def _number(config: Any, name: str, layer: int) -> int | None:
    """A config's entry for one layer, out of a list where it has one for each; None when it says nothing."""
    value = getattr(config, name, None)
    return value[layer] if isinstance(value, list | tuple) else value


def _head_width(config: Any, n_heads: int, layer: int) -> int:
    """Width of one head; the mean of a key's and a value's where they differ, which is what attention FLOPs follow."""
    value = _number(config, "v_head_dim", layer)
    rotated, plain = _number(config, "qk_rope_head_dim", layer), _number(config, "qk_nope_head_dim", layer)
    width = _number(config, "head_dim", layer) or config.hidden_size // n_heads
    key = width if rotated is None or plain is None else rotated + plain
    return width if value is None else (key + value) // 2


def _mlp_width(config: Any, matrices: tuple[Matrix, ...], layer: int) -> int:
    stacks = [matrix for matrix in matrices if matrix.copies > 1]
    if stacks:
        return stacks[-1].inputs  # of one expert
    for name in ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim"):
        width = _number(config, name, layer)
        if width:
            return width
    return 4 * int(config.hidden_size)  # what GPT-2-style configs mean by leaving it out


def layer_matrices(layer: nn.Module, config: Any, name: str) -> tuple[Matrix, ...]:
    """The weight matrices that a layer multiplies by; modules without weights will do.

    Args:
        layer: the layer.
        config: the config that holds for it.
        name: its path in the model, for messages.

    Raises:
        ModelError: it multiplies by something other than plain matrices and counted experts.
    """
    matrices: list[Matrix] = []
    for path, module in layer.named_modules():
        weights = {n: p for n, p in module.named_parameters(recurse=False) if p.ndim > 1}
        if not weights or isinstance(module, nn.Embedding):  # looked up, not multiplied
            continue
        stacks = {n: p for n, p in weights.items() if p.ndim == 3 and p.shape[0] > 1}
        if isinstance(module, nn.Linear):
            matrices.append(Matrix(path, module.in_features, module.out_features))
        elif isinstance(module, Conv1D):
            matrices.append(Matrix(path, module.nx, module.nf))
        elif stacks and len({p.shape[0] for p in weights.values()}) == 1 and not _convolves(module):
            matrices += _experts(path, module, stacks, config, name)
        elif _is_router(module, weights, config):
            (router,) = weights.values()
            matrices.append(Matrix(path, router.shape[1], router.shape[0]))
        else:
            raise ModelError(
                f"{name}.{path} ({type(module).__name__}) holds weights of shape "
                f"{[tuple(p.shape) for p in weights.values()]}: expected attention, plain linear layers and experts. "
                "Convolutions, state-space and recurrent layers (such as Mamba and RWKV) are not supported yet."
            )
    return tuple(matrices)


def _experts(path: str, module: nn.Module, stacks: dict[str, nn.Parameter], config: Any, name: str) -> list[Matrix]:
    active = next((getattr(config, n) for n in _ACTIVE_EXPERTS if getattr(config, n, None)), None)
    experts = next(iter(stacks.values())).shape[0]
    if active is None:
        raise ModelError(
            f"{name}.{path} ({type(module).__name__}) holds stacks of {experts} matrices, as mixtures of experts do, "
            f"but its config does not say how many meet a token (looked for {', '.join(_ACTIVE_EXPERTS)}). The cost "
            "of experts without counts cannot be estimated."
        )
    turned = getattr(module, "is_transposed", False)
    sizes = {n: (p.shape[1], p.shape[2]) if turned else (p.shape[2], p.shape[1]) for n, p in stacks.items()}
    return [Matrix(f"{path}.{n}", *size, copies=experts, active=active) for n, size in sizes.items()]


def _is_router(module: nn.Module, weights: dict[str, nn.Parameter], config: Any) -> bool:
    """Whether a module's one matrix scores experts: a row for each of as many as the config has."""
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    experts = next((getattr(config, n) for n in names if getattr(config, n, None)), None)
    shapes = [tuple(p.shape) for p in weights.values()]
    return shapes == [(experts, config.hidden_size)]


def _convolves(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)


def _plain_weights(module: nn.Module) -> int:
    return module.in_features * module.out_features if isinstance(module, nn.Linear) else 0


def identify(model: Any, *, source: str, revision: str | None) -> ModelIdentity:
    """Digests of a model's structure and weights, for telling one model from another."""
    structure, weights = hashlib.sha256(), hashlib.sha256()
    for name, parameter in parameter_values(model, sorted(name for name, _ in model.named_parameters())):
        line = f"{name} {tuple(parameter.shape)}\n".encode()
        structure.update(line)
        weights.update(line)
        flat = parameter.reshape(-1)
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
