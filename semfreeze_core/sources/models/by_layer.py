"""Passing batches through a model layer by layer: one layer comes in, all batches pass it, and then the next one.

Layers kept off the device would else come in again for every batch. What stands between two layers, the hidden states
of all tokens, is kept in the machine's memory or in a file. A layer is called by the model's own code, with the masks
and positions that this makes, on an input of zeros: the layers below return their input, and it gets the kept state.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from semfreeze_core.device import free_bytes
from semfreeze_core.processes import launch
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.placement import brought_in, is_elsewhere
from semfreeze_core.sources.models.probe import hidden_state, layer_input, probe_ids
from semfreeze_core.temporary import scratch_parent, temporary_folder

TokenIds = npt.NDArray[np.int64]
# Called once a latent space, in order from 0 on, with the raw states (B, T, d) of a batch.
StateReader = Callable[[int, Tensor], None]

StatesIn = Literal["memory", "file"]
_MEMORY_SHARE = 0.25  # of what is free, for the states between two layers


class StatesDiffer(Exception):  # noqa: N818 - what is wrong; whoever reads takes whole passes instead
    """A model's layers give other states when they are called one at a time, so more than a state is handed on."""


class _Reached(BaseException):
    """Ends a pass after the last layer that is wanted; no Exception, so that no model's own code catches it."""


def between_layers_bytes(tokens: int, width: int, dtype: torch.dtype) -> int:
    """Bytes of the hidden states between two layers: tokens, padding included, x width x bytes a number."""
    return tokens * width * dtype.itemsize


def memory_for_states() -> int:
    """Bytes of the machine's memory that states between layers may take in this process."""
    return int(_MEMORY_SHARE * free_bytes(torch.device("cpu"))) // launch().local_count


def room_for_states(n_bytes: int) -> StatesIn | None:
    """Where so many bytes of states can be kept: in memory, else in the folder for temporary files; None in neither."""
    if n_bytes <= memory_for_states():
        return "memory"
    return "file" if n_bytes <= shutil.disk_usage(scratch_parent()).free else None


def pass_by_layer(
    decoder: Decoder,
    batches: Sequence[tuple[TokenIds, StateReader]],
    depth: int,
    states_in: StatesIn,
    *,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Hand each batch's states to its reader, as a pass from the embedding on does.

    The probe that found the model's parts passes through the layers too, ahead of every batch, and must give the same
    states as it did then.

    Args:
        decoder: a model of which the first layers are kept off the device, in eval mode.
        batches: padded token ids (B, T), each with its reader.
        depth: layers to pass.
        states_in: where states between layers are kept.
        context: what a batch's passes run in; the probe's run in none.
        advance: receives the number of layers done.

    Raises:
        StatesDiffer: the probe's states are others.
        OSError: the file cannot be written.
    """
    layers = decoder.layers
    n_elsewhere = min(depth, 1 + max(i for i, layer in enumerate(layers) if is_elsewhere(layer)))
    probe = probe_ids(decoder.model).numpy(), _compared_with(decoder.probe_spaces)
    everything = [(*probe, nullcontext), *((ids, read, context) for ids, read in batches)]
    entries: list[int] = []
    with _stored_states(states_in) as states:
        with brought_in(decoder.embedding):
            for number, (ids, read, around) in enumerate(everything):
                with around():
                    states.write(number, _embedded(decoder, ids))
                read(0, states.read(number).to(decoder.device))
        for which in [*(range(i, i + 1) for i in range(n_elsewhere)), range(n_elsewhere, depth)]:
            if not which:
                continue
            with brought_in(layers[which[0]]):
                for number, (ids, read, around) in enumerate(everything):
                    state = states.read(number).to(decoder.device)
                    with around():
                        state = _run_layers(decoder, which, ids, state, entries, read)
                    if which[-1] + 1 < depth:
                        states.write(number, state)
            advance(which[-1] + 1)


def _compared_with(spaces: Sequence[Tensor]) -> StateReader:
    def read(space: int, state: Tensor) -> None:
        if not torch.equal(state, spaces[space]):
            raise StatesDiffer

    return read


def _embedded(decoder: Decoder, ids: TokenIds) -> Tensor:
    """What enters layer 0, (B, T, d)."""
    reached: list[Tensor] = []

    def on_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        reached.append(layer_input(args, kwargs))
        raise _Reached

    _pass_until_reached(decoder, ids, [decoder.layers[0].register_forward_pre_hook(on_input, with_kwargs=True)])
    return reached[0]


def _run_layers(
    decoder: Decoder, which: range, ids: TokenIds, state: Tensor, entries: list[int], read: StateReader
) -> Tensor:
    """Run some layers on the state before them (B, T, d); the state after them.

    Args:
        decoder: the model.
        which: successive layers.
        ids: of the batch (B, T).
        state: what enters the first of them.
        entries: of each layer that has run, the length of the tuple it returns, 0 for a plain tensor; added to.
        read: receives the state after each.
    """
    reached: list[Tensor] = []
    width = decoder.embedding.embedding_dim

    def on_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return ((state, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": state})

    def on_output(i: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:  # what a hook returns would replace the layer's output
            if i == len(entries):
                entries.append(0 if isinstance(output, Tensor) else len(output))
            read(i + 1, hidden_state(output))
            if i == which[-1]:
                reached.append(hidden_state(output))
                raise _Reached

        return hook

    below = {layer: _unchanged(n) for layer, n in zip(decoder.layers[: which[0]], entries, strict=False)}
    with _replaced_forward({decoder.embedding: lambda tokens: state.new_zeros(*tokens.shape, width), **below}):
        handles = [decoder.layers[which[0]].register_forward_pre_hook(on_input, with_kwargs=True)]
        handles += [decoder.layers[i].register_forward_hook(on_output(i)) for i in which]
        _pass_until_reached(decoder, ids, handles)
    return reached[0]


def _pass_until_reached(decoder: Decoder, ids: TokenIds, handles: Sequence[RemovableHandle]) -> None:
    """Run a batch until a hook has what it wants; then the hooks are removed."""
    try:
        decoder.base(input_ids=torch.from_numpy(ids).to(decoder.device), use_cache=False)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()


def _unchanged(n_entries: int) -> Callable[..., Any]:
    """A layer that returns its input, in the form of what it returns."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        state = layer_input(args, kwargs)
        return (state, *[None] * (n_entries - 1)) if n_entries else state

    return forward


@contextmanager
def _replaced_forward(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules that compute something else, without the weights that they would bring in."""
    before = {module: vars(module).get("forward") for module in forwards}  # accelerate's, where it has a hook
    for module, forward in forwards.items():
        vars(module)["forward"] = forward
    try:
        yield
    finally:
        for module, previous in before.items():
            if previous is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = previous


class _InMemory:
    def __init__(self) -> None:
        self._states: dict[int, Tensor] = {}

    def write(self, number: int, state: Tensor) -> None:
        self._states[number] = state.to("cpu")

    def read(self, number: int) -> Tensor:
        return self._states[number]


class _InFile:
    """States of one size after the other in a file, each written over by that of the next layer."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._forms: dict[int, tuple[int, torch.Size, torch.dtype]] = {}  # where it begins, and its form
        self._end = 0

    def write(self, number: int, state: Tensor) -> None:
        if number not in self._forms:
            self._forms[number] = self._end, state.shape, state.dtype
            self._end += state.nbytes
        self._file.seek(self._forms[number][0])
        self._file.write(_as_bytes(state.to("cpu").contiguous()))
        self._file.flush()

    def read(self, number: int) -> Tensor:
        begin, shape, dtype = self._forms[number]
        state = torch.empty(shape, dtype=dtype)
        self._file.seek(begin)
        self._file.readinto(_as_bytes(state))  # type: ignore[attr-defined]  # of any file that is opened as bytes
        return state


def _as_bytes(state: Tensor) -> Any:
    return state.view(-1).view(torch.uint8).numpy().data


@contextmanager
def _stored_states(states_in: StatesIn) -> Iterator[_InMemory | _InFile]:
    if states_in == "memory":
        yield _InMemory()
        return
    with temporary_folder(scratch_parent()) as folder, (folder / "states").open("w+b") as file:
        yield _InFile(file)
