"""Reading layer by layer: one layer comes in, all batches pass through it, and then the next one.

Layers kept off the device would else come in again for every batch. What stands between two layers, the hidden states
of all tokens, is kept in the machine's memory or in a file. A layer is called by the model's own code, with the masks
and positions that this makes: the layers below return the kept state in its place.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor, nn

from semfreeze_core.device import free_bytes
from semfreeze_core.processes import launch
from semfreeze_core.semantics.positions import Batch
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.placement import brought_in, is_elsewhere
from semfreeze_core.sources.models.probe import hidden_state, layer_input, probe_ids
from semfreeze_core.temporary import scratch_parent, temporary_folder

# Called once a latent space, in order 0..L, with the raw states (n, d) of the batch's positions.
SpaceReader = Callable[[int, Tensor], None]

KeptIn = Literal["memory", "file"]
_MEMORY_SHARE = 0.25  # of what is free, for the states between two layers


class StatesDiffer(Exception):  # noqa: N818 - what is wrong; never leaves the reading
    """A model's layers give other states when they are called one at a time, so more than a state is handed on."""


class _Reached(BaseException):
    """Ends a pass after the last layer that is wanted; no Exception, so that no model's own code catches it."""


def between_layers_bytes(tokens: int, width: int, dtype: torch.dtype) -> int:
    """Bytes of the hidden states between two layers: tokens, padding included, x width x bytes a number."""
    return tokens * width * dtype.itemsize


def kept_in(n_bytes: int) -> KeptIn | None:
    """Where so many bytes of states can be kept: a quarter of the free memory, else the folder for temporary files."""
    if n_bytes <= _MEMORY_SHARE * free_bytes(torch.device("cpu")) / launch().local_count:
        return "memory"
    return "file" if n_bytes <= shutil.disk_usage(scratch_parent()).free else None


def reads_by_layer(decoder: Decoder, batches: Sequence[Batch]) -> KeptIn | None:
    """Where states are kept while batches are read layer by layer; None where that is not cheaper, or has no room.

    It is cheaper where layers are kept off the device, and more than one batch would bring them in.
    """
    if len(batches) < 2 or not decoder.probe_spaces:
        return None
    width = decoder.probe_spaces[0].shape[-1]
    return kept_in(between_layers_bytes(sum(batch.input_ids.size for batch in batches), width, decoder.dtype))


@torch.inference_mode()
def read_by_layer(
    decoder: Decoder,
    batches: Sequence[tuple[Batch, SpaceReader]],
    states_in: KeptIn,
    advance: Callable[[int, int], None],
) -> None:
    """Hand the states of all batches' positions to their readers, as passes from the embedding do.

    The probe that found the model's parts passes through the layers too, ahead of every batch, and must give the same
    states as it did then.

    Args:
        decoder: a model of which the first layers are kept off the device.
        batches: each with its reader.
        states_in: where states between layers are kept.
        advance: receives the number of layers done, and of all.

    Raises:
        StatesDiffer: the probe's states are others.
        OSError: the file cannot be written.
    """
    layers = decoder.layers
    n_elsewhere = 1 + max(i for i, layer in enumerate(layers) if is_elsewhere(layer))
    everything = [(_probe_batch(decoder), _compared_with(decoder.probe_spaces)), *batches]
    entries: list[int] = []
    with _kept_states(states_in) as states:
        for i in range(n_elsewhere):
            with brought_in(layers[i]):
                for number, (batch, read) in enumerate(everything):
                    state = states.read(number).to(decoder.device) if i else None
                    states.write(number, _run_layers(decoder, range(i, i + 1), batch, state, entries, read))
            advance(i + 1, len(layers))
        if n_elsewhere < len(layers):
            for number, (batch, read) in enumerate(everything):
                state = states.read(number).to(decoder.device)
                _run_layers(decoder, range(n_elsewhere, len(layers)), batch, state, entries, read)
            advance(len(layers), len(layers))


def _probe_batch(decoder: Decoder) -> Batch:
    ids = probe_ids(decoder.model).numpy()
    n_rows, length = ids.shape
    rows, columns = np.repeat(np.arange(n_rows), length), np.tile(np.arange(length), n_rows)
    return Batch((), ids, rows, columns, ids.flatten(), ids.size)


def _compared_with(spaces: Sequence[Tensor]) -> SpaceReader:
    def read(space: int, raw: Tensor) -> None:
        if not torch.equal(raw, spaces[space].flatten(0, 1)):
            raise StatesDiffer

    return read


def _run_layers(
    decoder: Decoder, which: range, batch: Batch, state: Tensor | None, entries: list[int], read: SpaceReader
) -> Tensor:
    """Run some layers on the state before them (B, T, d), or from the embedding on; the state after them.

    Args:
        decoder: the model.
        which: successive layers.
        batch: what to run.
        state: what enters the first of them; None for layer 0.
        entries: of each layer that has run, the length of the tuple it returns, 0 for a plain tensor; added to.
        read: receives the batch's positions.
    """
    device = decoder.device
    rows, columns = torch.from_numpy(batch.rows).to(device), torch.from_numpy(batch.columns).to(device)
    after: list[Tensor] = []

    def on_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read(0, layer_input(args, kwargs)[rows, columns])

    def on_output(i: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if i == len(entries):
                entries.append(0 if isinstance(output, Tensor) else len(output))
            read(i + 1, hidden_state(output)[rows, columns])
            if i == which[-1]:
                after.append(hidden_state(output))
                raise _Reached

        return hook

    handles = [decoder.layers[i].register_forward_hook(on_output(i)) for i in which]
    if state is None:
        handles.append(decoder.layers[0].register_forward_pre_hook(on_input, with_kwargs=True))
    try:
        with _skipped(decoder.layers[: which[0]], entries, state):
            decoder.base(input_ids=torch.from_numpy(batch.input_ids).to(device), use_cache=False)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return after[0]


@contextmanager
def _skipped(layers: nn.ModuleList, entries: Sequence[int], state: Tensor | None) -> Iterator[None]:
    """Layers that return a state, in the form of what they return, without running."""

    def returning(n_entries: int) -> Callable[..., Any]:
        return lambda *_, **__: (state, *[None] * (n_entries - 1)) if n_entries else state

    before = [vars(layer).get("forward") for layer in layers]  # accelerate's, where it has a hook
    for layer, n_entries in zip(layers, entries, strict=False):
        vars(layer)["forward"] = returning(n_entries)
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del vars(layer)["forward"]
            else:
                vars(layer)["forward"] = forward


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
def _kept_states(states_in: KeptIn) -> Iterator[_InMemory | _InFile]:
    if states_in == "memory":
        yield _InMemory()
        return
    with temporary_folder(scratch_parent()) as folder, _opened(folder / "states") as file:
        yield _InFile(file)


def _opened(path: Path) -> BinaryIO:
    return path.open("w+b")
