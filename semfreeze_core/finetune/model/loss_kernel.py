"""The loss of target tokens by Liger Kernel, where that does on this device what semfreeze's loop does."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from semfreeze_core.cost.loss import chunk_tokens
from semfreeze_core.device import autocast, product_dtype, runs_triton
from semfreeze_core.finetune.model.chunked_loss import chunked_loss
from semfreeze_core.records.training import Precision
from semfreeze_core.sources.models.decoder import Decoder, HeadTransform
from semfreeze_core.wording.runs import loss_kernel_sentence, loss_loop_sentence

SummedLoss = Callable[[Tensor, Tensor], Tensor]  # of what the head reads (n, h), and target ids (n,)

_PACKAGE, _DISTRIBUTION = "liger_kernel", "liger-kernel"
# Largest relative difference, as norms, of the loss and of each gradient. Products of float32 may be TF32; rounding to
# bfloat16 differs by 0.004 at most, an error of the kernel by far more.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2}
_CHECKED_TOKENS = 64
_CHECKED_ROWS = 4096  # of a trained head, whose gradient is compared; a copy of all rows may have no room


def choose_loss_kernel(
    decoder: Decoder, precision: Precision, *, sharded: bool = False
) -> tuple[SummedLoss | None, str]:
    """The kernel that computes the loss of a training, or None for semfreeze's loop; and a sentence that says which.

    The kernel is taken only after it gave, on a small random batch, the loss and gradients of the loop.

    Args:
        decoder: a model's parts, frozen as it trains.
        precision: that it trains in.
        sharded: whether what trains is spread over processes.
    """
    if reason := _loop_reason(decoder, sharded=sharded):
        return None, loss_loop_sentence(reason)
    try:
        kernel: SummedLoss = partial(kernel_loss, decoder.head, decoder.transform)
        difference = largest_difference(decoder, partial(autocast, precision, decoder.device))
    except Exception as error:  # a compiler, driver or GPU that the kernel was not made for, in any of their ways
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return None, loss_loop_sentence(f"Liger Kernel failed on {decoder.device} ({text})")
    if not difference <= _TOLERANCE[product_dtype(precision)]:
        return None, loss_loop_sentence(f"Liger Kernel's loss or gradients differ from its by {difference:.2g}")
    return kernel, loss_kernel_sentence(version(_DISTRIBUTION), difference)


def _loop_reason(decoder: Decoder, *, sharded: bool) -> str:
    """Why the kernel is not tried, as the end of a sentence; "" where it is."""
    of_head = {id(parameter) for parameter in decoder.head.parameters()}
    below = any(p.requires_grad and id(p) not in of_head for p in decoder.model.parameters())
    reasons = (
        (not runs_triton(decoder.device), f"Liger Kernel needs a CUDA GPU, and the device is {decoder.device}"),
        (find_spec(_PACKAGE) is None, "Liger Kernel is not installed (pip install 'semfreeze[kernels]')"),
        (sharded, "the trained weights are spread over processes"),
        (not below and not decoder.tied, "only the head is trained, whose gradient Liger Kernel then leaves out"),
        (not _scales_exactly(decoder.transform), "Liger Kernel would round what the model scales"),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _scales_exactly(transform: HeadTransform) -> bool:
    """Whether scaling what the head reads, which the kernel needs, rounds nothing that scaling logits does not."""
    return math.frexp(transform.scale)[0] == 0.5  # a power of two


def kernel_loss(head: nn.Linear, transform: HeadTransform, hidden: Tensor, targets: Tensor) -> Tensor:
    """The sum of the tokens' losses, nats, by Liger Kernel's fused linear cross-entropy.

    The gradient of a trained head is summed over chunks in float32. As in `chunked_loss`, no logits are there in the
    backward pass.

    Args:
        head: makes logits (n, V) of hidden (n, h).
        transform: scale, a power of two, and soft-cap after it.
        hidden: what the head reads of each target token (n, h); requires a gradient.
        targets: their ids (n,).
    """
    # Only where it runs: importing it takes seconds, and needs Triton.
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    bias: Tensor | None = head.bias
    if transform.scale != 1.0:
        hidden = hidden * transform.scale
        bias = None if bias is None else bias * transform.scale
    total: Tensor = liger_fused_linear_cross_entropy(
        hidden, head.weight, targets, bias, reduction="sum", softcap=transform.softcap, accum_dtype=torch.float32
    )
    return total


def largest_difference(decoder: Decoder, context: Callable[[], AbstractContextManager[Any]]) -> float:
    """Largest relative difference between the kernel's and the loop's losses and gradients, on random states.

    The whole head is compared as if it were frozen, and where it is trained also its first rows with their gradient.

    Args:
        decoder: whose head, transform, dtype and device are tried.
        context: what training runs under, such as autocast.
    """
    generator = torch.Generator().manual_seed(0)
    differences = []
    for head in _checked_heads(decoder.head):
        rows, chunk = head.out_features, chunk_tokens(head.out_features)
        n = min(_CHECKED_TOKENS, chunk)
        hidden = torch.randn(n, head.in_features, generator=generator).to(decoder.device, decoder.dtype)
        targets = torch.randint(rows, (n,), generator=generator).to(decoder.device)
        loop = partial(chunked_loss, head, decoder.transform, chunk=chunk)
        ways = (partial(kernel_loss, head, decoder.transform), loop)
        kernels, loops = (_loss_and_gradients(way, head, hidden, targets, context) for way in ways)
        differences += [_difference(a, b) for a, b in zip(kernels, loops, strict=True)]
    return max(differences, key=lambda one: math.inf if math.isnan(one) else one)


def _checked_heads(head: nn.Linear) -> Iterator[nn.Linear]:
    yield _head_of(head.weight.detach(), head.bias, trained=False)
    if head.weight.requires_grad:
        yield _head_of(head.weight.detach()[:_CHECKED_ROWS], head.bias, trained=True)


def _head_of(weight: Tensor, bias: Tensor | None, *, trained: bool) -> nn.Linear:
    rows, width = weight.shape
    head = nn.Linear(width, rows, bias=bias is not None, device="meta")
    head.weight = nn.Parameter(weight, requires_grad=trained)
    if bias is not None:
        head.bias = nn.Parameter(bias.detach()[:rows], requires_grad=trained)
    return head


def _loss_and_gradients(
    loss: Callable[..., Tensor],
    head: nn.Linear,
    hidden: Tensor,
    targets: Tensor,
    context: Callable[[], AbstractContextManager[Any]],
) -> list[Tensor]:
    hidden = hidden.clone().requires_grad_()
    with context():
        total = loss(hidden=hidden, targets=targets)
    trained = [hidden, *(p for p in head.parameters() if p.requires_grad)]
    return [total.detach(), *torch.autograd.grad(total / len(targets), trained)]


def _difference(one: Tensor, other: Tensor) -> float:
    reference = other.float()
    return float((one.float() - reference).norm() / reference.norm())
