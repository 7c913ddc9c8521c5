"""Runs compared, as text: the recommended depths together, one table, and where curves differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from semfreeze_core.wording.numbers import CI, interval, percent, signed
from semfreeze_core.wording.runs import evidence_check
from semfreeze_core.wording.tables import Column, Table, table
from semfreeze_core.wording.validation import short_verdicts

if TYPE_CHECKING:
    from semfreeze_core.gains.difference import Difference
    from semfreeze_core.plan.compare import Quantity, RunColumn, SideBySide
    from semfreeze_core.records.validation import ValidationReport

COST_NOTE = (
    "Compute and memory: estimated shares of full finetuning's in the same number of steps, at the recommended depth; "
    "three epochs over each run's own data."
)
BAND_NOTE = f"The {CI} bands hold at all depths at once (bootstrap over examples)."
_AGREE_WITHIN = 0.1  # of the layers
_QUANTITIES: dict[Quantity, str] = {"gain coverage": "coverage R(k)", "advantage": "lift over random labels"}


def quantity_name(quantity: Quantity) -> str:
    """A compared curve's name as it is shown."""
    return _QUANTITIES[quantity]


def depths_sentence(compared: SideBySide) -> str:
    """What the plans of the runs recommend, and whether one depth fits all."""
    depths = ", ".join(f"{_depth(column)} ({column.name})" for column in compared.columns)
    known = [column.relative_depth for column in compared.columns if column.relative_depth is not None]
    if len(known) < 2:
        end = "Fewer than two runs recommend a depth, so there is nothing to compare."
    elif max(known) - min(known) <= _AGREE_WITHIN:
        end = f"The recommendations agree within {percent(_AGREE_WITHIN)} of the layers."
    else:
        end = (
            f"They range from {percent(min(known))} to {percent(max(known))} of the layers: one depth does not fit all."
        )
    return f"Recommended frozen layers: {depths}. {end}"


def _depth(column: RunColumn) -> str:
    depth = column.opinion.freeze_depth
    return "no recommendation" if depth is None else f"{depth} of {column.curve.n_layers}"


def comparison_table(compared: SideBySide, validations: Mapping[str, Mapping[str, ValidationReport]]) -> Table:
    """One row per run: model and data, the evidence check, the recommended depth, its cost, and what finetunes showed.

    Args:
        compared: the runs.
        validations: of every run that has some, by its name.
    """
    rows = []
    for column in compared.columns:
        manifest, opinion, cost = column.run.manifest, column.opinion, column.opinion.cost
        rows.append(
            (
                column.name,
                "none" if opinion.freeze_depth is None else str(opinion.freeze_depth),
                interval(opinion.gain_coverage, 2),
                "" if cost is None else percent(cost.relative_flop),
                "" if cost is None else percent(cost.relative_bytes),
                "; ".join(map(short_verdicts, validations.get(column.name, {}).values())) or "not yet",
                evidence_check(column.curve.evidence.verdict).removeprefix("Evidence check: "),
                str(column.curve.n_layers),
                f"{column.curve.n_examples:,}",
                manifest.model.identity.source,
                manifest.data.source,
            )
        )
    titles = ("run", "frozen layers", f"R(k), {CI}", "compute", "memory", "validated", "evidence check", "layers")
    return table([Column(title, text=True) for title in (*titles, "examples", "model", "data")], rows)


def difference_sentence(name: str, first: str, quantity: Quantity, difference: Difference) -> str:
    """Where one run's curve differs significantly from the first's, and by how much at most."""
    curve = quantity_name(quantity)
    largest = difference.largest
    if largest is None:
        return f"No depth has both curves of {curve} ({name} and {first})."
    basis = "same examples, paired" if difference.paired else "different examples"
    compared = f"{curve[0].upper()}{curve[1:]} of {name} minus that of {first} ({basis})"
    if not difference.surely:
        return f"{compared}: no significant difference at any depth; the largest is {_signed(difference, largest)}."
    where = ", ".join(_stretch(*ends) for ends in difference.surely)
    at = _largest_significant(difference)
    return (
        f"{compared}: significantly different at {where} of the depth, most at {percent(float(difference.depth[at]))}: "
        f"{_signed(difference, at)}."
    )


def _largest_significant(difference: Difference) -> int:
    band = difference.band
    significant = (band.low > 0) | (band.high < 0)
    return max((i for i, beyond in enumerate(significant) if beyond), key=lambda i: abs(float(band.mean[i])))


def _stretch(start: float, end: float) -> str:
    return percent(start) if start == end else f"{percent(start).removesuffix('%')}–{percent(end)}"


def _signed(difference: Difference, at: int) -> str:
    mean, low, high = (float(part[at]) for part in (difference.band.mean, difference.band.low, difference.band.high))
    return f"{signed(mean)} ({CI} {signed(low)} to {signed(high)})"
