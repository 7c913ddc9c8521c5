"""Batches with freeze depths of their own: in which order they come, and how a batch carries its depth."""

from collections.abc import Iterator, Sequence
from typing import Any

from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler

from semfreeze_core.cost import ordered_by_depth, ordered_by_length
from semfreeze_core.finetune.model.batches import Collator, ExampleIndices

Entry = tuple[int, int]  # an example's number and its batch's freeze depth


class DepthOrder(Sampler[Entry]):
    """An epoch's examples, ordered by their depths from the order in which other arms meet them.

    Args:
        examples: what is drawn from.
        depths: the freeze depth of each example.
        batch_size: examples per step; all batches of a step freeze alike.
        seed: of the order; the epoch changes it too.
        lengths: tokens of each example, where other arms' batches are of like length; else None.
    """

    def __init__(
        self,
        examples: ExampleIndices,
        depths: Sequence[int],
        batch_size: int,
        seed: int,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self.depths, self.batch_size, self.lengths = depths, batch_size, lengths
        self._shuffled = SeedableRandomSampler(examples, data_seed=seed)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as in this epoch from now on; a data loader calls it."""
        self._shuffled.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.depths)

    def __iter__(self) -> Iterator[Entry]:
        order = list(self._shuffled)
        if self.lengths is not None:
            order = ordered_by_length(order, self.lengths, self.batch_size)
        yield from ordered_by_depth(order, self.depths, self.batch_size)


class DepthCollator:
    """Makes a batch as a Collator does, and adds the `freeze_depth` that its examples come with."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, entries: Sequence[Entry]) -> dict[str, Any]:
        indices, depths = zip(*entries, strict=True)
        return {**self.collator(list(indices)), "freeze_depth": min(depths)}
