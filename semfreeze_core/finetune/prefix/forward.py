"""The frozen prefix of a model: its parameters, what its parts return, and its pass that stops at the boundary.

The boundary of freeze depth k lies between layers k-1 and k. The boundary states are the raw input of layer k, which
is layer k-1's output.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.probe import PROBE_TOKENS, hidden_state, probe_ids


class _Reached(BaseException):
    """Carries the states out of a forward pass; no Exception, so that no model's own code catches it."""

    def __init__(self, states: Tensor) -> None:
        self.states = states


@dataclass(frozen=True)
class PrefixOutputs:
    """The form of what the parts of a prefix return, so that replacements can return the same.

    Attributes:
        entries: of each frozen layer, the length of the tuple it returns, 0 for a plain tensor.
        widths: of each module in front of layer 0 that returns one state per token, the states' width.
    """

    entries: tuple[int, ...]
    widths: dict[nn.Module, int]


def check_depth(decoder: Decoder, k: int) -> None:
    """Refuse a depth that leaves no prefix.

    Raises:
        ValueError: k is not in 1..L.
    """
    if not 1 <= k <= len(decoder.layers):
        raise ValueError(f"a prefix has 1 to {len(decoder.layers)} layers, not {k}")


def prefix_parameters(decoder: Decoder, k: int) -> dict[str, nn.Parameter]:
    """Every parameter that the boundary states depend on, by its name in the model; a tied embedding is one of them."""
    modules = [decoder.embedding, *decoder.front, *decoder.layers[:k]]
    inside = {id(parameter) for module in modules for parameter in module.parameters()}
    return {name: p for name, p in decoder.model.named_parameters() if id(p) in inside}


def movable_parameters(decoder: Decoder, k: int) -> list[nn.Parameter]:
    """The prefix's parameters on the device that nothing above the boundary shares."""
    above = [*decoder.layers[k:], decoder.final_norm, decoder.head]
    shared = {id(p) for p in chain.from_iterable(module.parameters() for module in above)}
    return [p for p in prefix_parameters(decoder, k).values() if id(p) not in shared and not p.is_meta]


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Modules in eval mode while the block runs; then every part's own mode is restored."""
    modes = {part: part.training for module in modules for part in module.modules()}
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@torch.no_grad()
def boundary_states(decoder: Decoder, k: int, run: Callable[[], object]) -> Tensor:
    """The raw input of layer k (B, T, d) in a forward pass, which stops there.

    Args:
        decoder: the model, its layers' calls original, or wrapped around the original.
        k: freeze depth, 1..L.
        run: starts the forward pass.

    Raises:
        RuntimeError: the pass ended without layer k-1.
    """

    def stop(_: nn.Module, __: Any, output: Any) -> None:
        raise _Reached(hidden_state(output))

    handle = decoder.layers[k - 1].register_forward_hook(stop)
    try:
        run()
    except _Reached as reached:
        return reached.states
    finally:
        handle.remove()
    raise RuntimeError(f"the forward pass did not run layer {k - 1} itself")


def record_outputs(decoder: Decoder, k: int) -> PrefixOutputs:
    """Run a few tokens through the prefix and record the form of what its parts return."""
    entries: list[int] = []
    widths: dict[nn.Module, int] = {}

    def note_layer(_: nn.Module, __: Any, output: Any) -> None:
        entries.append(0 if isinstance(output, Tensor) else len(output))

    def note_front(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 3 and output.shape[1] == PROBE_TOKENS:
            widths[module] = output.shape[2]

    handles = [layer.register_forward_hook(note_layer) for layer in decoder.layers[:k]]
    handles += [module.register_forward_hook(note_front) for module in decoder.front]
    ids = probe_ids(decoder.model).to(decoder.device)
    try:
        with evaluating(decoder.model):
            boundary_states(decoder, k, lambda: decoder.base(input_ids=ids, use_cache=False))
    finally:
        for handle in handles:
            handle.remove()
    return PrefixOutputs(tuple(entries), widths)
