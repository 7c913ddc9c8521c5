"""A validation, printed for the terminal: the verdicts first, then every variant and its cost."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from semfreeze_core.cli.printing.tables import print_table
from semfreeze_core.errors import IncompleteError
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.records.validation import Budget, ValidationReport
from semfreeze_core.wording.validation import (
    NOT_FINISHED,
    SAME_COMPUTE_NOTE,
    arm_cost_caption,
    arm_cost_table,
    best_checkpoint_sentence,
    depth_tested,
    failed_variants_sentence,
    finished_at,
    not_measured_sentence,
    quality_caption,
    quality_table,
    rate_lines,
    shown_verdict,
    validation_line,
    verdict_lines,
    verdict_sentence,
)

_STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def print_verdicts(name: str, report: ValidationReport, out: Console) -> None:
    """A validation in a heading and one verdict per basis of comparison."""
    heading, *_ = verdict_lines(name, report)
    out.print(escape(heading))
    for budget in report.verdicts:
        out.print(f"  {_styled(report, budget)}")


def print_measured(
    reports: Mapping[str, ValidationReport],
    depth: int | None,
    n_layers: int,
    out: Console,
    layers: str | None = None,
    switch: DepthSwitch | None = None,
) -> None:
    """What finished finetunes measured of a depth, a set of layers or a switch, or that none has."""
    here = finished_at(reports, depth, layers, switch)
    for name, report in here.items():
        print_verdicts(name, report, out)
    if not here and depth is not None:
        out.print(not_measured_sentence(reports, depth, n_layers, layers, switch))


def print_validation(report: ValidationReport, out: Console) -> None:
    """The verdicts with their numbers, the quality of every variant, and estimated beside measured cost."""
    for budget in report.verdicts:
        decides = " (decides)" if budget == report.settings.budget and len(report.verdicts) > 1 else ""
        out.print(f"{_styled(report, budget)}{decides}")
    if not report.finished:
        out.print(f"[yellow]{NOT_FINISHED}[/]")
    for warning in report.warnings:
        out.print(f"  [yellow]warning:[/] {escape(warning)}")
    out.print()
    out.print(f"Plan: {depth_tested(report)}.")
    out.print(escape(validation_line(report)))
    out.print(escape(quality_caption(report)))
    print_table(quality_table(report), out)
    for line in rate_lines(report):
        out.print(escape(line))
    if len(report.verdicts) > 1:
        out.print(SAME_COMPUTE_NOTE)
    if sentence := best_checkpoint_sentence(report):
        out.print(escape(sentence))
    print_table(arm_cost_table(report), out)
    out.print(escape(arm_cost_caption(report)))
    for name, arm in report.arms.items():
        for seed in arm.failed_seeds:
            out.print(f"  [red]failed:[/] {name}, seed {seed}: {escape(arm.reason)}")
        for note in arm.notes:
            out.print(f"  note: {name}: {escape(note)}")


def require_complete(report: ValidationReport) -> None:
    """End a command whose variants did not all train, after it has shown what the others gave.

    Raises:
        IncompleteError: naming each variant that failed, why, and what to do.
    """
    if (sentence := failed_variants_sentence(report)) is not None:
        raise IncompleteError(sentence)


def _styled(report: ValidationReport, budget: Budget) -> str:
    """A verdict's sentence as markup, its verdict in color."""
    shown = shown_verdict(report.verdicts[budget])
    sentence = escape(verdict_sentence(report, budget))
    return sentence.replace(f": {shown}.", f": [bold {_STYLES[shown]}]{shown}[/].", 1)
