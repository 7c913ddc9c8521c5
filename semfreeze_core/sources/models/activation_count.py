"""What a model's layers keep for the backward pass, counted on the model itself instead of taken from a formula.

A forward pass of a few tokens runs with torch's saved-tensor hooks on; each live storage that autograd keeps goes to
the layer that was running, once and whole. Three lengths tell what does not grow with the sequence (copies of
weights) from what grows with it and with its square (eager attention's scores, masks). Without weights the pass runs
on fake tensors, so any config will do. Counted is what this torch keeps on this device's kernels; another device's may
differ. Left out is what does not grow: under autocast that is copies of weights, counted elsewhere, and in some
families copies of a norm's or a router's weights as well, which are small.

Experts are counted as transformers runs them unless set otherwise, all in one grouped product. That keeps a row for
each token and each expert it meets, wherever the router sends it, so the count holds for any routing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from semfreeze_core.device import autocast, weight_dtype
from semfreeze_core.errors import ModelError
from semfreeze_core.records.activation_count import CalibratedBytes, LayerRole, TokenBytes
from semfreeze_core.records.training import Precision
from semfreeze_core.sources.models.checkpoint import Checkpoint
from semfreeze_core.sources.models.loading import empty_model, load_config
from semfreeze_core.sources.models.probe import find_layers, hidden_state, layer_input
from semfreeze_core.sources.models.saved_tensors import saving_observed
from semfreeze_core.sources.models.weightless import fake_tensors

_BATCH = 2  # 1 would hide which dimension is the batch's
_LENGTHS = (16, 32, 64)


def calibrate_empty(
    checkpoint: Checkpoint,
    precision: Precision,
    *,
    padding_mask: bool = False,
    attention: str | None = None,
    sequence_length: int = _LENGTHS[-1],
) -> CalibratedBytes:
    """Calibrate a model from its config alone: no weights are read.

    Args:
        checkpoint: whose config it is.
        precision: what the passes are computed in.
        padding_mask: as in calibrate_model.
        attention: transformers' name of the implementation; None is the family's own, sdpa for nearly all.
        sequence_length: tokens per sequence in training. Sequences not shorter than a sliding window need a mask,
            and with one more is kept.

    Raises:
        ModelError: the config is not that of a supported decoder, or it cannot run without weights.
    """
    config = load_config(checkpoint)
    config.dtype = weight_dtype(precision)
    _set_window(config.get_text_config(decoder=True), sequence_length)
    with fake_tensors():  # sizes of storages are all that is needed
        model = empty_model(checkpoint, config, attention=attention)
        if any(p.ndim > 2 and p.shape[0] > 1 for p in find_layers(model)[0].parameters()):
            model.set_experts_implementation(model.get_correct_experts_implementation(None))
        return calibrate_model(model, precision, padding_mask=padding_mask)


def _set_window(config: Any, sequence_length: int) -> None:
    """Make a config's sliding window narrower or wider than every counted sequence, as it is in training.

    What is kept does not depend on how wide a window is, only on whether there must be a mask for it.
    """
    window = getattr(config, "sliding_window", None)
    if window:
        config.sliding_window = _LENGTHS[0] // 2 if window <= sequence_length else _LENGTHS[-1] + 1


def calibrate_model(model: Any, precision: Precision, *, padding_mask: bool = False) -> CalibratedBytes:
    """Count what each layer of a model keeps for one token, trained and traversed.

    The model's training mode and gradient flags are left as they were; no gradient is computed. Training mode is on
    while counting, so dropout is counted where the config asks for it.

    Args:
        model: a decoder-only transformers model, in float32 for "float32" and "bf16-autocast", bfloat16 for "bf16".
        precision: what the passes are computed in.
        padding_mask: whether one example is shorter than the other.

    Raises:
        ModelError: the model is in another dtype, or it cannot run.
    """
    if model.dtype != weight_dtype(precision):
        raise ModelError(
            f"{precision} is calibrated on a model in {weight_dtype(precision)}, but this one is in {model.dtype}"
        )
    layers, _ = find_layers(model)
    lengths = [length for length in _LENGTHS if length <= _longest(model)]
    if len(lengths) < len(_LENGTHS):
        raise ModelError(f"calibration needs {_LENGTHS[-1]} tokens, but the model takes {_longest(model)}")
    counted: dict[LayerRole, tuple[TokenBytes, ...]] = {}
    with _restored(model):
        for role in ("trained", "traversed"):
            model.requires_grad_(False)
            layers.requires_grad_(role == "trained")
            saved_bytes = np.array([_saved_bytes(model, layers, precision, length, padding_mask) for length in lengths])
            counted[role] = tuple(_fit(lengths, of_layer) for of_layer in saved_bytes.T)
    return CalibratedBytes(
        precision=precision,
        padding_mask=padding_mask,
        attention=model.config._attn_implementation,
        sequence_lengths=(lengths[0], lengths[-1]),
        trained=counted["trained"],
        traversed=counted["traversed"],
    )


def _longest(model: Any) -> int:
    return getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None) or _LENGTHS[-1]


def _fit(lengths: list[int], saved_bytes: Any) -> TokenBytes:
    """The coefficients of c + a s + b s^2 through three counts for one example of s tokens; c is left out."""
    _, linear, quadratic = np.linalg.solve(np.vander(lengths, increasing=True).astype(float), saved_bytes / _BATCH)
    return TokenBytes(round(float(linear), 6) + 0.0, round(float(quadratic), 6) + 0.0)  # + 0.0 turns -0.0 into 0.0


@contextmanager
def _restored(model: Any) -> Iterator[None]:
    """Training mode on; it and the parameters' gradient flags are put back afterwards."""
    training, flags = model.training, [(p, p.requires_grad) for p in model.parameters()]
    model.train()
    try:
        yield
    finally:
        model.train(training)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _saved_bytes(model: Any, layers: nn.ModuleList, precision: Precision, length: int, padded: bool) -> list[int]:
    """Bytes of the storages each layer keeps in one pass, each storage with the first layer that keeps it.

    Parameters are left out, and so is what is handed to a layer beside the hidden state (rotary tables, masks): it is
    there once for the whole model.
    """
    running: int | None = None
    excluded: list[Tensor] = list(model.parameters())

    def enter(layer: int) -> Callable[..., Any]:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            nonlocal running
            running = layer
            hidden = layer_input(args, kwargs)
            tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
            excluded.extend(value for value in tensors if value is not hidden)

        return hook

    def leave(_: nn.Module, __: Any, ___: Any) -> None:
        nonlocal running
        running = None

    def require_gradient(_: nn.Module, __: Any, output: Any) -> None:
        hidden_state(output).requires_grad_(True)

    handles = [model.get_input_embeddings().register_forward_hook(require_gradient)]
    for i, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(enter(i), with_kwargs=True))
        handles.append(layer.register_forward_hook(leave))
    try:
        with saving_observed(lambda: running) as saved, autocast(precision, model.device):
            output = model(**_inputs(model, length, padded), use_cache=False)  # held to the end: it holds the graph
    except Exception as error:  # a model's own code can fail in any way; the cause stays readable in the message
        text = " ".join(str(error).split())[:400]
        raise ModelError(
            f"{type(model).__name__} cannot be calibrated: it does not run on {_BATCH} x {length} tokens in "
            f"{precision}: {type(error).__name__}: {text}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    storages = saved.storages(leaving_out=excluded).values()
    del output
    return [sum(size for layer, size in storages if layer == i) for i in range(len(layers))]


def _inputs(model: Any, length: int, padded: bool) -> dict[str, Tensor]:
    ids = torch.zeros((_BATCH, length), dtype=torch.long, device=model.device)
    if not padded:
        return {"input_ids": ids}
    mask = torch.ones_like(ids)
    mask[0, 0] = 0
    return {"input_ids": ids, "attention_mask": mask}
