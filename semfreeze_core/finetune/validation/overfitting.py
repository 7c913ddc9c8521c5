"""Eval loss on the way: whose rose again, and what each arm would have given where it was lowest."""

from collections.abc import Mapping, Sequence

import numpy as np

from semfreeze_core.gains.best_checkpoint import rise, stopped
from semfreeze_core.gains.noninferiority import Floats
from semfreeze_core.records.validation import ArmRun
from semfreeze_core.wording.numbers import interval_with_ci

MIN_EVALUATIONS = 3  # with fewer there is no evaluation between the marks to stop at


def overfitting_warnings(runs: Mapping[str, Sequence[ArmRun]]) -> list[str]:
    """One sentence on the arms whose loss rose significantly (95% CI excludes 0), or none.

    Args:
        runs: of every arm by its name.
    """
    rises = []
    for name, arm_runs in runs.items():
        steps, losses = evaluations_of(arm_runs)
        if len(steps) < 2 or losses.shape[1] < 2:
            continue
        lowest, by = rise(losses)
        if by.low > 0:
            rises.append(f"{name} after {steps[lowest]} of {steps[-1]} steps, then up by {interval_with_ci(by)} nats")
    if not rises:
        return []
    return [
        f"Overfitting: eval loss was lowest before the end: {'; '.join(rises)} (first eval examples, mean over seeds, "
        "interval over all evaluations). Results at the last step are not reliable. Train for fewer steps or add "
        "examples."
    ]


def stopped_losses(runs: Sequence[ArmRun]) -> dict[int, Floats]:
    """Each seed's losses where its run was lowest, (n_examples,); none without evaluations between the marks."""
    losses_by_seed = {}
    for run in runs:
        steps, losses = evaluations_of([run])
        if len(steps) >= MIN_EVALUATIONS and losses.shape[1] >= 2:
            losses_by_seed[run.seed] = stopped(losses)
    return losses_by_seed


def evaluations_of(runs: Sequence[ArmRun]) -> tuple[list[int], Floats]:
    """Steps of an arm's evaluations after training began, and the losses there, mean over finished seeds.

    Returns:
        Steps (n,) and losses (n, n_examples) of the examples that every evaluation has; none where seeds were evaluated
        at different steps, or losses by example were not saved.
    """
    points_by_seed = {}
    for run in runs:
        points = [p for p in run.points if "start" not in p.marks and p.item_losses]
        if run.status == "done" and points:
            points_by_seed[run.seed] = points
    schedules = {tuple(point.step for point in points) for points in points_by_seed.values()}
    if len(schedules) != 1:
        return [], np.empty((0, 0))
    n_examples = min(len(point.item_losses or ()) for points in points_by_seed.values() for point in points)
    losses = np.array([[(p.item_losses or [])[:n_examples] for p in points] for points in points_by_seed.values()])
    return list(schedules.pop()), losses.mean(axis=0)
