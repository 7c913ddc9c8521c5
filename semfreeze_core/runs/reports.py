"""What real finetunes told, kept in a run's folder: validations, sweeps and pilots, one folder each."""

from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from semfreeze_core.errors import RunError
from semfreeze_core.records.pilots import MEASUREMENT, MEASUREMENT_SCHEMA_VERSION, Measurement
from semfreeze_core.records.sweep import SWEEP, SWEEP_SCHEMA_VERSION, SweepReport
from semfreeze_core.records.validation import LIVE, REPORT, VALIDATION_SCHEMA_VERSION, LiveArm, ValidationReport
from semfreeze_core.runs.folder import PILOTS, SWEEPS, VALIDATIONS

_Report = TypeVar("_Report", ValidationReport, SweepReport, Measurement)


def list_validations(run_folder: Path) -> dict[str, ValidationReport]:
    """Every validation of a run by its folder's name; one that has no report yet is left out.

    Raises:
        RunError: a report is damaged or of a newer semfreeze.
    """
    return {folder.name: read_validation(folder) for folder in _kept(run_folder / VALIDATIONS, REPORT)}


def read_validation(folder: Path) -> ValidationReport:
    """The report in a validation's folder.

    Raises:
        RunError: there is none, or it is damaged or of a newer semfreeze.
    """
    again = "The same `semfreeze validate` with --overwrite makes it again."
    return _read(ValidationReport, folder, REPORT, "validation report", VALIDATION_SCHEMA_VERSION, again)


def read_live(folder: Path) -> list[LiveArm]:
    """Arms of a validation that are training, or were when its process was ended, as they last were.

    A file that is no arm is left out: it is drawn and decides nothing.
    """
    found = []
    for path in sorted((folder / "runs").glob(f"*{LIVE}")):
        with suppress(OSError, ValidationError):  # finished and gone since, or of another version
            found.append(LiveArm.model_validate_json(path.read_text(encoding="utf-8")))
    return found


def list_sweeps(run_folder: Path) -> dict[str, SweepReport]:
    """Every sweep of a run by its folder's name; one that has not ended is left out.

    Raises:
        RunError: a report is damaged or of a newer semfreeze.
    """
    return {folder.name: read_sweep(folder) for folder in _kept(run_folder / SWEEPS, SWEEP)}


def read_sweep(folder: Path) -> SweepReport:
    """The report in a sweep's folder.

    Raises:
        RunError: there is none, or it is damaged or of a newer semfreeze.
    """
    again = "The same `semfreeze sweep` with --overwrite makes it again."
    return _read(SweepReport, folder, SWEEP, "sweep", SWEEP_SCHEMA_VERSION, again)


def list_measurements(run_folder: Path) -> dict[str, Measurement]:
    """What pilots of a run decided, by folder's name; those that have not decided yet are left out.

    Raises:
        RunError: one is damaged or of a newer semfreeze.
    """
    return {folder.name: read_measurement(folder) for folder in _kept(run_folder / PILOTS, MEASUREMENT)}


def read_measurement(folder: Path) -> Measurement:
    """The measurement in a folder of pilots.

    Raises:
        RunError: there is none, or it is damaged or of a newer semfreeze.
    """
    again = "The same command makes it again."
    return _read(Measurement, folder, MEASUREMENT, "measurement", MEASUREMENT_SCHEMA_VERSION, again)


def _kept(place: Path, file: str) -> list[Path]:
    return sorted(path.parent for path in place.glob(f"*/{file}"))


def _read(kind: type[_Report], folder: Path, file: str, called: str, newest: int, again: str) -> _Report:
    path = folder / file
    try:
        report = kind.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{folder} holds no {called}: {error.strerror}.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged, or of another version of semfreeze. {again}") from error
    if report.schema_version > newest:
        raise RunError(f"{path} was written by a newer semfreeze (schema {report.schema_version}): update semfreeze.")
    return report
