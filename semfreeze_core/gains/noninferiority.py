"""Did the planned finetune keep full finetuning's loss reduction? A non-inferiority test with a margin.

Improvement is the fall of an item's supervised loss. Items and seeds are drawn together and once for all arms, so every
comparison is paired; a share of two improvements is unstable when the lower one is near 0, so the test is on their
difference, I_planned - (1 - margin) I_full.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from semfreeze_core.gains.bootstrap import end_percentiles
from semfreeze_core.records.defaults import BOOTSTRAP_REPLICATES, MARGIN, MIN_SEEDS
from semfreeze_core.records.interval import Interval, ci_label

Floats = npt.NDArray[np.float64]
ValidationVerdict = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Judgment:
    """The result of comparing the planned arm with full finetuning.

    Attributes:
        verdict: "holds", "fails" or "undecided".
        reason: the numbers behind the verdict, to follow it after a colon; no period at its end.
        reduction_share: planned improvement over full's, two-sided at `CONFIDENCE`; NaN when full's includes 0.
        full: full finetuning's improvement, nats per item, two-sided at `CONFIDENCE`.
        planned: the planned arm's, likewise.
    """

    verdict: ValidationVerdict
    reason: str
    reduction_share: Interval
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


def draw(n_seeds: int, n_items: int, *, seed: int = 0, replicates: int = BOOTSTRAP_REPLICATES) -> Draws:
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
    """Mean improvement with its two-sided interval, nats per item."""
    return _interval(float((before[None, :] - after).mean()), improvement_replicates(before, after, draws))


def improvement_kept(before: Floats, full: Floats, planned: Floats, draws: Draws) -> Interval:
    """Planned improvement over full's with its two-sided interval; NaN when full's interval includes 0."""
    whole = improvement_replicates(before, full, draws)
    if np.percentile(whole, end_percentiles()[0]) <= 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    share = improvement_replicates(before, planned, draws) / whole
    return _interval(float((before - planned).mean() / (before - full).mean()), share)


def judge(before: Floats, full: Floats, planned: Floats, *, margin: float = MARGIN, seed: int = 0) -> Judgment:
    """Whether the planned arm keeps full finetuning's improvement within `margin`, one-sided at `CONFIDENCE`.

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
    reduction = improvement_kept(before, full, planned, draws)
    ahead = improvement_replicates(before, planned, draws) - (1 - margin) * improvement_replicates(before, full, draws)
    low, high = np.percentile(ahead, end_percentiles(sides=1))
    sample = f"{n_items} eval examples, {n_seeds} seed{'s' if n_seeds > 1 else ''}"
    required = f"required: {100 * (1 - margin):.0f}%"
    share = (
        f"{100 * reduction.estimate:.0f}% of full finetuning's loss reduction "
        f"({ci_label()} {100 * reduction.low:.0f}–{100 * reduction.high:.0f}%"
    )
    verdict: ValidationVerdict
    if whole.low <= 0:
        verdict = "undecided"
        reason = (
            f"full finetuning itself does not reduce the loss significantly: {whole.estimate:.3f} nats per token "
            f"({ci_label()} {whole.low:.3f} to {whole.high:.3f}; {sample}), so there is nothing to compare with"
        )
    elif n_seeds < MIN_SEEDS:
        verdict, reason = "undecided", f"{share}; {sample}). A verdict needs at least {MIN_SEEDS} seeds"
    elif low >= 0:
        verdict, reason = "holds", f"{share}; {required}; {sample})"
    elif high < 0:
        verdict, reason = "fails", f"{share}; {required}; {sample})"
    else:
        verdict = "undecided"
        reason = f"{share}; {required}; {sample}). The interval includes the limit: add seeds or eval examples"
    return Judgment(verdict, reason, reduction, whole, part)


def _interval(estimate: float, replicates: Floats) -> Interval:
    low, high = np.percentile(replicates, end_percentiles())
    return Interval(estimate, float(low), float(high))
