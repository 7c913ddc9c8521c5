"""What every rule and score recommends for a run, printed for the terminal."""

from rich.console import Console
from rich.markup import escape

from semfreeze_core.cli.printing.tables import print_table
from semfreeze_core.plan.opinions import Comparison
from semfreeze_core.wording.rules import SOURCES, WHY, opinion_cost_note, opinion_reasons, opinion_table


def print_comparison(comparison: Comparison, out: Console) -> None:
    """Whether the methods agree, one line per rule and score, and why each selects its depth."""
    out.print()
    out.print(f"[bold]{escape(comparison.agreement.summary)}[/]")
    out.print()
    print_table(opinion_table(comparison).without(WHY), out)
    out.print()
    for line in opinion_reasons(comparison):
        out.print(escape(line))
    out.print()
    out.print(opinion_cost_note(comparison))
    out.print(SOURCES)
