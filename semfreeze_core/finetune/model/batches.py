"""Batches for training: padded on the right, supervised where the mask says, states from a cache where there is one."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from semfreeze_core.records.examples import TokenizedExample

IGNORED = -100  # torch's and transformers' label of a token without a loss


class BoundaryStates(Protocol):
    """Something that has the boundary states of examples by their place; the prefix cache does."""

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """States (B, T, d), padded on the right, and their attention mask (B, T)."""


class ExamplePlaces(Dataset[int]):
    """The places 0..n-1 of n examples; what they hold is put together by the batch."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, place: int) -> int:
        return place


class Collator:
    """Makes a batch of examples out of their places.

    A batch holds `labels` (B, T), token ids where they are supervised and -100 elsewhere; `attention_mask` (B, T); and
    `input_ids` (B, T), or with a cache `states` (B, T, d) in their stead. T is the longest example's.
    """

    def __init__(self, examples: Sequence[TokenizedExample], cache: BoundaryStates | None = None) -> None:
        self.examples = examples
        self.cache = cache

    def __call__(self, places: Sequence[int]) -> dict[str, Any]:
        chosen = [self.examples[place] for place in places]
        length = max(len(example.input_ids) for example in chosen)
        ids = torch.zeros((len(chosen), length), dtype=torch.long)  # what stands under the mask is read by nobody
        labels = torch.full_like(ids, IGNORED)
        mask = torch.zeros_like(ids)
        for row, example in enumerate(chosen):
            n = len(example.input_ids)
            own = torch.from_numpy(example.input_ids)
            ids[row, :n] = own
            labels[row, :n] = torch.where(torch.from_numpy(example.supervised), own, IGNORED)
            mask[row, :n] = 1
        if self.cache is None:
            return {"input_ids": ids, "attention_mask": mask, "labels": labels}
        states, mask = self.cache.batch(places)
        return {"states": states, "attention_mask": mask, "labels": labels}


def batch_flop_sizes(examples: Sequence[TokenizedExample], places: Sequence[int]) -> tuple[int, int]:
    """Padded length of a batch, and its number of supervised tokens."""
    chosen = [examples[place] for place in places]
    return max(len(e.input_ids) for e in chosen), sum(int(e.supervised.sum()) for e in chosen)
