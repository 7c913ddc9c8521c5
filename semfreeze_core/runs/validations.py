"""The validations kept in a run's folder, one folder each."""

from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from semfreeze_core.errors import RunError
from semfreeze_core.records.validation import VALIDATION_SCHEMA_VERSION, LiveArm, ValidationReport
from semfreeze_core.runs.folder import VALIDATIONS

REPORT = "report.json"


def list_validations(run_folder: Path) -> dict[str, ValidationReport]:
    """Every readable validation of a run, by its folder's name; one that has no report yet is left out.

    Raises:
        RunError: a report is damaged or of a newer semfreeze.
    """
    folders = sorted((run_folder / VALIDATIONS).glob(f"*/{REPORT}"))
    return {path.parent.name: read_validation(path.parent) for path in folders}


def read_live(folder: Path) -> list[LiveArm]:
    """Arms of a validation that are training, or were when its process was ended, as they last were.

    A file that is no arm is left out: it is drawn and decides nothing.
    """
    found = []
    for path in sorted((folder / "runs").glob("*.live")):
        with suppress(OSError, ValidationError):  # finished and gone since, or of another version
            found.append(LiveArm.model_validate_json(path.read_text(encoding="utf-8")))
    return found


def read_validation(folder: Path) -> ValidationReport:
    """The report in a validation's folder.

    Raises:
        RunError: there is none, or it is damaged or of a newer semfreeze.
    """
    path = folder / REPORT
    try:
        report = ValidationReport.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{folder} holds no validation report: {error.strerror}.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise RunError(
            f"{path} is damaged, or of another version of semfreeze. The same `semfreeze validate` with --overwrite "
            "makes it again."
        ) from error
    if report.schema_version > VALIDATION_SCHEMA_VERSION:
        raise RunError(f"{path} was written by a newer semfreeze (schema {report.schema_version}): update semfreeze.")
    return report
