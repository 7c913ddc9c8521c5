"""What every rule and score says of a run, as a table for the terminal."""

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semfreeze_core.plan.opinions import Comparison, Opinion
from semfreeze_core.records.gain import Interval
from semfreeze_core.wording.numbers import interval, percent, setup_words


def print_comparison(comparison: Comparison, out: Console) -> None:
    """A line for each rule and score, whether they agree, and why each says what it says."""
    out.print()
    out.print(f"[bold]{escape(comparison.agreement.summary)}[/]")
    out.print()
    out.print(_table(comparison))
    out.print()
    for name, opinion in (*comparison.rules.items(), *comparison.scores.items()):
        sample = f" (on {opinion.sample})" if opinion.sample else ""
        out.print(f"{name}{escape(sample)}: {escape(' '.join(opinion.reasons))}")
    out.print()
    out.print(f"Prices of the candidates, of full finetuning: {setup_words(comparison.setup)}")
    out.print("Rule paper, and what each score measures, are from papers; R(k) of scores and the other rules are ours.")


def _table(comparison: Comparison) -> Table:
    table = Table(box=None, padding=(0, 1))
    table.add_column("")
    for name in ("candidate", "R(k)", "FLOP", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("says")
    for title, opinions in (("rules", comparison.rules), ("scores", comparison.scores)):
        table.add_row(f"[bold]{title}[/]")
        for name, opinion in opinions.items():
            table.add_row(f"  {name}", *_cells(opinion))
    return table


def _cells(opinion: Opinion) -> tuple[str, ...]:
    price = opinion.cost
    said = f"freeze {opinion.freeze_depth}" if opinion.freeze_depth is not None else "abstains"
    return (
        "none" if opinion.candidate_depth is None else str(opinion.candidate_depth),
        _coverage(opinion.gain_coverage),
        "" if price is None else percent(price.relative_flop),
        "" if price is None else percent(price.relative_bytes),
        said,
    )


def _coverage(value: Interval) -> str:
    """With its interval where there is one."""
    return f"{value.estimate:.2f}" if math.isnan(value.low) and not math.isnan(value.estimate) else interval(value, 2)
