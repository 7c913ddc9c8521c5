"""Which rows to look at when there are more than needed: a seeded draw, never the first ones.

Files are often sorted by class or by source, so their first rows stand for nothing but themselves.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def sample_rows(labels: Sequence[str | None], n: int | None, seed: int) -> tuple[list[int], list[str]]:
    """Indices of `n` rows in seeded order, and notes on how they were drawn.

    Rows are drawn by class (`stratified_sample`) unless there are no labels, or so many different ones - half as many
    as rows, or more - that they are free text and not classes.

    Args:
        labels: one a usable row; None where a row has no class.
        n: rows wanted; None, or more than there are, means all.
        seed: of the draw and of the order.
    """
    rows = len(labels)
    wanted = rows if n is None else min(n, rows)
    notes = [] if n is None or n <= rows else [f"All {rows} usable examples are taken; up to {n} could be used."]
    kinds = len(set(labels) - {None})
    if kinds == 0:
        return _plain_sample(rows, wanted, seed), notes
    if 2 * kinds >= rows:
        notes.append(
            f"The labels are treated as free text, not as classes: {kinds} different ones in {rows} rows. "
            "Rows are drawn without regard to them."
        )
        return _plain_sample(rows, wanted, seed), notes
    if wanted < rows:
        notes.append(f"{wanted:,} of {rows:,} usable rows are drawn, each of {kinds} labels by its share.")
    return stratified_sample(labels, wanted, seed), notes


def stratified_sample(labels: Sequence[str | None], n: int, seed: int) -> list[int]:
    """Indices of `n` rows, each label with its share of them, in seeded order.

    Shares are rounded by largest remainders: n_label = floor(n size / rows), and the places left over go to the largest
    fractions, ties broken by the seed. If n is at least the number of labels, each label has at least one row; the
    places for that come from the others in proportion.

    Args:
        labels: one a row; None is a label of its own here.
        n: rows wanted, at most len(labels).
        seed: of the draw and of the order.

    Raises:
        ValueError: n is negative or more than there are rows.
    """
    if not 0 <= n <= len(labels):
        raise ValueError(f"n must be in 0..{len(labels)}, found {n}")
    groups: dict[str | None, list[int]] = {}
    for index, label in enumerate(labels):
        groups.setdefault(label, []).append(index)
    if not groups:
        return []
    rng = np.random.default_rng(seed)
    shares = _shares(np.array([len(group) for group in groups.values()]), n, rng)
    chosen = [rng.permutation(group)[:share] for group, share in zip(groups.values(), shares, strict=True)]
    return [int(i) for i in rng.permutation(np.concatenate(chosen))]


def _plain_sample(rows: int, n: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).permutation(rows)[:n]]


def _shares(sizes: npt.NDArray[np.int64], n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows to draw from each group, int64, shape of `sizes`, sum n; whole-number arithmetic throughout."""
    shares = np.zeros_like(sizes)
    shared = np.ones(len(sizes), dtype=bool)  # groups that share in proportion; the others have their one row
    if n >= len(sizes):
        # A group below one row gets one; that leaves less to share, which may push the next group below one.
        while (small := shared & ((n - np.sum(~shared)) * sizes < sizes[shared].sum())).any():
            shared &= ~small
        shares[~shared] = 1
    left = n - int(np.sum(~shared))
    quotas, remainders = np.divmod(left * sizes[shared], sizes[shared].sum())
    order = np.lexsort((rng.permutation(len(quotas)), -remainders))
    quotas[order[: left - quotas.sum()]] += 1
    shares[shared] = quotas
    return shares
