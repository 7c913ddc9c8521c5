"""The loss of target tokens by a few of their logits at a time, forward and backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear


def chunked_loss(
    head: nn.Linear, transform: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, chunk: int
) -> Tensor:
    """The sum of the tokens' losses, nats, with the gradients of cross_entropy over all logits at once.

    The gradient of a chunk's logits is taken in the forward pass, and the logits are dropped: a backward pass holds the
    gradients of what the head reads and of its own trained parameters, and no logits.

    Source: Liger Kernel, fused_linear_cross_entropy.py (Hsu et al. 2024, https://arxiv.org/abs/2410.10989).

    Args:
        head: makes logits (n, V) of hidden (n, h).
        transform: what the model does to them afterwards.
        hidden: what the head reads of each target token (n, h), of its own type unless autocast is on.
        targets: their ids (n,).
        chunk: tokens whose logits are there at once.
    """
    given = transform, targets, chunk, hidden, head.weight, head.bias
    total: Tensor = _ChunkedLoss.apply(*given)  # type: ignore[no-untyped-call]
    return total


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        transform: Callable[[Tensor], Tensor],
        targets: Tensor,
        chunk: int,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradients = [
            torch.zeros_like(tensor) if tensor is not None and needed else None
            for tensor, needed in zip((hidden, weight, bias), ctx.needs_input_grad[3:], strict=True)
        ]
        of_hidden, of_weight, of_bias = gradients
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            logits = linear(hidden[part], weight, bias).requires_grad_()
            with torch.enable_grad():
                loss = cross_entropy(transform(logits.float()), targets[part], reduction="sum")
            (gradient,) = torch.autograd.grad(loss, logits)
            total += loss.detach()
            if of_hidden is not None:
                of_hidden[part] = gradient @ weight
            if of_weight is not None:
                of_weight += gradient.T @ hidden[part]
            if of_bias is not None:
                of_bias += gradient.sum(0)
        ctx.gradients = gradients
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = outer
        return (None, None, None, *(None if gradient is None else gradient.mul_(factor) for gradient in ctx.gradients))
