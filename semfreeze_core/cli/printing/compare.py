"""Runs compared, printed for the terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from semfreeze_core.cli.printing.tables import print_table
from semfreeze_core.plan.compare import SideBySide
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.wording.comparison import (
    BAND_NOTE,
    COST_NOTE,
    comparison_table,
    depths_sentence,
    difference_sentence,
)
from semfreeze_core.wording.tables import Column, Table, table


def print_runs_compared(
    compared: SideBySide, validations: Mapping[str, Mapping[str, ValidationReport]], out: Console
) -> None:
    """The recommended depths together, one column per run, and where curves differ."""
    out.print(f"[bold]{escape(depths_sentence(compared))}[/]")
    for warning in compared.warnings:
        out.print(f"[yellow]{escape(warning)}[/]")
    out.print()
    print_table(_turned(comparison_table(compared, validations)), out)
    first = compared.columns[0].name
    for name, quantities in compared.differences.items():
        for quantity, difference in quantities.items():
            out.print(escape(difference_sentence(name, first, quantity, difference)))
    out.print(BAND_NOTE)
    out.print(COST_NOTE)


def _turned(rows: Table) -> Table:
    """A row per heading and a column per run: runs are few, and what is shown of them is long."""
    headings = [column.title for column in rows.columns]
    columns = [Column(text, text=True) for text in (headings[0], *(row[0] for row in rows.rows))]
    cells = [[heading, *(row[i] for row in rows.rows)] for i, heading in enumerate(headings)]
    return table(columns, cells[1:])
