"""Predicted against measured over all finetunes that were kept."""

from typing import Literal

from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.provenance import Document

Quantity = Literal["coverage at equal steps", "coverage at equal compute", "memory", "FLOP", "seconds"]


class PredictedMeasured(Document):
    """One prediction beside what a finetune gave: an arm of a validation or a depth of a sweep.

    Coverage is a share, memory in bytes. Seconds are those to equal steps over full finetuning's, cache pass
    included; what is predicted of them is the share of its FLOP.
    """

    quantity: Quantity
    finetune: str
    arm: str
    predicted: float
    measured: float


class Calibration(Document):
    """How far one quantity's predictions were off, each validation or sweep counted once.

    `error` is predicted less measured in points for coverage, and predicted over measured, less 1, for the others;
    `spread` its standard deviation over finetunes, null for fewer than two.
    """

    quantity: Quantity
    n_finetunes: int
    n_arms: int
    error: IntervalEntry
    spread: float | None


class CalibrationReport(Document):
    """All of it; `problems` names what could not be read."""

    kind: Literal["semfreeze calibration"] = "semfreeze calibration"
    calibrations: list[Calibration]
    pairs: list[PredictedMeasured]
    problems: list[str]
