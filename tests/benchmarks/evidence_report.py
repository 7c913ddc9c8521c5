"""What the evidence says: every recommendation against freezing half, on the cells that there are.

`python -m tests.benchmarks.evidence_report` reads tests/benchmarks/results/evidence/*.json and writes
tests/benchmarks/evidence.md. A pick between two swept depths is given what lies between theirs, item by item, and is
marked with a tilde.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from semfreeze_core.gains.regret import regret, regret_beyond
from semfreeze_core.gains.verdict import Floats, draw, improvement_kept
from semfreeze_core.records.gain import Interval
from semfreeze_core.records.validation import Budget
from semfreeze_core.storage import write_atomically
from tests.benchmarks.evidence_cells import TaskCells
from tests.benchmarks.evidence_pilots import pilot_rows

RESULTS = Path(__file__).parent / "results" / "evidence"
PLACE = Path(__file__).parent / "evidence.md"
BUDGETS: tuple[Budget, ...] = ("compute", "steps")


def read_all(folder: Path = RESULTS) -> list[TaskCells]:
    """Every task's cells, those with at least one whole seed."""
    found = [TaskCells.model_validate_json(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [task for task in found if losses_by_depth(task, "steps")]


def losses_by_depth(task: TaskCells, budget: Budget) -> dict[int, Floats]:
    """Losses (n_seeds, n_items) by depth, on the seeds that all depths have."""
    depths = {cell.freeze_depth for cell in task.cells}
    whole = [s for s in task.settings.seeds if {c.freeze_depth for c in task.cells if c.seed == s} == depths]
    if not whole or len(depths) < len(task.settings.arms):
        return {}
    by_cell = {(cell.freeze_depth, cell.seed): cell.losses[budget] for cell in task.cells}
    return {depth: np.array([by_cell[depth, seed] for seed in whole]) for depth in sorted(depths)}


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


def picks(task: TaskCells) -> Iterator[tuple[str, int, bool]]:
    """Every rule and score of every deviation once: its name, its depth, and whether it recommends it."""
    seen = set()
    for metric, found in task.picks.items():
        for name, pick in found.items():
            own = name in ("coverage", "paper", "compute")
            if name == "half" or pick.depth is None or (not own and name in seen):
                continue
            seen.add(name)
            yield f"{name} ({metric})" if own else name, pick.depth, pick.recommended
    yield "full finetuning", 0, True
    yield "half", task.n_layers // 2, True


def depth_table(task: TaskCells) -> list[str]:
    """Improvement and share of full finetuning's at every swept depth."""
    before = np.array(task.before)
    lines = ["| freeze | FLOP at equal steps | predicted R(k) | share at equal compute | share at equal steps |",
             "|---:|---:|---:|---:|---:|"]  # fmt: skip
    shares = {budget: _shares(before, losses_by_depth(task, budget)) for budget in BUDGETS}
    price = {cell.freeze_depth: cell.relative_flop for cell in task.cells}
    for depth in sorted(price):
        coverage = task.coverage["semantic"][depth]
        cells = [_percents(shares[budget][depth]) for budget in BUDGETS]
        told = "—" if coverage is None else f"{100 * coverage:.0f} %"
        lines.append(f"| {depth} | {100 * price[depth]:.0f} % | {told} | {cells[0]} | {cells[1]} |")
    return lines


def regret_rows(tasks: list[TaskCells], budget: Budget) -> dict[str, dict[str, tuple[Interval, Interval, str]]]:
    """Regret, regret less half's, and the pick in words, by rule and task."""
    rows: dict[str, dict[str, tuple[Interval, Interval, str]]] = {}
    for task in tasks:
        before, losses = np.array(task.before), losses_by_depth(task, budget)
        gained = {depth: float((before - after).mean()) for depth, after in losses.items()}
        best = losses[max(gained, key=gained.__getitem__)]
        draws = draw(*best.shape)
        half, _ = at_depth(losses, task.n_layers // 2)
        for name, depth, recommended in picks(task):
            chosen, measured = at_depth(losses, depth)
            told = f"{'' if measured else '~'}{depth}{'' if recommended else ' (abstains)'}"
            own, beyond = regret(before, best, chosen, draws), regret_beyond(before, best, chosen, half, draws)
            rows.setdefault(name, {})[task.task] = (own, beyond, told)
    return rows


def regret_table(tasks: list[TaskCells], budget: Budget) -> list[str]:
    """Each rule's mean regret over tasks, its difference to half's, and every task's."""
    names = [task.task for task in tasks]
    lines = [
        f"| rule or score | mean regret | less half's | {' | '.join(names)} |",
        "|---|---:|---:|" + "---|" * len(names),
    ]
    rows = regret_rows(tasks, budget)
    order = sorted(rows, key=lambda name: float(np.mean([own.estimate for own, _, _ in rows[name].values()])))
    for name in order:
        found = rows[name]
        if len(found) < len(tasks):
            continue
        own = _mean([found[task][0] for task in names])
        beyond = _mean([found[task][1] for task in names])
        cells = [f"{found[t][2]}: {100 * found[t][0].estimate:.1f} %" for t in names]
        lines.append(f"| {name} | {100 * own.estimate:.1f} % | {_percents(beyond, 1)} | {' | '.join(cells)} |")
    return lines


def calibration_lines(tasks: list[TaskCells]) -> list[str]:
    """Predicted R(k) less the measured share, over depths above 0 and tasks."""
    lines = []
    for metric in ("semantic", "logit_z"):
        for budget in BUDGETS:
            errors = []
            for task in tasks:
                shares = _shares(np.array(task.before), losses_by_depth(task, budget))
                for depth, share in shares.items():
                    coverage = task.coverage[metric][depth]
                    if depth and coverage is not None and np.isfinite(share.estimate):
                        errors.append(coverage - share.estimate)
            if errors:
                lines.append(
                    f"- {metric} at equal {budget}: R(k) is {100 * np.mean(errors):+.0f} points off on the average, "
                    f"standard deviation {100 * np.std(errors, ddof=1):.0f} points (n = {len(errors)} depths)."
                )
    return lines


def report(tasks: list[TaskCells]) -> str:
    """The whole document."""
    ran, asked = sum(len(t.cells) for t in tasks), sum(t.n_cells_asked for t in tasks)
    one = tasks[0].settings
    lines = [
        "# Evidence: is the recommendation any good?",
        "",
        f"Made by `python -m tests.benchmarks.evidence_report` from {ran} of {asked} cells (task x depth x seed) that "
        f"`python -m tests.benchmarks.evidence` trained: model {one.model}, {one.steps} steps at equal steps, and as "
        f"many as full finetuning's FLOP buy, cache pass included, at equal compute; {one.n_eval} eval items; learning "
        "rates by kind of arm from learning_rates.md. Intervals are 95 %, paired over items and seeds; those of a mean "
        "over tasks take the tasks as given.",
        "",
    ]
    for task in tasks:
        seeds = len(next(iter(losses_by_depth(task, "steps").values())))
        said = ", ".join(f"{metric}: {verdict}" for metric, verdict in task.verdicts.items())
        control = ", ".join(f"{metric}: {verdict}" for metric, verdict in task.shuffled.items()) or "not read"
        lines += [
            f"## {task.task}: {task.about}",
            "",
            f"{len(task.cells)} of {task.n_cells_asked} cells, {seeds} whole {'seed' if seeds == 1 else 'seeds'}; "
            f"{task.settings.batch_size} examples a step; loss before {np.mean(task.before):.2f} nats. Read: "
            f"{said}; with completions shuffled between rows, "
            f"{control}.",
            "",
            *depth_table(task),
            "",
        ]
    for budget in BUDGETS:
        lines += [f"## Regret at equal {budget}", "", "What the best swept depth gained more, over its gain.", ""]
        lines += [*regret_table(tasks, budget), ""]
    lines += ["## Pilots", "", *pilot_rows(tasks, losses_by_depth, at_depth), ""]
    lines += ["## Calibration of the predicted share", "", *calibration_lines(tasks), ""]
    return "\n".join(lines)


def _shares(before: Floats, losses: dict[int, Floats]) -> dict[int, Interval]:
    draws = draw(*losses[0].shape)
    return {depth: improvement_kept(before, losses[0], after, draws) for depth, after in losses.items()}


def _mean(found: list[Interval]) -> Interval:
    """Mean of independent estimates, their half widths added in squares."""
    half = np.sqrt(np.sum([((f.high - f.low) / 2) ** 2 for f in found])) / len(found)
    middle = float(np.mean([f.estimate for f in found]))
    return Interval(middle, middle - half, middle + half)


def _percents(found: Interval, digits: int = 0) -> str:
    if not np.isfinite(found.estimate):
        return "—"
    return f"{100 * found.estimate:.{digits}f} % [{100 * found.low:.{digits}f}, {100 * found.high:.{digits}f}]"


if __name__ == "__main__":
    write_atomically(PLACE, report(read_all()))
    print(PLACE.read_text())
