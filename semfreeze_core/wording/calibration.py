"""Calibration as text: how far estimates were off in the finetunes so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from semfreeze_core.records.defaults import CONFIDENCE
from semfreeze_core.wording.numbers import CI, Estimate, counted, number, percent
from semfreeze_core.wording.tables import Column, Table, table

if TYPE_CHECKING:
    from semfreeze_core.records.prediction_error import Calibration, PredictedMeasured, Quantity


def calibration_sentence(calibration: Calibration) -> str:
    """How far a quantity's estimates were off in the finetunes so far."""
    error = calibration.error
    off = error.estimate or 0.0
    direction = "overestimated" if off > 0 else "underestimated"
    points = calibration.quantity.startswith("coverage")
    unit = " percentage points" if points else "%"
    quantity = _quantity_name(calibration.quantity)
    sample = f"{counted(calibration.n_finetunes, 'finetune')}, {counted(calibration.n_arms, 'variant')}"
    mean = f"{abs(100 * off):.0f}{unit}"
    if error.low is None or error.high is None or calibration.spread is None:
        return f"On average, {quantity} was {direction} by {mean} ({sample}); one finetune gives no interval."
    ends = f"{CI} {number(100 * error.low, 0)} to {number(100 * error.high, 0)}{unit}, positive is too high"
    significant = " The error is not significant." if error.low <= 0 <= error.high else ""
    return (
        f"On average, {quantity} was {direction} by {mean} ({ends}; {sample}; standard deviation "
        f"{100 * calibration.spread:.0f}{unit}).{significant}"
    )


def _quantity_name(quantity: Quantity) -> str:
    return {"FLOP": "compute", "seconds": "time"}.get(quantity, quantity.replace("equal", "the same"))


def corrected_sentence(coverage: float, calibration: Calibration, corrected: Estimate) -> str:
    """What a plan's coverage becomes by what finetunes showed.

    Args:
        coverage: R(k) of the plan, a fraction.
        calibration: of coverage.
        corrected: R(k) less its mean error, with the range that the next finetune falls into.
    """
    low, high = corrected.low, corrected.high
    ends = "" if low is None or high is None else f" (next finetune, {percent(CONFIDENCE)}: {low:.2f} to {high:.2f})"
    return (
        f"{calibration_sentence(calibration)} Corrected for that, R(k) = {coverage:.2f} becomes "
        f"{number(corrected.estimate, 2)}{ends}."
    )


BUNDLED_CALIBRATION = "The bundled example's own estimates, next to what its finetunes measured:"
CALIBRATION_CAPTION = (
    "Coverage is a fraction; memory is in bytes; time, and its estimate, are relative to full finetuning's."
)


def calibration_table(pairs: Sequence[PredictedMeasured]) -> Table:
    """One row per estimate and what was measured."""
    rows = []
    for pair in pairs:
        form = "{:.2f}" if pair.quantity.startswith(("coverage", "seconds")) else "{:.3g}"
        quantity = _quantity_name(pair.quantity)
        rows.append((pair.finetune, pair.arm, quantity, form.format(pair.predicted), form.format(pair.measured)))
    names = [Column(title, text=True) for title in ("finetune", "variant", "quantity")]
    return table([*names, Column("estimated"), Column("measured")], rows)
