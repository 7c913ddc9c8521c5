"""What other layer scores take from the pass that reads the deviations: block influence, and states by class."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semfreeze_core.processes import sent_to_first
from semfreeze_core.semantics.positions import Batch


@dataclass
class ScoreStates:
    """Filled during the passes.

    Attributes:
        influence: float32 (n_examples, L), block influence, averaged over each example's positions.
        keep: examples whose states that predict the first supervised token are kept.
        first: (L, d) of each kept example: that state as it leaves every layer, raw. float32, as the few huge entries
            that raw states have overflow float16.
    """

    influence: npt.NDArray[np.float32]
    keep: frozenset[int] = frozenset()
    first: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

    def collect(self, chosen: list[int]) -> None:
        """Complete it in the first of several processes.

        Args:
            chosen: the examples that this process has read.
        """
        for indices, influence, first in sent_to_first((chosen, self.influence[chosen], self.first)):
            self.influence[indices] = influence
            self.first.update(first)


def block_influence(raw: Tensor) -> Tensor:
    """1 - cos(h_i, h_{i+1}) of every layer between the spaces given, float32 (S - 1, n), in [0, 2].

    A layer that passes its input on unchanged has influence 0, and so has one that only makes it longer.

    Args:
        raw: raw states of S successive spaces, (S, n, d), none of them zero.

    Source: Men et al. 2024 (ShortGPT, arXiv 2403.03853), who average it over all tokens of a text and remove layers
    with little of it; here it is averaged over the supervised positions read.
    """
    states = raw.float()
    length = torch.linalg.vector_norm(states, dim=-1)
    cosine = torch.linalg.vecdot(states[1:], states[:-1]) / (length[1:] * length[:-1])
    influence: Tensor = (1 - cosine).clamp(min=0)  # rounding takes a layer that turns nothing a little below 0
    return influence


class ScoreReader:
    """Gathers one batch for the scores; raw states come in as the spaces are reduced, some at a time."""

    def __init__(self, batch: Batch, states: ScoreStates, device: torch.device) -> None:
        self.batch, self.states = batch, states
        self.starts = np.searchsorted(batch.rows, np.arange(len(batch.examples)))
        batch_indices = [b for b, example in enumerate(batch.examples) if example in states.keep]
        self.selected_examples = [batch.examples[b] for b in batch_indices]
        self.selected_rows = torch.from_numpy(self.starts[batch_indices]).to(device)
        self.before: Tensor | None = None  # the last space reduced: what enters the next layer
        self.influence: list[Tensor] = []
        self.first: list[Tensor] = []

    def reduce(self, raw: Tensor) -> None:
        """Take in the next spaces, (S, n, d)."""
        after = raw if self.before is None else torch.cat([self.before, raw])
        self.influence.append(block_influence(after))
        if self.selected_examples:
            self.first.append(raw[:, self.selected_rows].float())
        self.before = raw[-1:]

    def hand_over(self) -> None:
        """Write what was gathered into the states."""
        influence = torch.cat(self.influence).cpu().numpy()
        counts = np.diff([*self.starts, len(self.batch.rows)])
        means = np.add.reduceat(influence.astype(np.float64), self.starts, axis=-1) / counts
        self.states.influence[list(self.batch.examples)] = means.T
        if self.selected_examples:
            first = torch.cat(self.first)[1:].cpu().numpy()  # without space 0, which no layer has made
            self.states.first.update({example: first[:, i] for i, example in enumerate(self.selected_examples)})
