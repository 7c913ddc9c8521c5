"""Regret of every recommendation on one task's cells, paired over seeds and items."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from semfreeze_core.gains.best_checkpoint import stopped
from semfreeze_core.gains.noninferiority import Draws, Floats, draw
from semfreeze_core.gains.regret import regret, regret_beyond
from semfreeze_core.records.gain import Interval
from tests.benchmarks.evidence_cells import Cell, TaskCells

# Where runs are read: the two budgets, and each run where its own loss is lowest on the way to equal compute.
EvaluationPoint = Literal["compute", "steps", "stopped"]
PER_METRIC = ("coverage", "paper", "compute")


def losses_by_depth(task: TaskCells, point: EvaluationPoint) -> dict[int, Floats]:
    """Losses (n_seeds, n_items) by depth, on the seeds that all depths have; none where readings were not kept."""
    if point == "stopped" and not all(cell.readings for cell in task.cells):
        return {}
    depths = {cell.freeze_depth for cell in task.cells}
    whole = [s for s in task.settings.seeds if {c.freeze_depth for c in task.cells if c.seed == s} == depths]
    if not whole or len(depths) < len(task.settings.arms):
        return {}
    by_cell = {(cell.freeze_depth, cell.seed): _losses(cell, point) for cell in task.cells}
    return {depth: np.array([by_cell[depth, seed] for seed in whole]) for depth in sorted(depths)}


def _losses(cell: Cell, point: EvaluationPoint) -> Floats:
    return stopped(np.array(cell.readings)) if point == "stopped" else np.array(cell.losses[point])


def at_depth(losses: dict[int, Floats], depth: int) -> tuple[Floats, bool]:
    """Losses at a depth, and whether they were measured there or lie between the two nearest depths'."""
    if depth in losses:
        return losses[depth], True
    below = max((d for d in losses if d < depth), default=min(losses))
    above = min((d for d in losses if d > depth), default=max(losses))
    if below == above or not below < depth < above:
        return losses[min(losses, key=lambda d: abs(d - depth))], False
    share = (depth - below) / (above - below)
    return (1 - share) * losses[below] + share * losses[above], False


def selections(task: TaskCells) -> Iterator[tuple[str, int, bool]]:
    """Every rule and score of every deviation once: its name, its depth, and whether it recommends it.

    Beside them stand three that read nothing: full finetuning, half, and two thirds.
    """
    names = set()
    for metric, rule_picks in task.picks.items():
        for name, pick in rule_picks.items():
            per_metric = name in PER_METRIC
            if name == "half" or pick.depth is None or (not per_metric and name in names):
                continue
            names.add(name)
            yield f"{name} ({metric})" if per_metric else name, pick.depth, pick.recommended
    yield "full finetuning", 0, True
    yield "half", task.n_layers // 2, True
    yield "two thirds", 2 * task.n_layers // 3, True


class TaskRegret:
    """What depths of one task cost against its best swept depth, read at one place.

    Args:
        task: with a whole seed at least.
        place: where.
    """

    def __init__(self, task: TaskCells, point: EvaluationPoint) -> None:
        self._before, self._losses = np.array(task.before), losses_by_depth(task, point)
        gained = {depth: float((self._before - after).mean()) for depth, after in self._losses.items()}
        self._best = self._losses[max(gained, key=gained.__getitem__)]
        self._draws: Draws = draw(*self._best.shape)

    def of(self, depth: int) -> Interval:
        """Its regret."""
        return regret(self._before, self._best, self._at(depth), self._draws)

    def beyond(self, depth: int, other: int) -> Interval:
        """Its regret less another depth's; below 0 it is the better one."""
        return regret_beyond(self._before, self._best, self._at(depth), self._at(other), self._draws)

    def measured(self, depth: int) -> bool:
        """Whether this depth was trained, rather than read between two that were."""
        return at_depth(self._losses, depth)[1]

    def _at(self, depth: int) -> Floats:
        return at_depth(self._losses, depth)[0]


def regret_table(tasks: list[TaskCells], point: EvaluationPoint) -> list[str]:
    """Each rule's mean regret over tasks, its difference to half's, and every task's, as Markdown."""
    names = [task.task for task in tasks]
    lines = [
        f"| rule or score | mean regret | less half's | {' | '.join(names)} |",
        "|---|---:|---:|" + "---|" * len(names),
    ]
    rows: dict[str, list[tuple[Interval, Interval, str]]] = {}
    for task in tasks:
        task_regret, half = TaskRegret(task, point), task.n_layers // 2
        for name, depth, recommended in selections(task):
            depth_text = f"{'' if task_regret.measured(depth) else '~'}{depth}{'' if recommended else ' (abstains)'}"
            rows.setdefault(name, []).append((task_regret.of(depth), task_regret.beyond(depth, half), depth_text))
    whole = {name: row for name, row in rows.items() if len(row) == len(tasks)}
    for name in sorted(whole, key=lambda name: mean_of([row[0] for row in whole[name]]).estimate):
        whole_regret, beyond = (
            mean_of([row[0] for row in whole[name]]),
            mean_of([row[1] for row in whole[name]]),
        )
        cells = [f"{depth_text}: {100 * regret.estimate:.1f} %" for regret, _, depth_text in whole[name]]
        lines.append(f"| {name} | {100 * whole_regret.estimate:.1f} % | {percents(beyond, 1)} | {' | '.join(cells)} |")
    return lines


def mean_of(intervals: list[Interval]) -> Interval:
    """Mean of independent estimates, their half widths added in squares."""
    half = float(np.sqrt(np.sum([((f.high - f.low) / 2) ** 2 for f in intervals]))) / len(intervals)
    middle = float(np.mean([f.estimate for f in intervals]))
    return Interval(middle, middle - half, middle + half)


def percents(interval: Interval, digits: int = 0) -> str:
    """An interval in percent; a dash where it is not known."""
    if not np.isfinite(interval.estimate):
        return "—"
    return f"{100 * interval.estimate:.{digits}f} % [{100 * interval.low:.{digits}f}, {100 * interval.high:.{digits}f}]"
