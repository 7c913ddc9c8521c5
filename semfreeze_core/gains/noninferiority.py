"""Did the planned finetune keep what full finetuning improves? Measured, with a margin it can miss.

Improvement is the fall of an item's supervised loss. Items and seeds are drawn together and once for all arms, so every
comparison is paired; a share of two improvements is unstable when the lower one is near 0, so the test is on their
difference, I_planned - (1 - margin) I_full.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from semfreeze_core.gains.bootstrap import REPLICATES
from semfreeze_core.records.gain import Interval
from semfreeze_core.wording.numbers import counted, interval, percent, percent_interval

Floats = npt.NDArray[np.float64]
ValidationVerdict = Literal["holds", "fails", "undecided"]

MARGIN = 0.05
MIN_SEEDS = 3


@dataclass(frozen=True)
class Judgement:
    """What a comparison of the planned arm with full finetuning says.

    Attributes:
        verdict: "holds", "fails" or "undecided".
        reason: in words, with the numbers.
        kept: planned improvement over full's, two-sided 95 %; NaN when full's includes 0.
        full: full finetuning's improvement, nats an item, two-sided 95 %.
        planned: the planned arm's, likewise.
    """

    verdict: ValidationVerdict
    reason: str
    kept: Interval
    full: Interval
    planned: Interval


@dataclass(frozen=True)
class Draws:
    """Which seeds and items each bootstrap replicate holds; the same for every arm.

    Attributes:
        seeds: share of each seed, (B, n_seeds), rows summing to 1.
        items: share of each item, (B, n_items), rows summing to 1.
    """

    seeds: Floats
    items: Floats


def draw(n_seeds: int, n_items: int, *, seed: int = 0, replicates: int = REPLICATES) -> Draws:
    """Bootstrap shares of seeds and of items, drawn apart from each other."""
    rng = np.random.default_rng(seed)
    return Draws(
        rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=replicates) / n_seeds,
        rng.multinomial(n_items, np.full(n_items, 1 / n_items), size=replicates) / n_items,
    )


def improvement_replicates(before: Floats, after: Floats, draws: Draws) -> Floats:
    """Mean improvement in every replicate, (B,).

    Args:
        before: each item's loss before training, (n_items,), nats.
        after: after it, (n_seeds, n_items).
        draws: of the same numbers of seeds and items.
    """
    gained = before[None, :] - after
    means: Floats = np.einsum("bs,si,bi->b", draws.seeds, gained, draws.items)
    return means


def improvement(before: Floats, after: Floats, draws: Draws) -> Interval:
    """Mean improvement with its two-sided 95 % interval, nats an item."""
    return _interval(float((before[None, :] - after).mean()), improvement_replicates(before, after, draws))


def improvement_kept(before: Floats, full: Floats, planned: Floats, draws: Draws) -> Interval:
    """Planned improvement over full's with its two-sided 95 % interval; NaN when full's interval includes 0."""
    whole = improvement_replicates(before, full, draws)
    if np.percentile(whole, 2.5) <= 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    share = improvement_replicates(before, planned, draws) / whole
    return _interval(float((before - planned).mean() / (before - full).mean()), share)


def judge(before: Floats, full: Floats, planned: Floats, *, margin: float = MARGIN, seed: int = 0) -> Judgement:
    """Whether the planned arm keeps full finetuning's improvement within `margin`, one-sided 95 %.

    Args:
        before: each item's loss before training, (n_items,), nats.
        full: after full finetuning, (n_seeds, n_items).
        planned: after the planned one, same shape.
        margin: share of full's improvement that may be lost.
        seed: of the bootstrap.

    Raises:
        ValueError: shapes differ, or a loss is not finite.
    """
    if full.shape != planned.shape or full.shape[1:] != before.shape:
        raise ValueError(f"shapes differ: before {before.shape}, full {full.shape}, planned {planned.shape}")
    if not all(np.isfinite(losses).all() for losses in (before, full, planned)):
        raise ValueError("every loss must be finite")
    n_seeds, n_items = full.shape
    draws = draw(n_seeds, n_items, seed=seed)
    whole, part = improvement(before, full, draws), improvement(before, planned, draws)
    kept = improvement_kept(before, full, planned, draws)
    ahead = improvement_replicates(before, planned, draws) - (1 - margin) * improvement_replicates(before, full, draws)
    low, high = np.percentile(ahead, [5, 95])
    sample = f"{counted(n_items, 'eval example')}, {counted(n_seeds, 'seed')}"
    share = f"{percent_interval(kept)} of full finetuning's loss reduction"
    verdict: ValidationVerdict
    if whole.low <= 0:
        verdict = "undecided"
        reason = (
            f"full finetuning's own loss reduction, {interval(whole)} nats per example, is not significant ({sample})"
        )
    elif n_seeds < MIN_SEEDS:
        verdict, reason = "undecided", f"{share} ({sample}); a verdict needs {MIN_SEEDS} seeds"
    elif low >= 0:
        verdict, reason = "holds", f"{share}, at least {percent(1 - margin)} ({sample})"
    elif high < 0:
        verdict, reason = "fails", f"{share}, less than {percent(1 - margin)} ({sample})"
    else:
        verdict = "undecided"
        reason = (
            f"{share}, neither clearly above nor below {percent(1 - margin)} ({sample}); add seeds or eval examples"
        )
    return Judgement(verdict, reason, kept, whole, part)


def _interval(estimate: float, replicates: Floats) -> Interval:
    low, high = np.percentile(replicates, [2.5, 97.5])
    return Interval(estimate, float(low), float(high))
