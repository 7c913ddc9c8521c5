"""Which depths stay in the race, and which one wins, by the pilots' losses on the same eval items.

A short pilot often cannot tell depths apart, and then its order is mostly chance: so where a depth was proposed, it
stays until another one is better for sure. Replayed finetunes bear that out (tests/benchmarks/evidence.md).
"""

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from semfreeze_core.gains.noninferiority import Floats
from semfreeze_core.records.gain import Interval
from semfreeze_core.records.pilots import Aim, ProposedBy
from semfreeze_core.wording.numbers import interval_with_ci, number, percent

_PROPOSALS = {
    "reading": "what the reading proposed",
    "sweeps": "two thirds of the layers, close to what the reading proposed and the best in most sweeps",
}


def differ(one: Floats, other: Floats) -> Interval:
    """Mean of one less the other over items, with its two-sided 95 % t interval; both (n_items,), paired."""
    apart = one - other
    error = stats.sem(apart)
    if not error > 0:  # the same losses, or one item
        return Interval(float(apart.mean()), float(apart.mean()), float(apart.mean()))
    low, high = stats.t.interval(0.95, len(apart) - 1, apart.mean(), error)
    return Interval(float(apart.mean()), float(low), float(high))


def stay(
    before: Floats, losses: Mapping[int, Floats], aim: Aim, margin: float, n: int, proposed: int | None = None
) -> list[int]:
    """The n depths that go on, in order of depth.

    By their losses, the lowest; for "cheapest" full finetuning, then the deepest of those within the margin of it,
    then the others by their losses. The proposed one goes first unless the best is better for sure.

    Args:
        before: each item's loss before training, (n_items,).
        losses: after each depth's pilot, (n_items,).
        aim: what is looked for.
        margin: share of full finetuning's improvement that may be lost.
        n: how many.
        proposed: depth that is proposed; None where none is. It says nothing of "cheapest".
    """
    ranked = sorted(losses, key=lambda depth: float(losses[depth].mean()))
    if aim == "cheapest":
        within = sorted((d for d in _within(before, losses, margin) if d), reverse=True)
        ranked = [0, *within, *(d for d in ranked if d and d not in within)]
        if n == 1:
            ranked = [*within, 0]
    elif proposed is not None and proposed in losses and differ(losses[proposed], losses[ranked[0]]).low <= 0:
        ranked = [proposed, *(depth for depth in ranked if depth != proposed)]
    return sorted(ranked[:n])


def choose(before: Floats, losses: Mapping[int, Floats], aim: Aim, margin: float, proposed: int | None = None) -> int:
    """The depth that wins."""
    return stay(before, losses, aim, margin, 1, proposed)[0]


def items_to_tell(one: Floats, other: Floats) -> int | None:
    """Eval items at which the 95 % interval of a difference like this would leave 0; None where they are the same."""
    apart = one - other
    spread, mean = float(apart.std(ddof=1)), float(apart.mean())
    if not spread > 0 or mean == 0:
        return None
    return math.ceil((1.96 * spread / mean) ** 2)


def words(
    before: Floats,
    losses: Mapping[int, Floats],
    aim: Aim,
    margin: float,
    chosen: int,
    proposed: int | None = None,
    proposed_by: ProposedBy | None = None,
) -> list[str]:
    """Why this depth, with the numbers, and how sure that is."""
    sample = f"{len(before)} eval examples, one seed"
    where = "at the same compute" if aim == "compute" else "at the same steps"
    own = losses[chosen]
    gained = differ(before, own)
    if gained.low <= 0:
        return [
            f"No pilot reduced the loss significantly: the best, {chosen}, reduced it by {interval_with_ci(gained)} "
            f"nats per example ({sample}). The pilots do not decide."
        ]
    if aim == "cheapest":
        kept = float((before - own).mean() / (before - losses[0]).mean())
        return [
            f"In the last round {chosen} is the deepest that keeps {percent(1 - margin)} of full finetuning's loss "
            f"reduction {where}: {percent(kept)} of it ({sample})."
        ]
    others = {depth: loss for depth, loss in losses.items() if depth != chosen}
    if not others:
        return [f"Only {chosen} was left, at {number(own.mean())} nats per example ({sample})."]
    second = min(others, key=lambda depth: float(others[depth].mean()))
    ahead = differ(others[second], own)
    side, sign = ("below", 1) if ahead.estimate >= 0 else ("above", -1)
    low, high = sorted((sign * ahead.low, sign * ahead.high))
    apart = Interval(sign * ahead.estimate, low, high)
    sentence = (
        f"{chosen} ended the last round at {number(own.mean())} nats per example {where}, {interval_with_ci(apart)} "
        f"{side} {second} ({sample})."
    )
    if chosen == proposed and proposed_by is not None:
        better = "." if ahead.low > 0 else ", and no pilot was significantly better."
        sentence += f" It is {_PROPOSALS[proposed_by]}{better}"
    if ahead.low > 0:
        return [sentence]
    needed = items_to_tell(others[second], own)
    more = "" if needed is None else f" About {needed} eval examples would separate them."
    return [sentence, f"That interval includes 0: {chosen} and {second} may be as good as each other.{more}"]


def _within(before: Floats, losses: Mapping[int, Floats], margin: float) -> list[int]:
    """Depths whose improvement is at least 1 - margin of full finetuning's."""
    least = (1 - margin) * float((before - losses[0]).mean()) if 0 in losses else np.inf
    return [depth for depth, loss in losses.items() if float((before - loss).mean()) >= least]
