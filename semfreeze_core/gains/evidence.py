"""Does the reading show that the layers do this task at all? Both controls must say yes."""

import math

import numpy as np

from semfreeze_core.gains.bootstrap import mean_interval, resampling_weights
from semfreeze_core.records.gain import Evidence, Interval
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace
from semfreeze_core.wording.numbers import interval_with_ci

# Float32 rounding of two equal deviations; anything above it is a difference.
_ROUNDING = 1e-6


def judge_evidence(trace: TransitionTrace, pairs: SwappedPairs, seed: int) -> Evidence:
    """Evidence holds when two 95 % intervals lie above 0; our criterion, not the paper's.

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
    across = f"lift over random labels rises by {interval_with_ci(rise)}"
    if rise.low > _ROUNDING:
        reasons.append(f"From the first to the last layer, {across}.")
    elif np.ptp(advantage) <= _ROUNDING:
        missing.append("All labels are the same, so none differs from a random one.")
    else:
        missing.append(f"From the first to the last layer, {across}: no significant rise.")
    distance = f"{interval_with_ci(task)} larger at the last layer ({len(pairs.own)} prompts)"
    if pairs.reason:
        missing.append(f"The swapped-completion control is undefined: {pairs.reason}.")
    elif task.low > _ROUNDING:
        reasons.append(
            f"With swapped completions, the distance to the target is {distance}: the signal depends on the prompt."
        )
    else:
        missing.append(f"With swapped completions, the distance to the target is {distance}: no significant change.")
    return Evidence("no evidence" if missing else "evidence", tuple(missing or reasons), rise, task, len(pairs.own))
