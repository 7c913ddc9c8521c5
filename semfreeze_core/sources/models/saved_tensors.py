"""What autograd keeps between the forward and the backward pass, counted by storage."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class SavedTensors:
    """The tensors that a graph keeps, for as long as it keeps them."""

    def __init__(self) -> None:
        self._tensors: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def add(self, tensor: Tensor, mark: int | None) -> "_Saved":
        """Note a tensor; what is returned has to be held by the graph alone."""
        saved = _Saved(tensor, mark)
        self._tensors.add(saved)
        return saved

    def storages(self, leaving_out: Iterable[Tensor]) -> dict[int, tuple[int | None, int]]:
        """Of each live storage, once and whole, its lowest mark (None when it has none) and its bytes.

        Args:
            leaving_out: tensors whose storages do not count: parameters, inputs.
        """
        excluded = {storage_key(tensor) for tensor in leaving_out}
        by_key: dict[int, tuple[int | None, int]] = {}
        for saved in self._tensors:
            key = storage_key(saved.tensor)
            if key in excluded:
                continue
            size = saved.tensor.untyped_storage().nbytes()
            marks = [saved.mark, *([by_key[key][0]] if key in by_key else [])]
            by_key[key] = (min((m for m in marks if m is not None), default=None), size)
        return by_key

    def bytes(self, leaving_out: Iterable[Tensor]) -> int:
        """Bytes of all live storages, each once and whole."""
        return sum(size for _, size in self.storages(leaving_out).values())


class _Saved:
    """A tensor the graph keeps; the graph alone holds it, so it dies when not needed."""

    def __init__(self, tensor: Tensor, mark: int | None) -> None:
        self.tensor, self.mark = tensor, mark


@contextmanager
def saving_observed(mark: Callable[[], int | None] = lambda: None) -> Iterator[SavedTensors]:
    """Observe what the graph built inside keeps.

    Args:
        mark: asked whenever a tensor is kept, what it is to be filed under; say, the layer that runs.
    """
    saved = SavedTensors()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.add(t, mark()), lambda packed: packed.tensor):
        yield saved


def storage_key(tensor: Tensor) -> int:
    """What is the same for all views of one storage; fake tensors have no address."""
    return int(tensor.untyped_storage()._cdata)
