"""Which variant of a finetune wins a race, by the losses of the same eval examples after the same steps.

Losses are weighted twice: every example alike, and by its number of target tokens. A few examples can carry a
difference, so one that only holds in one of the two weightings does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semfreeze_core.gains.bootstrap import Floats, resampling_weights
from semfreeze_core.records.defaults import MARGIN, RACE_CONFIDENCE
from semfreeze_core.records.race import Standing


@dataclass(frozen=True)
class RaceLosses:
    """The losses of a race.

    Attributes:
        before: each eval example's mean loss before training, (n_items,), nats.
        tokens: its number of target tokens, (n_items,).
        after: by variant after the race, (n_items,).
        flop: by variant, of its whole finetune.
    """

    before: Floats
    tokens: Floats
    after: Mapping[str, Floats]
    flop: Mapping[str, int]

    def reduction(self, variant: str, weights: Floats) -> float:
        """A variant's weighted mean loss reduction, nats."""
        return float(np.average(self.before - self.after[variant], weights=weights))

    def weightings(self) -> tuple[Floats, Floats]:
        """Weights of the examples: all alike, and by target tokens."""
        return np.ones_like(self.tokens), self.tokens

    def learned(self) -> list[str]:
        """Variants whose loss fell in both weightings; the others are not ranked."""
        return [name for name in self.after if all(self.reduction(name, w) > 0 for w in self.weightings())]

    def cheapest_first(self) -> list[str]:
        """The variants that learned, by the FLOPs of their whole finetune."""
        return sorted(self.learned(), key=lambda name: self.flop[name])


@dataclass(frozen=True)
class RaceChoice:
    """What a race decides.

    Attributes:
        variant: the one that continues.
        decided: False where the race could not tell, and the safe variant was taken.
        standings: by variant that learned, in both weightings: by example, by target token.
    """

    variant: str
    decided: bool
    standings: dict[str, tuple[Standing, Standing]]


def standing(
    losses: RaceLosses, variant: str, weights: Floats, *, margin: float = MARGIN, confidence: float = RACE_CONFIDENCE
) -> Standing:
    """Whether a variant's loss reduction is within `margin` of the best one's, one-sided at `confidence`.

    I_variant - (1 - margin) I_best over the same examples, by a bootstrap over them; the best one is compared with
    itself, and is within where it learned anything significantly.

    Args:
        losses: of the race.
        variant: which learned.
        weights: of the examples, (n_items,).
        margin: share of the best one's reduction that may be lost.
        confidence: of each of the two one-sided tests.
    """
    best = max(losses.learned(), key=lambda name: losses.reduction(name, weights))
    ahead = (losses.before - losses.after[variant]) - (1 - margin) * (losses.before - losses.after[best])
    draws = resampling_weights(len(ahead), seed=0) * weights
    replicates = draws @ ahead / draws.sum(axis=1)
    tail = round(100 * (1 - confidence), 10)
    low, high = np.percentile(replicates, (tail, 100 - tail))
    return "within" if low >= 0 else "outside" if high < 0 else "cannot tell"


def choose_balanced(losses: RaceLosses, safe: str) -> RaceChoice:
    """The cheapest variant whose loss reduction is within MARGIN of the best one's in both weightings.

    Variants are asked from the cheapest on. At the first of which the race cannot tell, or whose two weightings
    disagree, the safe variant is taken, unless it is significantly outside in both; then the best one.

    Args:
        losses: of the race; at least one variant learned.
        safe: the variant to take where the race cannot tell.
    """
    standings = _standings(losses)
    for name in losses.cheapest_first():
        if standings[name] == ("within", "within"):
            return RaceChoice(name, True, standings)
        if standings[name] != ("outside", "outside"):
            usable = safe in standings and standings[safe] != ("outside", "outside")
            return RaceChoice(safe if usable else lowest(losses, list(standings)), False, standings)
    return RaceChoice(lowest(losses, list(standings)), True, standings)


def choose_lowest(losses: RaceLosses, allowed: Sequence[str]) -> RaceChoice:
    """The variant with the lowest loss among those allowed; told apart only if it is so in both weightings.

    Args:
        losses: of the race.
        allowed: variants that learned and may be chosen, at least one.
    """
    by_items, by_tokens = (
        max(allowed, key=lambda name, weights=weights: losses.reduction(name, weights))  # type: ignore[misc]
        for weights in losses.weightings()
    )
    return RaceChoice(by_items, by_items == by_tokens, _standings(losses))


def lowest(losses: RaceLosses, allowed: Sequence[str]) -> str:
    """The variant with the lowest mean loss over examples among those allowed."""
    return min(allowed, key=lambda name: float(losses.after[name].mean()))


def _standings(losses: RaceLosses) -> dict[str, tuple[Standing, Standing]]:
    items, tokens = losses.weightings()
    return {name: (standing(losses, name, items), standing(losses, name, tokens)) for name in losses.learned()}
