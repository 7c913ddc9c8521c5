"""What finetunes of a run have shown; read each time, as they come without the run changing."""

from contextlib import suppress
from pathlib import Path

import streamlit as st

from semfreeze_core.errors import RunError
from semfreeze_core.plan.badge import evidence_badge
from semfreeze_core.plan.document import Badge
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.records.prediction_error import CalibrationReport
from semfreeze_core.records.sweep import SweepReport
from semfreeze_core.records.validation import LiveArm, ValidationReport
from semfreeze_core.runs.calibration import bundled_calibration, read_calibration
from semfreeze_core.runs.finetunes import GuidedFinetune, list_finetunes
from semfreeze_core.runs.folder import VALIDATIONS
from semfreeze_core.runs.reports import list_measurements, list_sweeps, list_validations, read_live

from .run_folder import OpenRun, RunCatalog


def named_validations(catalog: RunCatalog, name: str) -> dict[str, ValidationReport]:
    """The validations of a run, the newest last; none where they cannot be read, which the run's own page tells."""
    try:
        return _newest_last(list_validations(catalog.folder_of(name)))
    except RunError:
        return {}


def calibration(folder: Path) -> CalibrationReport:
    """Predicted against measured over all runs of a folder; read each time, as finetunes come at any time."""
    return read_calibration(folder)


@st.cache_data(max_entries=1, show_spinner=False)
def calibration_of_example() -> CalibrationReport:
    """Predicted against measured in the bundled run."""
    return bundled_calibration()


def validations(opened: OpenRun) -> dict[str, ValidationReport]:
    """The validations in the run's folder, the newest last; read each time, as they come without the run changing.

    Raises:
        RunError: a report is damaged or newer.
    """
    return _newest_last(list_validations(opened.folder))


def _newest_last(reports: dict[str, ValidationReport]) -> dict[str, ValidationReport]:
    return dict(sorted(reports.items(), key=lambda named: named[1].provenance.created))


def live(opened: OpenRun, validation: str) -> list[LiveArm]:
    """Arms of a validation that are training, as they are this moment."""
    return read_live(opened.folder / VALIDATIONS / validation)


def sweeps(opened: OpenRun) -> dict[str, SweepReport]:
    """The sweeps in the run's folder; read each time, likewise.

    Raises:
        RunError: a report is damaged or newer.
    """
    return list_sweeps(opened.folder)


def measurements(opened: OpenRun) -> dict[str, Measurement]:
    """What pilots of the run decided; read each time, likewise.

    Raises:
        RunError: one is damaged or newer.
    """
    return list_measurements(opened.folder)


def finetunes(opened: OpenRun) -> dict[str, GuidedFinetune]:
    """The guided finetunes in the run's folder, finished or not; read each time, likewise.

    Raises:
        RunError: a report is damaged or newer.
    """
    return list_finetunes(opened.folder)


def badge(opened: OpenRun, depth: int | None) -> Badge:
    """What a freeze depth rests on: a validation that passed, the race of a guided finetune, or an estimate."""
    reports = []
    if depth is not None:
        with suppress(RunError):  # a damaged report, which the page Prove says
            reports = [finetune.report for finetune in finetunes(opened).values()]
    raced = any(r is not None and r.freeze_depth == depth and r.badge == "checked" for r in reports)
    return evidence_badge(validations(opened), depth, checked=raced)
