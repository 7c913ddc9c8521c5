"""The order of examples: which share a step, and which of several processes trains which of them."""

from collections.abc import Iterator, Sequence
from itertools import islice

from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler

from semfreeze_core.cost import ordered_by_length
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.model.batches import ExampleIndices, filler_index


class ExampleOrder(Sampler[int]):
    """An epoch's examples in batches that go to the processes in turn, as accelerate deals them out.

    The examples are drawn in the order of one process: at random, or by length. In one part, a step takes the next
    ones, as there. In several,
    part p holds examples p, p + parts, ...; a step takes equally many of each, and with as many processes as parts each
    process trains on its own part alone. Every epoch meets every example once: where fewer are left than a step takes,
    places without an example fill up the batches.

    Args:
        lengths: tokens of each example to train on; at least as many as parts.
        settings: batches and their size, passes per step, processes, parts and seed.
    """

    def __init__(self, lengths: Sequence[int], settings: ArmSettings) -> None:
        self.n_examples = n_examples = len(lengths)
        self._lengths = lengths if settings.setup.batches == "by-length" else None
        self.batch_size, self.parts = settings.setup.batch_size, settings.parts
        self.rows, self.processes = settings.micro_batch_size, settings.processes
        self._epoch = 0
        self._shuffled = SeedableRandomSampler(ExampleIndices(n_examples), data_seed=settings.seed)

    @property
    def steps(self) -> int:
        """In an epoch."""
        return -(-self.n_examples // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as in this epoch from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        last = [self._step(range(part, self.n_examples, self.parts), self.steps - 1) for part in range(self.parts)]
        return (self.steps - 1) * self.batch_size + len(self._dealt(last))

    def __iter__(self) -> Iterator[int]:
        self._shuffled.set_epoch(self._epoch)  # it goes on to the next by itself
        parts: list[list[int]] = [[] for _ in range(self.parts)]
        for index in self._epoch_order():
            parts[index % self.parts].append(index)
        for step in range(self.steps):
            yield from self._dealt([self._step(part, step) for part in parts])

    def _epoch_order(self) -> list[int]:
        """All examples, as one process would meet them."""
        shuffled = list(self._shuffled)
        return shuffled if self._lengths is None else ordered_by_length(shuffled, self._lengths, self.batch_size)

    def _step(self, part: Sequence[int], step: int) -> Sequence[int]:
        """What a step takes of a part."""
        n = self.batch_size // self.parts
        return part[step * n : (step + 1) * n]

    def _dealt(self, parts: Sequence[Sequence[int]]) -> list[int]:
        """A step's examples in whole batches, as many for each process."""
        has_parts = self.parts == self.processes
        if not has_parts:
            together = [index for part in parts for index in part]
            parts = [together[i :: self.processes] for i in range(self.processes)]
        dealt: list[int] = []
        for start in range(0, max(map(len, parts)), self.rows):
            for i, part in enumerate(parts):
                batch = part[start : start + self.rows]
                dealt += [*batch, *[filler_index(i if has_parts else 0)] * (self.rows - len(batch))]
        return dealt


def examples_met(lengths: Sequence[int], settings: ArmSettings) -> Sequence[int]:
    """Indices of the examples that an arm's steps meet, and those of one step more: a data loader asks ahead."""
    n_examples = (settings.total_steps + 1) * settings.setup.batch_size
    if n_examples >= len(lengths):
        return range(len(lengths))
    return list(islice(ExampleOrder(lengths, settings), n_examples))


def example_order(lengths: Sequence[int], settings: ArmSettings) -> ExampleOrder | None:
    """The order of examples of these lengths in tokens; None for the Trainer's own, random in one process."""
    alone = settings.processes == settings.parts == 1
    return None if alone and settings.setup.batches == "random" else ExampleOrder(lengths, settings)
