"""Batches for training: padded on the right, with labels on target tokens, states from a cache where there is one."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.data.training_rows import IGNORED


class BoundaryStates(Protocol):
    """The boundary states of examples by their index; the prefix cache has them."""

    def padded_states(self, indices: Sequence[int]) -> Tensor:
        """States (B, T, d), padded on the right."""


# Of a batch that needs no backward pass: rows, and tokens with the padding. One longer example is a batch of its own.
EVAL_ROWS, EVAL_TOKENS = 16, 8192


def bounded_batches(lengths: Sequence[int], most_tokens: int = EVAL_TOKENS) -> Iterator[range]:
    """Ranges of successive examples whose padded batch stays within EVAL_ROWS rows and the tokens, in order.

    Args:
        lengths: tokens of each example.
        most_tokens: of a batch of two and more, padding included.
    """
    start = longest = 0
    for i, length in enumerate(lengths):
        rows, longest = i + 1 - start, max(longest, length)
        if rows > 1 and (rows > EVAL_ROWS or rows * longest > most_tokens):
            yield range(start, i)
            start, longest = i, length
    if start < len(lengths):
        yield range(start, len(lengths))


def filler_index(index: int) -> int:
    """What stands for no example in a batch of indices: it fills a place that one of several processes has left over.

    Args:
        index: of an example that the process has, whose tokens a batch of such places alone is made of.
    """
    return -1 - index


class ExampleIndices(Dataset[int]):
    """The indices 0..n-1 of n examples; the collator puts a batch together from them."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index


class Collator:
    """Makes a batch of examples from their indices.

    A batch holds `labels` (B, T), the ids of target tokens and -100 elsewhere; `target_index` (n,), as the function of
    that name gives it, so that nobody asks the device for it; `attention_mask` (B, T); and `input_ids` (B, T), or with
    a cache `states` (B, T, d) instead. T is the longest example's. Of places without an example (`filler_index`) it
    makes no rows, and of such places alone one row without target tokens.
    """

    def __init__(self, examples: Sequence[TokenizedExample], cache: BoundaryStates | None = None) -> None:
        self.examples = examples
        self.cache = cache

    def __call__(self, indices: Sequence[int]) -> dict[str, Any]:
        filled = [i for i in indices if i >= 0]
        indices = filled or [filler_index(indices[0])]
        chosen = [self.examples[i] for i in indices]
        length = max(len(example.input_ids) for example in chosen)
        ids = torch.zeros((len(chosen), length), dtype=torch.long)  # nobody reads what is masked
        labels = torch.full_like(ids, IGNORED)
        mask = torch.zeros_like(ids)
        for row, example in enumerate(chosen):
            n = len(example.input_ids)
            tokens = torch.from_numpy(example.input_ids)
            ids[row, :n] = tokens
            if filled:
                labels[row, :n] = torch.where(torch.from_numpy(example.supervised), tokens, IGNORED)
            mask[row, :n] = 1
        targets = {"labels": labels, "target_index": target_index(labels)}
        inputs = {"input_ids": ids} if self.cache is None else {"states": self._states(self.cache, indices)}
        return {**inputs, "attention_mask": mask, **targets}

    def ahead(self) -> "Collator":
        """For a trainer, which asks for a batch before it computes the one before."""
        return self if self.cache is None else AheadCollator(self.examples, self.cache)

    def _states(self, cache: BoundaryStates, indices: Sequence[int]) -> Any:
        return cache.padded_states(indices)


class AheadCollator(Collator):
    """A Collator whose `states` another thread gathers from memory or files while the device computes.

    They are an object that gives the tensor when it is moved to its device, as a data loader does with each batch when
    the step before is done.
    """

    def __init__(self, examples: Sequence[TokenizedExample], cache: BoundaryStates) -> None:
        super().__init__(examples, cache)
        self._thread = ThreadPoolExecutor(1, "boundary-states")

    def _states(self, cache: BoundaryStates, indices: Sequence[int]) -> Any:
        return _Gathered(self._thread.submit(super()._states, cache, list(indices)))


class _Gathered:
    def __init__(self, states: Future[Tensor]) -> None:
        self._states = states

    def to(self, *args: Any, **how: Any) -> Tensor:
        """The states (B, T, d) there, once they are gathered; what failed in gathering them is raised."""
        return self._states.result().to(*args, **how)


def target_index(labels: Tensor) -> Tensor:
    """Flat indices (n,) into labels (B, T) of the tokens before target tokens, whose states predict them."""
    return pad(labels[:, 1:] != IGNORED, (0, 1)).flatten().nonzero()[:, 0]
