"""Sweeps as text: the depths, the best of them, and the regret of each rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semfreeze_core.wording.numbers import (
    CI,
    MISSING,
    Bounded,
    counted,
    interval,
    nats,
    number,
    percent,
    percent_interval,
)
from semfreeze_core.wording.rates import learning_rate
from semfreeze_core.wording.rules import method_name
from semfreeze_core.wording.tables import Column, Table, table
from semfreeze_core.wording.validation import finetune_conditions, same

if TYPE_CHECKING:
    from semfreeze_core.records.sweep import RuleRegret, SweepDepth, SweepReport
    from semfreeze_core.records.validation import Budget


def best_depth_sentences(report: SweepReport) -> list[str]:
    """Which swept depth reduced the loss most, on each basis."""
    return [
        f"{same(budget).capitalize()}: freezing {depth} of {report.n_layers} layers reduced the loss most."
        for budget, depth in report.best_depth.items()
        if depth is not None
    ]


def sweep_line(report: SweepReport) -> str:
    """What was finetuned at every depth, on which data, and how."""
    conditions = finetune_conditions(report.settings, report.n_items, report.settings.train, "")
    return f"{conditions} Loss before training: {nats(report.loss_before)}."


def sweep_table(report: SweepReport) -> Table:
    """One row per freeze depth, and per finetune that freezes deeper at a step.

    Compute, coverage, and the loss reduction after the same compute and the same steps.
    """
    swept = [*sorted(report.depths, key=lambda one: one.freeze_depth), *report.progressive]
    stopped = any(depth.share_stopped is not None for depth in swept)
    budgets: tuple[Budget, ...] = ("compute", "steps")
    rated = any(depth.learning_rate is not None for depth in swept)
    titles = ["frozen layers", *["learning rate"] * rated, "compute, same steps", "R(k)"]
    for budget in budgets:
        titles += [f"nats, {same(budget)}", f"of full, {same(budget)}"]
    titles += ["of full, best checkpoint"] if stopped else []
    rows = []
    for depth in swept:
        row = [frozen_text(depth)]
        row += [MISSING if depth.learning_rate is None else learning_rate(depth.learning_rate)] if rated else []
        row += [percent(depth.relative_flop), number(depth.gain_coverage, 2)]
        for budget in budgets:
            row += _reduction_cells(depth, budget)
        row += [percent_interval(Bounded.of(depth.share_stopped, depth.share_stopped_interval))] if stopped else []
        rows.append(row)
    return table([Column(title) for title in titles], rows)


def frozen_text(depth: SweepDepth) -> str:
    """How many layers a swept finetune froze, and from when on."""
    switch = depth.switch
    if switch is None:
        return str(depth.freeze_depth)
    return f"{switch.wide_depth} for {counted(switch.step, 'step')}, then {switch.deep_depth}"


def _reduction_cells(depth: SweepDepth, budget: Budget) -> list[str]:
    reduction = Bounded.of(depth.improvement[budget], depth.interval[budget])
    share = Bounded.of(depth.share[budget], depth.share_interval[budget])
    return [MISSING if reduction.estimate is None else interval(reduction), percent_interval(share)]


SWEEP_CAPTION = (
    f"Loss reduction in nats per token, and in % of full finetuning's [{CI}, over examples and seeds]. Coverage R(k) "
    "does not forecast it. Best checkpoint: where each finetune's own loss was lowest."
)
REGRET_CAPTION = (
    "Regret: how much of the best depth's loss reduction a choice gives up; 0% is best. vs. half: regret minus that of "
    "freezing half of the layers; negative is better than half."
)


def regret_table(report: SweepReport) -> Table:
    """One row per rule and score, the least regret at the same compute first; the reason where there is no regret."""
    budgets: tuple[Budget, ...] = ("compute", "steps")
    columns = [Column("method", text=True), Column("selects")]
    for budget in budgets:
        columns += [Column(f"regret, {same(budget)}"), Column(f"vs. half, {same(budget)}")]

    def order(item: tuple[str, RuleRegret]) -> float:
        regret = item[1].regret.get("compute")
        return float("inf") if regret is None else regret

    rows = []
    for name, rule in sorted(report.rules.items(), key=order):
        depth = "none" if rule.freeze_depth is None else str(rule.freeze_depth)
        row = [method_name(name), depth + (" (not recommended)" if rule.recommendation == "abstain" else "")]
        for budget in budgets:
            regret = Bounded.of(rule.regret.get(budget), rule.regret_interval.get(budget))
            half = Bounded.of(rule.beyond_half.get(budget), rule.beyond_half_interval.get(budget))
            row.append(percent_interval(regret, 1) if regret.estimate is not None else rule.reason or MISSING)
            row.append(percent_interval(half, 1))
        rows.append(row)
    return table(columns, rows)
