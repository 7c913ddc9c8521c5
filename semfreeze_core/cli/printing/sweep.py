"""A sweep as a report for the terminal: the best depth first, then every depth, then what each rule would have cost."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semfreeze_core.records.sweep import Bounds, RuleRegret, SweepDepth, SweepReport
from semfreeze_core.records.validation import Budget
from semfreeze_core.wording.numbers import percent

_BUDGETS: tuple[Budget, ...] = ("compute", "steps")


def print_sweep(report: SweepReport, out: Console) -> None:
    """What was best at either budget, the depths, and the rules' regrets against freezing half."""
    settings = report.settings
    if report.reason:
        out.print(f"[yellow]{escape(report.reason)}[/]")
    for budget in _BUDGETS:
        best = report.best_depth.get(budget)
        if best is not None:
            out.print(f"At equal {budget} freezing [bold]{best}[/] of {report.n_layers} layers gained most.")
    if not report.finished:
        out.print("[yellow]Not finished:[/] the same command goes on where it ended.")
    for warning in report.warnings:
        out.print(f"  [yellow]warning:[/] {escape(warning)}")
    out.print(
        f"{settings.n_train} training examples of {escape(settings.train)}, {report.n_items} eval items; "
        f"{settings.steps} steps of {settings.batch_size}, {len(settings.seeds)} seeds; loss before "
        f"{report.loss_before:.3f} nats a token"
    )
    out.print()
    out.print(_depths(report.depths))
    out.print(
        "Share: of full finetuning's improvement, with 95 % intervals over items and seeds. Stopped: both where "
        "their own loss is lowest."
    )
    out.print()
    out.print(_rules(report.rules))
    out.print(
        "Regret: what the best swept depth gained more, over its gain. Beyond half: that less freezing half's regret; "
        "below 0 the rule is better."
    )


def _depths(depths: list[SweepDepth]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    stopped = any(depth.share_stopped is not None for depth in depths)
    for heading in (
        "freeze",
        "FLOP of full",
        "predicted R(k)",
        "gain at equal compute",
        "share",
        "at equal steps",
        "share",
        *(["share stopped"] if stopped else []),
    ):
        table.add_column(heading, justify="right")
    for depth in sorted(depths, key=lambda found: found.freeze_depth):
        cells = [str(depth.freeze_depth), percent(depth.relative_flop), _two(depth.gain_coverage)]
        for budget in _BUDGETS:
            cells.append(_with(depth.improvement[budget], depth.interval[budget], 3))
            cells.append(_share(depth.share[budget], depth.share_interval[budget]))
        cells += [_share(depth.share_stopped, depth.share_stopped_interval)] if stopped else []
        table.add_row(*cells)
    return table


def _rules(rules: dict[str, RuleRegret]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    table.add_column("rule or score")
    for heading in ("picks", "regret, compute", "beyond half", "regret, steps", "beyond half"):
        table.add_column(heading, justify="right")
    for name, rule in rules.items():
        pick = "none" if rule.freeze_depth is None else str(rule.freeze_depth)
        cells = [name.replace("_", " "), pick + (" (abstains)" if rule.recommendation == "abstain" else "")]
        for budget in _BUDGETS:
            cells.append(_share(rule.regret.get(budget), rule.regret_interval.get(budget)))
            cells.append(_share(rule.beyond_half.get(budget), rule.beyond_half_interval.get(budget)))
        table.add_row(*cells)
    return table


def _two(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def _with(value: float | None, ends: Bounds | None, digits: int) -> str:
    if value is None:
        return "—"
    return f"{value:.{digits}f}" + ("" if ends is None else f" [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]")


def _share(value: float | None, ends: Bounds | None) -> str:
    if value is None:
        return "—"
    return f"{100 * value:.0f} %" + ("" if ends is None else f" [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]")
