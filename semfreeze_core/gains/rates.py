"""Which learning rate to try next, when one is out of the race, and which wins.

Trials of one variant start from the same weights and see the same batches, so their losses on the same eval examples
are compared in pairs. The loss over the rate falls and then rises, so a search that climbs down from its start finds
the best rate of the grid, and needs the rates on either side of it to know that.
"""

import math
from collections.abc import Sequence
from statistics import mean

import numpy as np

from semfreeze_core.gains.pilots import paired_difference
from semfreeze_core.records.defaults import (
    MIN_RATE_EXAMPLES,
    MIN_RATE_STEPS,
    RACE_CONFIDENCE,
    RATE_AT_WIDTH,
    RATE_FACTORS,
    RATE_GRID,
    RATE_STEPS,
    RATE_TRIALS,
)
from semfreeze_core.records.rates import RateSearch, RateTrial

FEWEST_COMPARED = 3  # losses of a rate; from fewer no interval is told


def starting_rate(width: int, kind: str) -> float:
    """The grid's rate closest to a guess from the model's width; ours, and only where a search begins.

    Rates of transformers' matrices fall about as 1 / width (Yang et al. 2022, arXiv 2203.03466, table 3); adapters
    take a step of the grid more than whole layers.

    Args:
        width: of the hidden state.
        kind: "full", "frozen" or "lora".
    """
    rate, at = RATE_AT_WIDTH
    guess = np.log(RATE_FACTORS[kind] * rate * at / width)
    return min(RATE_GRID, key=lambda one: abs(np.log(one) - guess))


def next_rate(
    trials: Sequence[RateTrial],
    start: float,
    loss_before: float | None,
    *,
    lower_first: bool = False,
    too_high: float | None = None,
) -> float | None:
    """The rate to try next; None when the search is over.

    First `start`; then a neighbor of the best rate so far, the higher first, until both are worse or `RATE_TRIALS`
    have been tried. While no rate has lowered the loss, the next lower one.

    Args:
        trials: so far.
        start: the first rate, one of the grid.
        loss_before: of the eval examples before training; None where trials are compared with one another alone.
        lower_first: try the lower neighbor before the higher one.
        too_high: the lowest rate that is known to be too high; it and higher ones are not tried.
    """
    tried = {trial.rate for trial in trials}
    if not trials:
        return start
    if len(trials) >= RATE_TRIALS:
        return None
    best = best_trial(trials, loss_before)
    if best is None:
        lower = [rate for rate in RATE_GRID if rate < min(tried)]
        return lower[-1] if lower else None
    higher_first = [rate for rate in _neighbors(best.rate) if too_high is None or rate < too_high]
    order = reversed(higher_first) if lower_first else higher_first
    return next((rate for rate in order if rate not in tried), None)


def best_trial(trials: Sequence[RateTrial], loss_before: float | None) -> RateTrial | None:
    """The trial whose loss is lowest; None while none has lowered the loss."""
    highest = math.inf if loss_before is None else loss_before
    read = [(loss, trial) for trial in trials if (loss := trial.loss) is not None and loss < highest]
    return min(read, key=lambda one: one[0])[1] if read else None


def is_behind(half_losses: Sequence[float], best_half_losses: Sequence[float], *, on_batches: bool = False) -> bool:
    """Whether a rate's losses half-way are significantly above the best rate's on the same examples or batches.

    Few batches tell less than many eval examples, so they decide at the confidence of a race, one-sided: of three pairs
    of rates of the bundled model that eval examples told apart at half of 20 steps, five batches did so too.
    """
    if len(half_losses) < FEWEST_COMPARED:
        return False
    level = 2 * RACE_CONFIDENCE - 1 if on_batches else None
    difference = paired_difference(np.array(half_losses), np.array(best_half_losses), level)
    return difference.low > 0


def at_edge(trials: Sequence[RateTrial], chosen: float, too_high: float | None = None) -> bool:
    """Whether the chosen rate is the highest or lowest of those tried, so that a better one may lie beyond."""
    tried = [trial.rate for trial in trials] + ([] if too_high is None else [too_high])
    return chosen in (min(tried), max(tried))


def too_high_rate(search: RateSearch) -> float | None:
    """The lowest rate above the chosen one that was clearly too high: it diverged or was stopped behind; else None."""
    if search.rate is None:
        return None
    higher = [trial.rate for trial in search.trials if trial.rate > search.rate and trial.end != "read"]
    return min([*higher, *([] if search.too_high is None else [search.too_high])], default=None)


def later_half(train_losses: Sequence[float]) -> list[float]:
    """The losses of the later half of the batches so far, each before its own step: those that compare rates.

    In the first pass each batch is new to the training, so that its loss is that of examples it was not trained on.
    """
    return list(train_losses[len(train_losses) // 2 :])


def is_unstable(train_losses: Sequence[float]) -> bool:
    """Whether a trial's training loss over its last quarter is above that over its first."""
    quarter = len(train_losses) // 4
    return quarter > 0 and mean(train_losses[-quarter:]) > mean(train_losses[:quarter])


def compared_steps(steps: int) -> int | None:
    """After how many steps a search compares rates for a training of `steps`; None where it is too short for one."""
    compared = min(RATE_STEPS, steps // 3)
    return compared if compared >= MIN_RATE_STEPS else None


def compared_steps_on_batches(steps: int, batch_size: int, n_examples: int) -> int | None:
    """As compared_steps, for a search that compares rates on the training's own batches.

    A batch's loss stands for an eval loss only in the first pass, where nothing has trained on it; the later half of
    the batches is compared, and must have MIN_RATE_EXAMPLES.

    Args:
        steps: of the training.
        batch_size: examples per step.
        n_examples: in the training set.
    """
    compared = min(compared_steps(steps) or 0, n_examples // batch_size)
    return compared if compared // 2 * batch_size >= MIN_RATE_EXAMPLES else None


def lost_steps(compared: int) -> tuple[int, int]:
    """Least and most steps of a search that the chosen rate's training does not go on from.

    The least are two trials that stop half-way, one on either side of the start; the most are all but one trial.
    """
    return 2 * (compared // 2), (RATE_TRIALS - 1) * compared


def _neighbors(rate: float) -> list[float]:
    """The next higher rate of the grid, then the next lower."""
    index = RATE_GRID.index(rate)
    higher, lower = RATE_GRID[index + 1 : index + 2], RATE_GRID[max(0, index - 1) : index]
    return [*higher, *lower]
