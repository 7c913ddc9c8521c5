"""One real training step, counted: FLOP by torch's counter, and the bytes autograd keeps for the backward pass."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class CountedStep:
    """What one forward and backward pass took.

    Attributes:
        flop: as torch.utils.flop_counter counts them, attention computed eagerly so that none of it is hidden.
        saved_bytes: live storages that autograd kept between the two passes, parameters and inputs left out, with the
            attention the model trains with.
    """

    flop: int
    saved_bytes: int


class _Saved:
    """A tensor the graph keeps; the graph alone holds it, so it dies when not needed."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def count_step(network: nn.Module, model: Any, batch: dict[str, Any]) -> CountedStep:
    """Count a step without changing anything: no parameter moves, gradients and random state are put back.

    Args:
        network: called with the batch, gives {"loss"}.
        model: the transformers model inside it, whose attention is made eager for the count of FLOP.
        batch: tensors on the model's device.
    """
    kept: weakref.WeakSet[_Saved] = weakref.WeakSet()
    known = {_storage(p) for p in network.parameters()} | {_storage(t) for t in batch.values()}

    def keep(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        kept.add(saved)
        return saved

    with _untouched(network):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved.tensor):
            loss = network(**batch)["loss"]
        sizes = {
            _storage(saved.tensor): saved.tensor.untyped_storage().nbytes()
            for saved in kept
            if _storage(saved.tensor) not in known
        }
        del loss
        with eager_attention(model), FlopCounterMode(display=False) as counter:
            network(**batch)["loss"].backward()
    return CountedStep(counter.get_total_flops(), sum(sizes.values()))


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Attention as plain matrix products, which torch's counter sees all of; fused kernels it may count as nothing."""
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(own)


@contextmanager
def _untouched(network: nn.Module) -> Iterator[None]:
    gradients = [(p, p.grad) for p in network.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    with torch.random.fork_rng():
        try:
            yield
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
