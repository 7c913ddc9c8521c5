"""What the finetunes at searched rates say, on those that there are.

`python -m tests.benchmarks.searched_report` reads tests/benchmarks/results/searched/*.json and writes
tests/benchmarks/searched_results.md.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from scipy.stats import spearmanr

from semfreeze_core.gains.task_checks import loss_variation
from semfreeze_core.records.defaults import MARGIN
from semfreeze_core.storage import write_atomically
from tests.benchmarks.evidence_regret import percents
from tests.benchmarks.searched_cells import Task, read_all
from tests.benchmarks.searched_replay import (
    CHECKS,
    RUN_STEPS,
    Check,
    Pick,
    best_threshold,
    half,
    is_safe,
    quarter,
    race,
    rules,
    two_thirds,
)

REPORT_PATH = Path(__file__).parent / "searched_results.md"
FEW_TASKS = 4  # with fewer, no rank correlation and no threshold


def report(tasks: Sequence[Task]) -> str:
    """The whole document."""
    one = tasks[0].settings
    lines = [
        "# Variants, each at its own learning rate: results",
        "",
        f"Made by `python -m tests.benchmarks.searched_report` from {sum(len(t.cells) for t in tasks)} finetunes of "
        f"{len(tasks)} tasks: {one.setup.steps} steps of {one.setup.batch_size} examples, {len(one.seeds)} seed, "
        f"at most {one.setup.sequence_length} tokens an example. Intervals are 95 %, over eval items; one seed says "
        "nothing about the order of the examples. What was expected before: searched_evidence.md.",
        "",
        "## What each variant keeps of full finetuning's loss reduction",
        "",
        "At the same steps; then where full finetuning has taken the same FLOPs, the search of rates left out.",
        "",
        *kept_table(tasks),
        "",
        "## Learning rates, and what searching them took",
        "",
        "FLOPs of each search over those of the variant's own steps.",
        "",
        *rates_table(tasks),
        "",
        "## What the race would have taken",
        "",
        "A race of half against a quarter, as `semfreeze finetune` makes it: rates are compared on the training's own "
        "batches, the deeper variant's first. Replayed on the trials above; a trial that was not made counts as "
        f"stopped half-way. Price: losing rates and steps, and evaluations, over {RUN_STEPS} steps of full finetuning.",
        "",
        *race_table(tasks),
        "",
        "## Rules",
        "",
        "Regret is what a choice lacks of the best variant's loss reduction, over it, at the same steps. FLOPs are "
        f"over those of {RUN_STEPS} steps of full finetuning at a known rate; every rule's hold the price of finding "
        "the variant and its rate, by the same search.",
        "",
        *rules_table(tasks),
        "",
        "## Free checks",
        "",
        *checks_table(tasks),
        "",
    ]
    return "\n".join(lines)


def kept_table(tasks: Sequence[Task]) -> list[str]:
    """A row a task and variant."""
    lines = [
        "| task | variant | freezes | FLOPs | at the same steps | at the same FLOPs | items |",
        "|---|---|" + "---:|" * 5,
    ]
    for task in tasks:
        for name in task.variants:
            cell = task.cell(name)
            if cell is None or name == "full":
                continue
            lines.append(
                f"| {task.task} | {name} | {cell.freeze_depth} | {100 * cell.relative_flop:.0f} % | "
                f"{percents(task.kept_at_steps(name))} | {percents(task.kept_at_compute(name))} | {len(task.before)} |"
            )
        for cell in task.cells:
            if cell.status != "done":
                lines.append(f"| {task.task} | {cell.variant} | {cell.freeze_depth} | failed: {cell.reason} | | | |")
    return lines


def rates_table(tasks: Sequence[Task]) -> list[str]:
    """A row a task: each variant's rate, those tried, and the price."""
    names = list(dict.fromkeys(name for task in tasks for name in task.variants))
    lines = [f"| task | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for task in tasks:
        row = []
        for name in names:
            cell = task.cell(name)
            if cell is None or cell.search is None:
                row.append("—")
                continue
            tried = ", ".join(f"{trial.rate:g}" for trial in sorted(cell.search.trials, key=lambda t: t.rate))
            price = cell.search.spent_flop / cell.readings[-1].flop
            edge = ", at an edge" if cell.search.at_edge else ""
            row.append(f"{cell.rate:g} of {tried} ({100 * price:.0f} %{edge})")
        lines.append(f"| {task.task} | {' | '.join(row)} |")
    return lines


def race_table(tasks: Sequence[Task]) -> list[str]:
    """A row a task: what the race takes, what half and a quarter keep in the end."""
    lines = ["| task | race takes | price | half keeps | a quarter keeps |", "|---|---|" + "---:|" * 3]
    for task in tasks:
        if (taken := race(task)) is not None:
            ends = " | ".join(percents(task.kept_at_steps(name)) for name in (half(task), quarter(task)))
            lines.append(f"| {task.task} | {taken.variant} | {100 * taken.price:.0f} % | {ends} |")
    return lines


def rules_table(tasks: Sequence[Task]) -> list[str]:
    """A row a rule: mean and largest regret, mean FLOPs, and on how many tasks."""
    lines = ["| rule | mean regret | largest | FLOPs | tasks |", "|---|" + "---:|" * 4]
    for name, rule in rules(tasks):
        if "threshold" in name and len(tasks) < FEW_TASKS:
            continue
        variants = [(task, taken) for task in tasks if (taken := rule(task)) is not None]
        if not variants:
            continue
        regrets = {task.task: task.regret(taken.variant).estimate for task, taken in variants}
        flop = [_relative_flop(task, taken.variant) + taken.price for task, taken in variants]
        worst = max(regrets, key=regrets.__getitem__)
        lines.append(
            f"| {name} | {100 * mean(regrets.values()):.1f} % | {100 * regrets[worst]:.1f} % ({worst}) | "
            f"{100 * mean(flop):.0f} % | {len(variants)} |"
        )
    return lines


def checks_table(tasks: Sequence[Task]) -> list[str]:
    """A row a task: its checks beside what half and two thirds keep; then how well they order the tasks."""
    deep: dict[str, Pick] = {"half": half, "two thirds": two_thirds}
    checks: dict[str, Check] = {
        **CHECKS,
        "spread of losses": lambda task: loss_variation(np.array(task.before)),
        "answer tag": lambda task: task.checks.answer_tag_share,
    }
    keeps = " | ".join(f"{name} keeps" for name in deep)
    lines = [f"| task | {' | '.join(checks)} | {keeps} |", "|---|" + "---:|" * (len(checks) + len(deep))]
    for task in tasks:
        values = ("—" if (value := check(task)) is None else f"{value:.2f}" for check in checks.values())
        shares = (percents(task.kept_at_steps(at(task))) if task.cell(at(task)) else "—" for at in deep.values())
        lines.append(f"| {task.task} | {' | '.join([*values, *shares])} |")
    if len(tasks) < FEW_TASKS:
        return lines
    lines += ["", "Rank correlation (Spearman) with what a variant keeps:", ""]
    for name, check in checks.items():
        for deep_name, at in deep.items():
            lines += _correlation(tasks, f"{name}, {deep_name}", check, at)
    lines += ["", f"Thresholds: a variant is right where it keeps {100 * (1 - MARGIN):.0f} %, else a quarter is.", ""]
    lines += [
        _threshold(tasks, f"{name}, {deep_name}", CHECKS[name], at) for name in CHECKS for deep_name, at in deep.items()
    ]
    return lines


def _correlation(tasks: Sequence[Task], name: str, check: Check, deep: Pick) -> list[str]:
    pairs = [
        (value, task.kept_at_steps(deep(task)).estimate)
        for task in tasks
        if task.cell(deep(task)) and (value := check(task)) is not None
    ]
    if len(pairs) < FEW_TASKS or any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return []
    rank = spearmanr(*zip(*pairs, strict=True))
    return [f"- {name}: {rank.statistic:.2f} (n = {len(pairs)}, p = {rank.pvalue:.2f})"]


def _threshold(tasks: Sequence[Task], name: str, check: Check, deep: Pick) -> str:
    """The threshold that is best on all tasks, and the tasks about which that of the others is wrong."""
    known = [task for task in tasks if task.cell(deep(task))]
    wrong = [
        task.task
        for task in known
        if is_safe(task, deep)
        != ((check(task) or 0.0) >= best_threshold([t for t in known if t is not task], check, deep))
    ]
    return (
        f"- {name}: best on all {best_threshold(known, check, deep):.2f}; that of the other tasks is wrong about "
        f"{len(wrong)} of {len(known)} ({', '.join(wrong) or 'none'})"
    )


def _relative_flop(task: Task, variant: str) -> float:
    cell = task.cell(variant)
    assert cell is not None
    return cell.relative_flop


if __name__ == "__main__":
    write_atomically(REPORT_PATH, report(read_all()))
    print(REPORT_PATH.read_text())
