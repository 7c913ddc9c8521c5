"""A sweep, printed for the terminal: the best depth first, then every depth, then each rule's regret."""

from rich.console import Console
from rich.markup import escape

from semfreeze_core.cli.printing.tables import print_table
from semfreeze_core.records.sweep import SweepReport
from semfreeze_core.wording.sweep import (
    REGRET_CAPTION,
    SWEEP_CAPTION,
    best_depth_sentences,
    regret_table,
    sweep_line,
    sweep_table,
)
from semfreeze_core.wording.validation import NOT_FINISHED


def print_sweep(report: SweepReport, out: Console) -> None:
    """What was best on either basis, the depths, and the rules' regrets compared with freezing half."""
    if report.reason:
        out.print(f"[yellow]{escape(report.reason)}[/]")
    for sentence in best_depth_sentences(report):
        out.print(f"[bold]{sentence}[/]")
    if not report.finished:
        out.print(f"[yellow]{NOT_FINISHED}[/]")
    for warning in report.warnings:
        out.print(f"  [yellow]warning:[/] {escape(warning)}")
    out.print(escape(sweep_line(report)))
    out.print()
    print_table(sweep_table(report), out)
    out.print(escape(SWEEP_CAPTION))
    out.print()
    print_table(regret_table(report), out)
    out.print(REGRET_CAPTION)
