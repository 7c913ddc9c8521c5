"""Would another deviation, weight w or threshold tau have picked better depths? Judged leave-one-task-out.

The coverage rule takes the deepest k up to the cap whose score's 10th percentile reaches tau. The score rises with
R(k), so R(k)'s own 10th percentile, which the cells keep, gives the pick at every w and tau.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

from semfreeze_core.gains.noninferiority import Floats
from semfreeze_core.plan.rules import selected_depths
from semfreeze_core.records.defaults import COVERAGE_WEIGHT, TAU
from semfreeze_core.records.gain import Interval
from semfreeze_core.records.validation import Budget
from tests.benchmarks.evidence_cells import TaskCells
from tests.benchmarks.evidence_regret import TaskRegret, mean_of, percents

METRICS = ("semantic", "logit_z")
WEIGHTS = (0.25, 0.5, 0.75, 1.0)
TAUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


class Setting(NamedTuple):
    """Of the coverage rule."""

    metric: str
    weight: float
    tau: float


SHIPPED = Setting("semantic", COVERAGE_WEIGHT, TAU)
GRID = tuple(Setting(*values) for values in product(METRICS, WEIGHTS, TAUS))


def lower_coverage(replicates: Floats) -> Floats:
    """R(k)'s 10th percentile over replicates, (L + 1,); one without any R(k) counts as below all."""
    return np.percentile(np.where(np.isfinite(replicates), replicates, -np.inf), 10, axis=0, method="lower")


def pick(task: TaskCells, setting: Setting) -> int:
    """The coverage rule's candidate depth."""
    low = np.array([-np.inf if r is None else r for r in task.coverage_low[setting.metric]])
    return selected_depths(low[None], setting.tau, setting.weight)[0]


def settings_lines(tasks: list[TaskCells], budget: Budget) -> list[str]:
    """Each task's regret under the setting that is best on all other tasks, against the shipped one's, as Markdown."""
    regrets = {task.task: TaskRegret(task, budget) for task in tasks}
    table = {s: np.array([regrets[t.task].of(pick(t, s)).estimate for t in tasks]) for s in (*GRID, SHIPPED)}
    lines = ["| task | best on the others (deviation, w, tau) | its pick | shipped pick | regret less the shipped |",
             "|---|---|---:|---:|---:|"]  # fmt: skip
    apart = []
    for index, task in enumerate(tasks):
        best = min(table, key=lambda s: (float(np.delete(table[s], index).mean()), s != SHIPPED))
        depth, shipped = pick(task, best), pick(task, SHIPPED)
        apart.append(regrets[task.task].beyond(depth, shipped))
        settings = f"{best.metric}, {best.weight:g}, {best.tau:g}"
        lines.append(f"| {task.task} | {settings} | {depth} | {shipped} | {percents(apart[-1], 1)} |")
    lines += [f"| mean | | | | {percents(mean_of(apart), 1)} |", ""]
    other = [regrets[t.task].beyond(pick(t, SHIPPED._replace(metric="logit_z")), pick(t, SHIPPED)) for t in tasks]
    compute = [regrets[t.task].beyond(t.picks["semantic"]["compute"].depth or 0, pick(t, SHIPPED)) for t in tasks]
    lines += [
        _sentence("The deviation logit_z, all else as shipped", mean_of(other)),
        _sentence("The rule compute instead of coverage", mean_of(compute)),
        _sentence(
            "Two thirds without reading anything",
            mean_of([regrets[t.task].beyond(2 * t.n_layers // 3, pick(t, SHIPPED)) for t in tasks]),
        ),
    ]
    return lines


def _sentence(what: str, apart: Interval) -> str:
    verdict = "the interval includes 0" if apart.low <= 0 <= apart.high else "the interval excludes 0"
    return f"- {what}: regret {percents(apart, 1)} apart from the shipped setting's; {verdict}."
