"""Runs side by side as a table for the terminal: a line a run."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from semfreeze_core.plan.compare import RunColumn, SideBySide
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.wording.numbers import interval, percent


def runs_table(found: SideBySide, proofs: Mapping[str, Mapping[str, ValidationReport]]) -> Table:
    """A column a run: what was read, what the coverage rule says, what that costs, what finetunes showed."""
    table = Table(box=None, padding=(0, 1))
    table.add_column("")
    cells = [run_words(column, proofs.get(column.name, {})) for column in found.columns]
    for column in found.columns:
        table.add_column(escape(column.name), overflow="fold")
    for heading in cells[0]:
        table.add_row(heading, *(escape(words[heading]) for words in cells))
    return table


def run_words(column: RunColumn, proofs: Mapping[str, ValidationReport]) -> dict[str, str]:
    """What is told of one run, by heading."""
    manifest, opinion, curve = column.run.manifest, column.opinion, column.curve
    price = opinion.cost
    return {
        "model": manifest.model.identity.source,
        "data": manifest.data.source,
        "examples": f"{curve.n_examples:,}",
        "layers": str(curve.n_layers),
        "evidence": curve.evidence.verdict,
        "freeze": "abstains" if opinion.freeze_depth is None else str(opinion.freeze_depth),
        "R(k)": interval(opinion.gain_coverage, 2),
        "FLOP": "" if price is None else percent(price.relative_flop),
        "memory": "" if price is None else percent(price.relative_bytes),
        "validated": "; ".join(map(proof_words, proofs.values())) or "not yet",
    }


def proof_words(report: ValidationReport) -> str:
    """A validation in a few words: the depth, the verdict, and what was kept."""
    kept = report.arms["planned"].improvement_kept_compute if "planned" in report.arms else None
    share = ""
    if kept is not None and kept.estimate is not None:
        ends = "" if kept.low is None or kept.high is None else f" [{100 * kept.low:.0f}, {100 * kept.high:.0f}]"
        share = f", keeps {percent(kept.estimate)}{ends} at equal compute"
    depth = "plan" if report.freeze_depth is None else str(report.freeze_depth)
    return f"{depth} {report.verdict}{share}"
