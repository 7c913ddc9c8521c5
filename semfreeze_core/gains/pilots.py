"""Which depths stay in the race, and which one wins, by the pilots' losses on the same eval items.

A short pilot often cannot separate depths, and then its order is mostly chance: so where a depth was proposed, it
stays until another one is significantly better. Replayed finetunes bear that out (tests/benchmarks/evidence.md).
"""

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from semfreeze_core.gains.bootstrap import normal_quantile
from semfreeze_core.gains.noninferiority import Floats
from semfreeze_core.records import defaults
from semfreeze_core.records.interval import Interval, ci_label
from semfreeze_core.records.pilots import Aim, ProposedBy

_PROPOSALS = {
    "reading": "the depth that the analysis recommends",
    "sweeps": "two thirds of the layers, close to the recommended depth and the best in most sweeps",
}


def paired_difference(one: Floats, other: Floats, level: float | None = None) -> Interval:
    """Mean of one minus the other, both (n_items,), with its paired two-sided t interval at `level` or CONFIDENCE."""
    apart = one - other
    error = stats.sem(apart)
    if not error > 0:  # the same losses, or one item
        return Interval(float(apart.mean()), float(apart.mean()), float(apart.mean()))
    low, high = stats.t.interval(level or defaults.CONFIDENCE, len(apart) - 1, apart.mean(), error)
    return Interval(float(apart.mean()), float(low), float(high))


def remaining_depths(
    before: Floats, losses: Mapping[int, Floats], aim: Aim, margin: float, n: int, proposed: int | None = None
) -> list[int]:
    """The n depths that go on, in order of depth.

    By their losses, the lowest; for "cheapest" full finetuning, then the deepest of those within the margin of it,
    then the others by their losses. The proposed one goes first unless the best is significantly better.

    Args:
        before: each item's loss before training, (n_items,).
        losses: after each depth's pilot, (n_items,).
        aim: what is looked for.
        margin: share of full finetuning's loss reduction that may be lost.
        n: how many.
        proposed: depth that is proposed; None where none is. It says nothing of "cheapest".
    """
    ranked = sorted(losses, key=lambda depth: float(losses[depth].mean()))
    if aim == "cheapest":
        within = sorted((d for d in _within(before, losses, margin) if d), reverse=True)
        ranked = [0, *within, *(d for d in ranked if d and d not in within)]
        if n == 1:
            ranked = [*within, 0]
    elif (
        proposed is not None and proposed in losses and paired_difference(losses[proposed], losses[ranked[0]]).low <= 0
    ):
        ranked = [proposed, *(depth for depth in ranked if depth != proposed)]
    return sorted(ranked[:n])


def choose(before: Floats, losses: Mapping[int, Floats], aim: Aim, margin: float, proposed: int | None = None) -> int:
    """The depth that wins."""
    return remaining_depths(before, losses, aim, margin, 1, proposed)[0]


def examples_needed(one: Floats, other: Floats) -> int | None:
    """Eval items at which the interval of a difference like this would exclude 0; None where they are equal."""
    apart = one - other
    spread, mean = float(apart.std(ddof=1)), float(apart.mean())
    if not spread > 0 or mean == 0:
        return None
    return math.ceil((normal_quantile() * spread / mean) ** 2)


def decision_reasons(
    before: Floats,
    losses: Mapping[int, Floats],
    aim: Aim,
    margin: float,
    chosen: int,
    proposed: int | None = None,
    proposed_by: ProposedBy | None = None,
) -> list[str]:
    """Why this depth, with the numbers and their uncertainty."""
    sample = f"{len(before)} eval examples, 1 seed"
    where = "at the same compute" if aim == "compute" else "after the same steps"
    final = losses[chosen]
    gained = paired_difference(before, final)
    if gained.low <= 0:
        return [
            f"No pilot reduced the loss significantly. The best depth, {chosen}, changed it by {-gained.estimate:.3f} "
            f"nats per token ({ci_label()} {-gained.high:.3f} to {-gained.low:.3f}; {sample})."
        ]
    if aim == "cheapest":
        share = float((before - final).mean() / (before - losses[0]).mean())
        return [
            f"In the last round, depth {chosen} is the deepest that keeps at least {100 * (1 - margin):.0f}% of full "
            f"finetuning's loss reduction {where}. It keeps {100 * share:.0f}% ({sample})."
        ]
    others = {depth: loss for depth, loss in losses.items() if depth != chosen}
    if not others:
        return [f"Only depth {chosen} was left, at {final.mean():.3f} nats per token ({sample})."]
    second = min(others, key=lambda depth: float(others[depth].mean()))
    ahead = paired_difference(others[second], final)
    side, sign = ("below", 1) if ahead.estimate >= 0 else ("above", -1)
    low, high = sorted((sign * ahead.low, sign * ahead.high))
    result = (
        f"Depth {chosen} ended the last round at {final.mean():.3f} nats per token {where}. That is "
        f"{sign * ahead.estimate:.3f} ({ci_label()} {low:.3f} to {high:.3f}) {side} depth {second} ({sample})."
    )
    if chosen == proposed and proposed_by is not None:
        result += f" It is {_PROPOSALS[proposed_by]}"
        result += "." if ahead.low > 0 else ", and no pilot was significantly better."
    if ahead.low > 0:
        return [result]
    needed = examples_needed(others[second], final)
    advice = "" if needed is None else f" About {needed} eval examples would separate them."
    return [result, f"The interval includes 0, so depths {chosen} and {second} may be equally good.{advice}"]


def _within(before: Floats, losses: Mapping[int, Floats], margin: float) -> list[int]:
    """Depths whose improvement is at least 1 - margin of full finetuning's."""
    least = (1 - margin) * float((before - losses[0]).mean()) if 0 in losses else np.inf
    return [depth for depth, loss in losses.items() if float((before - loss).mean()) >= least]
