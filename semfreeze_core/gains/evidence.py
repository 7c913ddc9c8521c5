"""Does the analysis show that the layers do this task at all? Both controls must pass."""

import math

import numpy as np

from semfreeze_core.gains.bootstrap import mean_interval, resampling_weights
from semfreeze_core.records.gain import Evidence
from semfreeze_core.records.interval import Interval, ci_label
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace

# Float32 rounding of two equal deviations; anything above it is a difference.
_ROUNDING = 1e-6


def judge_evidence(trace: TransitionTrace, pairs: SwappedPairs, seed: int) -> Evidence:
    """Evidence holds when two intervals at `CONFIDENCE` lie above 0; our criterion, not the paper's.

    1. The advantage rises from space 1 to space L: layers move states towards their own labels more than towards
       labels drawn at random.
    2. At space L, states deviate more when completions are swapped between prompts: the prompt matters, not only the
       language of the completion.
    """
    advantage = trace.advantage
    rise = mean_interval(advantage[:, -1] - advantage[:, 1], resampling_weights(len(advantage), seed))
    if len(pairs.own):
        difference = pairs.swapped[:, -1] - pairs.own[:, -1]
        task = mean_interval(difference, resampling_weights(len(difference), seed + 1))
    else:
        task = Interval(math.nan, math.nan, math.nan)
    reasons, missing = [], []
    if rise.low > _ROUNDING:
        reasons.append(
            f"From the first to the last layer, lift over random labels rises by {rise.estimate:.3f} "
            f"({ci_label()} {rise.low:.3f}–{rise.high:.3f})."
        )
    elif np.ptp(advantage) <= _ROUNDING:
        missing.append("All target labels are identical, so lift over random labels cannot be measured.")
    else:
        missing.append(
            f"Lift over random labels does not rise significantly through the layers: {rise.estimate:.3f} "
            f"({ci_label()} {rise.low:.3f} to {rise.high:.3f})."
        )
    if pairs.reason:
        missing.append(f"The swapped-completion control could not be computed: {pairs.reason}.")
    elif task.low > _ROUNDING:
        reasons.append(
            f"With swapped completions, the distance at the last layer is {task.estimate:.3f} larger ({ci_label()} "
            f"{task.low:.3f}–{task.high:.3f}, {len(pairs.own)} prompts): the signal depends on the prompt."
        )
    else:
        missing.append(
            f"Swapping completions makes no significant difference to the distance at the last layer: "
            f"{task.estimate:.3f} ({ci_label()} {task.low:.3f} to {task.high:.3f}, {len(pairs.own)} prompts)."
        )
    return Evidence("no evidence" if missing else "evidence", tuple(missing or reasons), rise, task, len(pairs.own))
