"""Results of finetunes, saved in a run's folder: validations, sweeps and pilots, one folder each."""

from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from semfreeze_core.errors import RunError
from semfreeze_core.plan.forecast import trained_rate
from semfreeze_core.records.pilots import MEASUREMENT, MEASUREMENT_SCHEMA_VERSION, Measurement
from semfreeze_core.records.sweep import SWEEP, SWEEP_SCHEMA_VERSION, SweepReport
from semfreeze_core.records.training import Precision
from semfreeze_core.records.validation import (
    LIVE,
    REPORT,
    VALIDATION_SCHEMA_VERSION,
    VALIDATION_SOURCES,
    LiveArm,
    ValidationReport,
)
from semfreeze_core.runs.folder import PILOTS, SWEEPS, VALIDATIONS
from semfreeze_core.storage import found_source

_Report = TypeVar("_Report", ValidationReport, SweepReport, Measurement)


def list_validations(run_folder: Path) -> dict[str, ValidationReport]:
    """Every validation of a run by its folder's name; one that has no report yet is left out.

    Raises:
        RunError: a report is damaged or of a newer semfreeze.
    """
    return {folder.name: read_validation(folder) for folder in _folders_with(run_folder / VALIDATIONS, REPORT)}


def readable_validations(run_folder: Path) -> tuple[dict[str, ValidationReport], list[str]]:
    """As list_validations, without the reports that cannot be read; of each of those the reason.

    For what shows validations beside something that does not depend on them.
    """
    reports, problems = dict[str, ValidationReport](), list[str]()
    for folder in _folders_with(run_folder / VALIDATIONS, REPORT):
        try:
            reports[folder.name] = read_validation(folder)
        except RunError as error:
            problems.append(str(error))
    return reports, problems


def finetune_rate(run_folder: Path, precision: Precision | None = None) -> float | None:
    """FLOP/s of a run's newest validation in training; None where no finetune has ended.

    Args:
        run_folder: of the run.
        precision: that the finetunes trained in; None is any.

    Raises:
        RunError: a report is damaged or of a newer semfreeze.
    """
    for report in reversed(list_validations(run_folder).values()):
        if precision in (None, report.settings.setup.precision) and (rate := trained_rate(report)) is not None:
            return rate
    return None


def read_validation(folder: Path) -> ValidationReport:
    """The report in a validation's folder.

    Raises:
        RunError: there is none, or it is damaged or of a newer semfreeze.
    """
    advice = "Rerun the same `semfreeze validate` with --overwrite."
    return _read(ValidationReport, folder, REPORT, "validation report", VALIDATION_SCHEMA_VERSION, advice)


def read_live(folder: Path) -> list[LiveArm]:
    """Arms of a validation that are training, or were when its process was ended, as they last were.

    A file that is not an arm is left out: these are only drawn.
    """
    arms = []
    for path in sorted((folder / "runs").glob(f"*{LIVE}")):
        with suppress(OSError, ValidationError, UnicodeDecodeError):  # gone since, or of another version
            if not path.is_file():  # reading a pipe would wait for ever
                continue
            arms.append(LiveArm.model_validate_json(path.read_text(encoding="utf-8")))
    return arms


def list_sweeps(run_folder: Path) -> dict[str, SweepReport]:
    """Every sweep of a run by its folder's name; one that has not ended is left out.

    Raises:
        RunError: a report is damaged or of a newer semfreeze.
    """
    return {folder.name: read_sweep(folder) for folder in _folders_with(run_folder / SWEEPS, SWEEP)}


def read_sweep(folder: Path) -> SweepReport:
    """The report in a sweep's folder.

    Raises:
        RunError: there is none, or it is damaged or of a newer semfreeze.
    """
    advice = "Rerun the same `semfreeze sweep` with --overwrite."
    return _read(SweepReport, folder, SWEEP, "sweep", SWEEP_SCHEMA_VERSION, advice)


def list_measurements(run_folder: Path) -> dict[str, Measurement]:
    """Results of a run's pilots, by folder's name; those that have not decided yet are left out.

    Raises:
        RunError: one is damaged or of a newer semfreeze.
    """
    return {folder.name: read_measurement(folder) for folder in _folders_with(run_folder / PILOTS, MEASUREMENT)}


def read_measurement(folder: Path) -> Measurement:
    """The measurement in a folder of pilots.

    Raises:
        RunError: there is none, or it is damaged or of a newer semfreeze.
    """
    advice = "Rerun the same command."
    return _read(Measurement, folder, MEASUREMENT, "measurement", MEASUREMENT_SCHEMA_VERSION, advice)


def _folders_with(parent: Path, file: str) -> list[Path]:
    return sorted(path.parent for path in parent.glob(f"*/{file}"))


def _read(kind: type[_Report], folder: Path, file: str, title: str, newest: int, advice: str) -> _Report:
    path = folder / file
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise RunError(f"{path} is not a regular file. {advice}")
    try:
        report = kind.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{folder} has no {title}: {error.strerror}.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged or from another version of semfreeze. {advice}") from error
    if report.schema_version > newest:
        raise RunError(f"{path} was written by a newer semfreeze (schema {report.schema_version}). Update semfreeze.")
    if isinstance(report, Measurement):
        return report
    sources = {name: found_source(getattr(report.settings, name), folder) for name in VALIDATION_SOURCES}
    return report.model_copy(update={"settings": report.settings.model_copy(update=sources)})
