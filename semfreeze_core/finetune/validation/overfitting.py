"""Arms read on their way: which rose again, and what each would have given where it was lowest."""

from collections.abc import Mapping, Sequence

import numpy as np

from semfreeze_core.gains.best_checkpoint import rise, stopped
from semfreeze_core.gains.noninferiority import Floats
from semfreeze_core.records.validation import ArmRun
from semfreeze_core.wording.numbers import interval_with_ci

MIN_EVALUATIONS = 3  # with fewer there is nothing between the marks to stop at


def overfitting_warnings(runs: Mapping[str, Sequence[ArmRun]]) -> list[str]:
    """One sentence on the arms whose loss rose for sure, or none.

    Args:
        runs: of every arm by its name.
    """
    told = []
    for name, own in runs.items():
        steps, readings = evaluations_of(own)
        if len(steps) < 2 or readings.shape[1] < 2:
            continue
        lowest, by = rise(readings)
        if by.low > 0:
            told.append(f"{name} after {steps[lowest]} of {steps[-1]} steps, then up by {interval_with_ci(by)} nats")
    if not told:
        return []
    return [
        f"Overfitting: eval loss was lowest before the end: {'; '.join(told)} (first eval examples, mean over seeds, "
        "interval over all evaluations). Results at the last step are not reliable. Train for fewer steps or add "
        "examples."
    ]


def stopped_losses(runs: Sequence[ArmRun]) -> dict[int, Floats]:
    """Each seed's losses where its own run was lowest, (n_items,); none where nothing was read between the marks."""
    found = {}
    for run in runs:
        steps, readings = evaluations_of([run])
        if len(steps) >= MIN_EVALUATIONS and readings.shape[1] >= 2:
            found[run.seed] = stopped(readings)
    return found


def evaluations_of(runs: Sequence[ArmRun]) -> tuple[list[int], Floats]:
    """Steps of an arm's readings after training began, and the losses there, mean over finished seeds.

    Returns:
        Steps (n_readings,) and losses (n_readings, n_items) of the items that every reading has; none where seeds were
        read at different steps, or items were not kept.
    """
    found = {}
    for run in runs:
        points = [p for p in run.points if "start" not in p.marks and p.item_losses]
        if run.status == "done" and points:
            found[run.seed] = points
    places = {tuple(point.step for point in points) for points in found.values()}
    if len(places) != 1:
        return [], np.empty((0, 0))
    n_items = min(len(point.item_losses or ()) for points in found.values() for point in points)
    losses = np.array([[(p.item_losses or [])[:n_items] for p in points] for points in found.values()])
    return list(places.pop()), losses.mean(axis=0)
