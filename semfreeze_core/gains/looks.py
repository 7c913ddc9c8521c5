"""Whether a finetune may freeze deeper, by the losses of a short training of either kind."""

from collections.abc import Sequence

import numpy as np

from semfreeze_core.gains.race import RaceLosses, standing
from semfreeze_core.records.looks import Look
from semfreeze_core.records.race import Standing


def decide_look(
    step: int, before: Sequence[float], wide: Sequence[float], deep: Sequence[float], tokens: Sequence[float]
) -> Look:
    """The decision of a look: a race of the two between them, in both weightings.

    Args:
        step: from which the short trainings began.
        before: each eval example's mean loss before the finetune, (n_items,), nats.
        wide: after the short training of what trains now, (n_items,).
        deep: after that with the deeper freeze, (n_items,).
        tokens: target tokens of each example, (n_items,).
    """
    after = {"wide": np.array(wide), "deep": np.array(deep)}
    losses = RaceLosses(before=np.array(before), tokens=np.array(tokens), after=after, flop={})
    standings: list[Standing] = ["outside", "outside"]  # where it learned nothing
    if "deep" in losses.learned():
        standings = [standing(losses, "deep", weights) for weights in losses.weightings()]
    return Look(
        step=step,
        wide_loss=float(np.mean(wide)),
        deep_loss=float(np.mean(deep)),
        items_standing=standings[0],
        tokens_standing=standings[1],
    )
