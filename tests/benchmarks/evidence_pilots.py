"""What the rule `measured` would have done on the cells: pilots are the first part of one seed's runs, and what they
picked is held against the other seeds' ends, so that nothing is judged by what it was chosen on."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from semfreeze_core.finetune.validation.pilot_schedule import round_sizes
from semfreeze_core.gains.noninferiority import Floats
from semfreeze_core.records.validation import Budget
from tests.benchmarks.evidence_cells import Cell, TaskCells

Losses = Callable[[TaskCells, Budget], dict[int, Floats]]
At = Callable[[dict[int, Floats], int], tuple[Floats, bool]]
FIRST_SHARES = (1 / 16, 1 / 8, 1 / 4)


def pilot_rows(tasks: list[TaskCells], losses_of: Losses, at_depth: At) -> list[str]:
    """Regret at equal compute of what pilots pick, by how far the first round goes, as Markdown."""
    lines = [
        "The rule `measured` replayed at equal compute: the swept depths but 0 race, the first round ends at a share "
        "of the run, the last at twice that or more; each seed's pilots are judged on the other seeds. Cost is in "
        "whole finetunes, readings left out.",
        "",
        f"| first round | cost | {' | '.join(task.task for task in tasks)} | mean regret | half's |",
        "|---:|---:|" + "---|" * len(tasks) + "---:|---:|",
    ]
    for share in FIRST_SHARES:
        cells, regrets, halves, costs = [], [], [], []
        for task in tasks:
            seeds = sorted({cell.seed for cell in task.cells})
            losses = losses_of(task, "compute")
            if len(next(iter(losses.values()))) < 2:
                cells.append("one seed")
                continue
            picked = []
            for index, seed in enumerate(seeds[: len(next(iter(losses.values())))]):
                depth, cost = race(task, seed, share)
                held = {k: np.delete(v, index, axis=0) for k, v in losses.items()}
                gained = {k: float((np.array(task.before) - v).mean()) for k, v in held.items()}
                best = max(gained.values())
                half = float((np.array(task.before) - at_depth(held, task.n_layers // 2)[0]).mean())
                regrets.append((best - gained[depth]) / best)
                halves.append((best - half) / best)
                costs.append(cost)
                picked.append(depth)
            cells.append(", ".join(map(str, picked)))
        if regrets:
            lines.append(
                f"| {100 * share:.0f} % | {np.mean(costs):.2f} | {' | '.join(cells)} | "
                f"{100 * np.mean(regrets):.1f} % | {100 * np.mean(halves):.1f} % |"
            )
    return lines


def race(task: TaskCells, seed: int, share: float) -> tuple[int, float]:
    """The winner of a successive halving over the swept depths above 0, and its cost in whole finetunes."""
    cells = {cell.freeze_depth: cell for cell in task.cells if cell.seed == seed and cell.freeze_depth}
    left, cost = sorted(cells), 0.0
    sizes = (*round_sizes(len(left)), 1)
    for size, following in pairwise(sizes):
        reach = min(1.0, share * 2 ** np.floor(np.log2(len(cells) / size)))
        cost += reach * size
        left = sorted(left, key=lambda depth: _loss(cells[depth], reach))[:following]
    return left[0], cost


def _loss(cell: Cell, share: float) -> float:
    """Loss of the first items at the reading nearest to a share of the steps."""
    return min(cell.curve, key=lambda point: abs(point[0] - share * cell.steps))[2]
