"""Relative gradient norm: how strongly the task's loss pulls at each layer, measured with one backward pass."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semfreeze_core.device import is_out_of_memory
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.scores import LayerScore, unmeasured
from semfreeze_core.semantics.extraction import default_batch_tokens
from semfreeze_core.semantics.positions import Batch, Positions, length_buckets, make_batch
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.placement import is_elsewhere
from semfreeze_core.sources.models.probe import hidden_state

_HEAD_CHUNK = 256  # positions whose whole logits are held at once


def relative_norm(layer: nn.Module) -> float:
    """|g| / |w| over all of a layer's parameters together; parameters without a gradient count as 0.

    Each parameter's norm is taken in float32 where it is, as not every device has float64; they add up in Python's.
    """
    parameters = list(layer.parameters())
    gradient = math.hypot(*(_norm(p.grad) for p in parameters if p.grad is not None))
    weight = math.hypot(*(_norm(p.detach()) for p in parameters))
    return gradient / weight if weight > 0 else float("nan")


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float32))


def gradient_score(
    decoder: Decoder,
    examples: Sequence[TokenizedExample],
    positions: Sequence[Positions],
    *,
    max_tokens: int | None = None,
    progress: Progress = silent,
) -> LayerScore:
    """Relative gradient norm of each layer under the cross-entropy of the positions read.

    The loss is the mean over examples of the mean over their positions; gradients add up over batches, in the
    weights' own dtype. Needs memory for the gradients of all layers and one batch's activations. The model is left as
    it was: no gradient stays, and what required one does again.

    Source: Lee et al. 2023 (Surgical Fine-Tuning, arXiv 2210.11466), who take the ratio of every tensor and raise its
    learning rate by it; one ratio a layer is ours.
    """
    if is_elsewhere(decoder.model):
        reason = "gradients need every layer on the device, and it has no room for all"
        return unmeasured("gradient_norm", len(decoder.layers), "the examples", reason)
    n, parameters = len(examples), list(decoder.model.parameters())
    required = [parameter.requires_grad for parameter in parameters]
    buckets = length_buckets([len(e.input_ids) for e in examples], max_tokens or default_batch_tokens(decoder.device))
    reason = "the loss's gradient is not finite in this dtype"
    values = np.full(len(decoder.layers), np.nan)
    try:
        decoder.model.requires_grad_(False)
        decoder.layers.requires_grad_(True)
        for i, indices in enumerate(buckets):
            progress(ProgressEvent("Computing gradients", i, len(buckets), "batches"))
            _add_gradient(decoder, make_batch(indices, examples, positions, int(examples[0].input_ids[0])), n)
        progress(ProgressEvent("Computing gradients", len(buckets), len(buckets), "batches"))
        values = np.array([relative_norm(layer) for layer in decoder.layers])
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = "memory ran out: one batch's activations and the gradients of all layers must fit"
    finally:
        for parameter, flag in zip(parameters, required, strict=True):
            parameter.grad = None
            parameter.requires_grad_(flag)
    if not np.isfinite(values).all():
        return unmeasured("gradient_norm", len(values), f"{n} examples", reason)
    return LayerScore("gradient_norm", values, None, f"{n} examples, one backward pass")


@torch.enable_grad()
def _add_gradient(decoder: Decoder, batch: Batch, n_examples: int) -> None:
    """Add a batch's share of the loss's gradient to the layers' parameters."""
    device = decoder.device
    rows, columns = (torch.from_numpy(x).to(device) for x in (batch.rows, batch.columns))
    last: list[Tensor] = []

    def on_output(_: Any, __: Any, output: Any) -> None:
        last.append(hidden_state(output)[rows, columns])

    handle = decoder.layers[-1].register_forward_hook(on_output)
    try:
        decoder.base(input_ids=torch.from_numpy(batch.input_ids).to(device), use_cache=False)
    finally:
        handle.remove()
    labels = torch.from_numpy(batch.label_ids).to(device)
    weights = 1 / (torch.bincount(rows)[rows] * n_examples)
    states = last[0].detach().requires_grad_()
    for part in torch.split(torch.arange(len(labels), device=device), _HEAD_CHUNK):
        logits = decoder.logits(decoder.final_norm(states[part]))
        losses = nn.functional.cross_entropy(logits, labels[part], reduction="none")
        torch.autograd.backward((losses * weights[part]).sum())  # down to the states, so that no more logits live
    torch.autograd.backward(last[0], states.grad)
