"""What the evidence says: every recommendation against freezing half, on the cells that there are.

`python -m tests.benchmarks.evidence_report` reads tests/benchmarks/results/evidence/*.json and writes
tests/benchmarks/evidence.md. A pick between two swept depths is given what lies between theirs, item by item, and is
marked with a tilde.
"""

from pathlib import Path

import numpy as np

from semfreeze_core.gains.noninferiority import Floats, draw, improvement, improvement_kept
from semfreeze_core.records.defaults import MIN_SEEDS
from semfreeze_core.records.gain import Interval
from semfreeze_core.records.validation import Budget
from semfreeze_core.storage import write_atomically
from tests.benchmarks.evidence_cells import TaskCells
from tests.benchmarks.evidence_pilots import pilot_rows
from tests.benchmarks.evidence_regret import EvaluationPoint, at_depth, losses_by_depth, percents, regret_table
from tests.benchmarks.evidence_settings import settings_lines

RESULTS = Path(__file__).parent / "results" / "evidence"
REPORT_PATH = Path(__file__).parent / "evidence.md"
BUDGETS: tuple[Budget, ...] = ("compute", "steps")


def read_all(folder: Path = RESULTS) -> list[TaskCells]:
    """Every task's cells, those with at least one whole seed."""
    tasks = [TaskCells.model_validate_json(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [task for task in tasks if losses_by_depth(task, "steps")]


def whole(tasks: list[TaskCells]) -> list[TaskCells]:
    """Tasks of the embedded model with seeds enough for a verdict, and no contrary case."""
    return [task for task in tasks if not task.contrary and not task.model and _seeds(task) >= MIN_SEEDS]


def counted(tasks: list[TaskCells]) -> list[TaskCells]:
    """Those that the main means are over: every example is met once at most in full finetuning's steps."""
    return [task for task in whole(tasks) if passes(task) <= 1]


def repeated(tasks: list[TaskCells]) -> list[TaskCells]:
    """Those of few examples, which finetunes pass over again and again; means over them stand apart."""
    return [task for task in whole(tasks) if passes(task) > 1]


def passes(task: TaskCells) -> float:
    """How often full finetuning meets each training example."""
    one = task.settings
    return one.steps * one.batch_size / one.n_train


def depth_table(task: TaskCells) -> list[str]:
    """Improvement and share of full finetuning's at every swept depth."""
    before = np.array(task.before)
    head = "freeze|FLOP at equal steps|predicted R(k)|nats gained at equal compute|share of full's|share at equal steps"
    places: list[EvaluationPoint] = [*BUDGETS]
    if losses_by_depth(task, "stopped"):
        head += "|share, each stopped at its lowest"
        places.append("stopped")
    lines = [f"| {' | '.join(head.split('|'))} |", "|---:" * (len(head.split("|"))) + "|"]
    shares = {point: _shares(before, losses_by_depth(task, point)) for point in places}
    price = {cell.freeze_depth: cell.relative_flop for cell in task.cells}
    for depth, after in losses_by_depth(task, "compute").items():
        coverage = task.coverage["semantic"][depth]
        gained = improvement(before, after, draw(*after.shape))
        columns = [
            f"{depth}",
            f"{100 * price[depth]:.0f} %",
            "—" if coverage is None else f"{100 * coverage:.0f} %",
            f"{gained.estimate:.3f} [{gained.low:.3f}, {gained.high:.3f}]",
            *(percents(shares[point][depth]) for point in places),
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def task_lines(task: TaskCells) -> list[str]:
    """One task: how much of it ran, what the reading said, and the depths."""
    seeds = _seeds(task)
    said = ", ".join(f"{metric}: {verdict}" for metric, verdict in task.verdicts.items())
    control = ", ".join(f"{metric}: {verdict}" for metric, verdict in task.shuffled.items()) or "not read"
    whose = f" ({task.model})" if task.model else ""
    candidates = [
        f"{metric} {pick.depth}{'' if pick.recommended else ' (abstains)'}"
        for metric, rule_picks in task.picks.items()
        for pick in [rule_picks["coverage"]]
    ]
    return [
        f"## {task.task}{whose}: {task.about}",
        "",
        f"{len(task.cells)} of {task.n_cells_asked} cells, {seeds} whole {'seed' if seeds == 1 else 'seeds'}; "
        f"{task.settings.batch_size} examples a step; loss before {np.mean(task.before):.2f} nats. Read: "
        f"{said}; with completions shuffled between rows, {control}. The coverage rule: {', '.join(candidates)}.",
        "",
        *depth_table(task),
        "",
    ]


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


def few_examples_lines(tasks: list[TaskCells]) -> list[str]:
    """Regrets where finetunes pass over few examples many times, at all three places."""
    if not tasks:
        return []
    deepest = max(max(cell.steps for cell in task.cells) * task.settings.batch_size / task.settings.n_train
                  for task in tasks)  # fmt: skip
    lines = [
        "## Few examples",
        "",
        f"{', '.join(f'{task.task} ({task.settings.n_train})' for task in tasks)}: full finetuning meets them about "
        f"{np.mean([passes(task) for task in tasks]):.0f} times each, the deepest arm at equal compute up to "
        f"{deepest:.0f} times. Stopped: every run is read where its loss is lowest, by the other half of the items.",
        "",
    ]
    places: list[EvaluationPoint] = [*BUDGETS, "stopped"]
    for point in places:
        shown = [task for task in tasks if losses_by_depth(task, point)]
        if shown:
            heading = "stopped at the lowest reading" if point == "stopped" else f"at equal {point}"
            lines += [f"Regret {heading}:", "", *regret_table(shown, point), ""]
    return lines


def report(all_tasks: list[TaskCells]) -> str:
    """The whole document."""
    tasks = counted(all_tasks)
    ran, asked = sum(len(t.cells) for t in all_tasks), sum(t.n_cells_asked for t in all_tasks)
    one = tasks[0].settings
    lines = [
        "# Evidence: is the recommendation any good?",
        "",
        "**All depths ran at one learning rate, which is too high for those that train the input side on most tasks: "
        "these cells flatter deep freezing. [Evidence](../../docs/evidence.md) says what is withdrawn.**",
        "",
        f"Made by `python -m tests.benchmarks.evidence_report` from {ran} of {asked} cells (task x depth x seed) that "
        f"`python -m tests.benchmarks.evidence` trained: model {one.model}, {one.steps} steps at equal steps, and as "
        f"many as full finetuning's FLOP buy, cache pass included, at equal compute; {one.n_eval} eval items "
        f"or all there are; the learning rate {one.learning_rates['full']:g} for every depth, full finetuning's best "
        "in learning_rates.md. Intervals are 95 %, paired over items and seeds; those of a mean "
        f"over tasks take the tasks as given. Means are over {', '.join(task.task for task in tasks)}, whose examples "
        "full finetuning meets once at most; tasks of few examples have means of their own. A contrary case, another "
        f"model, and a task of fewer than {MIN_SEEDS} seeds stand beside them and count in none.",
        "",
    ]
    for task in (*tasks, *(task for task in all_tasks if task not in tasks)):
        lines += task_lines(task)
    for budget in BUDGETS:
        lines += [f"## Regret at equal {budget}", "", "What the best swept depth gained more, over its gain.", ""]
        lines += [*regret_table(tasks, budget), ""]
        for task in all_tasks:
            if task not in whole(all_tasks) and not task.contrary:
                named = ", ".join(word for word in (task.task, task.model) if word)
                lines += [f"{named}:", "", *regret_table([task], budget), ""]
    lines += few_examples_lines(repeated(all_tasks))
    lines += [
        "## Other settings",
        "",
        "For each task, the deviation, weight w and threshold tau of the coverage rule with the least regret on all "
        "other tasks, held against the shipped ones on it.",
        "",
    ]
    for budget in BUDGETS:
        lines += [f"At equal {budget}:", "", *settings_lines(tasks, budget), ""]
    lines += ["## Pilots", "", *pilot_rows(tasks, losses_by_depth, at_depth), ""]
    lines += ["## Calibration of the predicted share", "", *calibration_lines(tasks), ""]
    return "\n".join(lines)


def _seeds(task: TaskCells) -> int:
    return len(next(iter(losses_by_depth(task, "steps").values())))


def _shares(before: Floats, losses: dict[int, Floats]) -> dict[int, Interval]:
    draws = draw(*losses[0].shape)
    return {depth: improvement_kept(before, losses[0], after, draws) for depth, after in losses.items()}


if __name__ == "__main__":
    write_atomically(REPORT_PATH, report(read_all()))
    print(REPORT_PATH.read_text())
