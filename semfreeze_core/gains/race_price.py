"""What a race of variants costs: the steps and evaluations that the chosen variant's training does not go on from."""

from collections.abc import Sequence
from dataclasses import dataclass

from semfreeze_core.records.defaults import RACE_READINGS, RACE_ROWS, RACE_STEPS, RATE_TRIALS

_FORWARD = 1 / 3  # of a step's FLOPs with every layer trained


@dataclass(frozen=True)
class RacePrice:
    """FLOPs that a race adds to the finetune it chooses.

    Attributes:
        likely: every rate that loses is stopped half-way, and the cheapest variant wins, so that the others' steps are
            lost.
        worst: every search tries as many rates as it may, each to the end, and a trial is made after it.
    """

    likely: int
    worst: int


def race_price(step_flop: Sequence[int], reading_flop: int, steps: int = RACE_STEPS, trial_flop: int = 0) -> RacePrice:
    """The price of a race whose rates are compared on the training batches, which takes no evaluation.

    The first variant brackets its rate by a trial on either side. The others begin at its rate, and what was too high
    for it is not tried again: they need the lower one.

    Args:
        step_flop: of a step of each variant, the one that trains fewest layers first, FLOPs.
        reading_flop: of all evaluations: the model's before training and each variant's.
        steps: of the race.
        trial_flop: of the trial that is made where the cheapest variant does not win, FLOPs; 0 where there is none.
    """
    lost_variants = steps * (sum(step_flop) - min(step_flop)) + reading_flop
    stopped = [(steps // 2) * flop * (2 if i == 0 else 1) for i, flop in enumerate(step_flop)]
    worst = lost_variants + (RATE_TRIALS - 1) * steps * sum(step_flop) + trial_flop
    return RacePrice(lost_variants + sum(stopped), worst)


def race_rows(steps: int, batch_size: int, n_variants: int) -> int:
    """Eval examples of a race: as many as keep its evaluations at RACE_READINGS of the finetune, within RACE_ROWS.

    Args:
        steps: of the whole finetune.
        batch_size: examples per step.
        n_variants: that are raced; the model before training is evaluated too.
    """
    rows = RACE_READINGS * steps * batch_size / (_FORWARD * (n_variants + 1))
    least, most = RACE_ROWS
    return max(least, min(most, int(rows)))
