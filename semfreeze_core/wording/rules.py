"""What every rule and layer score recommends, side by side, and for groups of examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from semfreeze_core.records.defaults import MIN_SLICE, PICK_PERCENTILES
from semfreeze_core.wording.costs import setup_line
from semfreeze_core.wording.numbers import CI, counted, interval, interval_with_ci, percent
from semfreeze_core.wording.plan import no_recommendation
from semfreeze_core.wording.tables import Column, Table, table

if TYPE_CHECKING:
    from semfreeze_core.plan.depth_spread import DepthSpread
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


def chosen_examples_sentence(chosen: Slice | None, n: int, depth: int) -> str:
    """Whether a depth fits examples that somebody chose.

    Args:
        chosen: their group; None where they are too few.
        n: how many they are.
        depth: k.
    """
    if chosen is None:
        return f"{counted(n, 'example')} selected: too few to be analyzed on their own, which takes {MIN_SLICE}."
    low, high = chosen.pick
    relation = "deeper" if chosen.contradicts(depth) else "no deeper"
    depths = f"{low}" if low == high else f"{low} to {high}"
    return f"Depth {depth} is {relation} than the coverage rule selects for the {n:,} selected examples: {depths}."


def left_out_groups(n: int) -> str:
    """How many groups are not shown, or nothing."""
    return f"{n} more groups are too small or too many to analyze on their own." if n else ""


def depth_spread_sentence(spread: DepthSpread | None) -> str:
    """Whether one depth fits all examples by the paper rule, and what their spread rests on."""
    if spread is None:
        return "Depths per example: the paper rule has no layer left to search in this model."
    depths = f"depth {spread.low}" if spread.low == spread.high else f"depths {spread.low} to {spread.high}"
    finding = f"by the paper rule, {percent(spread.share)} of {counted(len(spread.depths), 'example')} pick {depths}."
    if spread.verdict == "one depth fits":
        return f"One depth fits: {finding}"
    if spread.verdict == "examples differ":
        return f"Examples differ: {finding} {_at_different_tokens(spread, 'agree')}"
    finding = f"The spread of picks may be noise: {finding}"
    if (why := repeatability_reason(spread)) is None:
        return f"{finding} {_at_different_tokens(spread, 'do not agree significantly')}"
    return f"{finding} Noise cannot be separated from differences between examples: {why}."


def repeatability_reason(spread: DepthSpread) -> str | None:
    """Why it is not known whether examples repeat their pick; None where it is."""
    if math.isfinite(spread.repeatability.estimate):
        return None
    if spread.n_pairs < MIN_SLICE:
        return f"{spread.n_pairs} of at least {MIN_SLICE} examples have more than one target token"
    return "all first target tokens, or all later ones, pick the same depth"


def _at_different_tokens(spread: DepthSpread, agree: str) -> str:
    return (
        f"Over {counted(spread.n_pairs, 'example')}, the picks at the first target token and at the later ones "
        f"{agree}: rank correlation {interval_with_ci(spread.repeatability, 2)}."
    )


def depth_counts_sentence(spread: DepthSpread) -> str:
    """How many examples pick each depth, for those that any example picks."""
    counts = [f"{depth}: {count:,}" for depth, count in enumerate(spread.counts) if count]
    return f"Examples per depth: {', '.join(counts)}."
