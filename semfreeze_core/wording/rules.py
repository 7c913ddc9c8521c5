"""What every rule and layer score recommends, side by side, and for groups of examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from semfreeze_core.records.defaults import PICK_PERCENTILES
from semfreeze_core.wording.costs import setup_line
from semfreeze_core.wording.numbers import CI, interval, percent
from semfreeze_core.wording.plan import no_recommendation
from semfreeze_core.wording.tables import Column, Table, table

if TYPE_CHECKING:
    from semfreeze_core.plan.opinions import Comparison, Opinion
    from semfreeze_core.plan.slices import Slice

WHY = "why"
SOURCES = (
    "The paper rule and what each score measures are from papers. R(k) of the scores and the other rules are ours."
)


def method_name(name: str) -> str:
    """A rule's or score's name as it is shown."""
    return name.replace("_", " ")


def opinion_table(comparison: Comparison) -> Table:
    """One row per rule and layer score: the depth its formula selects, what it recommends, and that depth's cost."""
    rows = [_opinion_row("rule", name, opinion) for name, opinion in comparison.rules.items()]
    rows += [_opinion_row("score", name, opinion) for name, opinion in comparison.scores.items()]
    columns = [
        Column("method", text=True),
        Column("kind", text=True),
        Column("depth before checks"),
        Column("recommendation", text=True),
        Column(f"R(k), {CI}"),
        Column("compute"),
        Column("memory"),
        Column(WHY, text=True),
    ]
    return table(columns, rows)


def _opinion_row(kind: str, name: str, opinion: Opinion) -> tuple[str, ...]:
    cost = opinion.cost
    return (
        method_name(name),
        kind,
        "none" if opinion.candidate_depth is None else str(opinion.candidate_depth),
        "none" if opinion.freeze_depth is None else f"freeze {opinion.freeze_depth}",
        interval(opinion.gain_coverage, 2),
        "" if cost is None else percent(cost.relative_flop),
        "" if cost is None else percent(cost.relative_bytes),
        " ".join(opinion.reasons),
    )


def opinion_reasons(comparison: Comparison) -> list[str]:
    """One line per rule and layer score: why it selects its depth, and for a score what it was measured on."""
    lines = []
    for name, opinion in (*comparison.rules.items(), *comparison.scores.items()):
        sample = f" (on {opinion.sample})" if opinion.sample else ""
        lines.append(f"{method_name(name)}{sample}: {' '.join(opinion.reasons)}")
    return lines


def opinion_cost_note(comparison: Comparison) -> str:
    """What the costs in the table of opinions are shares of."""
    return (
        "Compute and memory: estimated shares of full finetuning's in the same number of steps; "
        f"{setup_line(comparison.setup)}."
    )


def recommendation_sentence(rules: Mapping[str, Opinion], rule: str, depth: int) -> str:
    """Whether a depth is the one that a rule recommends, and why."""
    opinion = rules[rule]
    reasons = " ".join(opinion.reasons)
    if opinion.freeze_depth is None:
        return f"{no_recommendation(rule, opinion.candidate_depth)} {reasons}"
    if opinion.freeze_depth == depth:
        return f"The {rule} rule recommends this depth: {reasons}"
    return f"You chose this depth; the {rule} rule recommends {opinion.freeze_depth}: {reasons}"


def slices_table(groups: Sequence[Slice], by: str, depth: int | None = None) -> Table:
    """One row per group of examples: the depth that the coverage rule's formula selects for the group alone.

    With a `depth` two more columns have its coverage in the group, and whether the group's own depths are all smaller.
    """
    rows = []
    for group in groups:
        low, high = group.pick
        candidate = group.decision.candidate_depth
        row = [group.name, f"{group.curve.n_examples:,}", "none" if candidate is None else str(candidate)]
        row.append(f"{low} to {high}")
        if depth is not None:
            row.append(interval(group.coverage_at(depth), 2))
            row.append("deeper than the rule selects" if group.contradicts(depth) else "yes")
        rows.append(row)
    titles = ["examples", "selected depth", f"{PICK_PERCENTILES[1] - PICK_PERCENTILES[0]}% range"]
    columns = [Column(by, text=True), *map(Column, titles)]
    if depth is not None:
        columns += [Column(f"R({depth}), {CI}"), Column(f"depth {depth} fits", text=True)]
    return table(columns, rows)


def slices_sentence(groups: Sequence[Slice], depth: int, left_out: int) -> str:
    """Whether one depth fits all groups."""
    if not groups:
        return "No group has enough examples to be analyzed on its own."
    deeper = [group.name for group in groups if group.contradicts(depth)]
    if not deeper:
        fits = f"Depth {depth} is no deeper than the coverage rule selects for any of {len(groups)} groups."
    else:
        fits = f"Depth {depth} does not fit all groups: the coverage rule freezes fewer layers for {', '.join(deeper)}."
    return f"{fits} {left_out_groups(left_out)}".rstrip()


def left_out_groups(n: int) -> str:
    """How many groups are not shown, or nothing."""
    return f"{n} more groups are too small or too many to analyze on their own." if n else ""
