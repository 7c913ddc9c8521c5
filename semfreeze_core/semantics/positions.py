"""Which positions are read, and which examples share a forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from semfreeze_core.processes import Share
from semfreeze_core.records.examples import TokenizedExample

Positions = npt.NDArray[np.int64]


def choose_positions(examples: Sequence[TokenizedExample], limit: int, seed: int) -> list[Positions]:
    """Supervised positions to read of each example: all of them, or a seeded draw of `limit` that keeps the first.

    Position t names the token to be predicted; the state that predicts it stands at t - 1.
    """
    chosen = []
    for example in examples:
        positions = np.flatnonzero(example.supervised)
        if len(positions) > limit:
            # Seeded by the example's own row: the draw does not depend on the order or number of examples.
            rng = np.random.default_rng((seed, example.row))
            later = rng.choice(positions[1:], size=limit - 1, replace=False)
            positions = np.sort(np.concatenate([positions[:1], later]))
        chosen.append(positions)
    return chosen


def length_buckets(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Group indices into batches of similar length whose padded size stays within `max_tokens`.

    Longest first, so that running out of memory shows at once. A single example longer than the limit is a batch.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")[::-1]
    batches: list[list[int]] = []
    for index in order.tolist():
        longest = lengths[batches[-1][0]] if batches else 0
        if batches and (len(batches[-1]) + 1) * longest <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def share_of_examples(lengths: Sequence[int], share: Share) -> list[int]:
    """Which examples one of several processes reads: in the order of their lengths, so that all read about as much."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    return sorted(order[list(share.indices(len(lengths)))].tolist())


@dataclass(frozen=True)
class Batch:
    """Right-padded examples of one forward pass.

    Causal attention keeps what stands to the right from showing to the left, so right padding needs no mask.

    Attributes:
        examples: indices of the examples, length B.
        input_ids: int64 (B, T).
        rows: row in the batch of each position read, int64 (n,).
        columns: column of the state that predicts it, int64 (n,).
        label_ids: token id to be predicted, int64 (n,).
        tokens: tokens without padding.
    """

    examples: tuple[int, ...]
    input_ids: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    label_ids: npt.NDArray[np.int64]
    tokens: int


def make_batch(
    indices: Sequence[int], examples: Sequence[TokenizedExample], positions: Sequence[Positions], pad_id: int
) -> Batch:
    """Lay out the named examples and their positions as one padded batch."""
    width = max(len(examples[i].input_ids) for i in indices)
    ids = np.full((len(indices), width), pad_id, dtype=np.int64)
    for row, i in enumerate(indices):
        ids[row, : len(examples[i].input_ids)] = examples[i].input_ids
    read = [positions[i] for i in indices]
    return Batch(
        examples=tuple(indices),
        input_ids=ids,
        rows=np.repeat(np.arange(len(indices)), [len(p) for p in read]),
        columns=np.concatenate(read) - 1,
        label_ids=np.concatenate([examples[i].input_ids[p] for i, p in zip(indices, read, strict=True)]),
        tokens=sum(len(examples[i].input_ids) for i in indices),
    )
