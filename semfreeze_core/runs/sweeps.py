"""The sweeps kept in a run's folder, one folder each."""

from pathlib import Path

from pydantic import ValidationError

from semfreeze_core.errors import RunError
from semfreeze_core.records.sweep import SWEEP_SCHEMA_VERSION, SweepReport
from semfreeze_core.runs.folder import SWEEPS

SWEEP = "sweep.json"


def list_sweeps(run_folder: Path) -> dict[str, SweepReport]:
    """Every readable sweep of a run, by its folder's name; one that has no report yet is left out.

    Raises:
        RunError: a report is damaged or of a newer semfreeze.
    """
    folders = sorted((run_folder / SWEEPS).glob(f"*/{SWEEP}"))
    return {path.parent.name: read_sweep(path.parent) for path in folders}


def read_sweep(folder: Path) -> SweepReport:
    """The report in a sweep's folder.

    Raises:
        RunError: there is none, or it is damaged or of a newer semfreeze.
    """
    path = folder / SWEEP
    try:
        report = SweepReport.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{folder} holds no sweep: {error.strerror}.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise RunError(
            f"{path} is damaged, or of another version of semfreeze. The same `semfreeze sweep` with --overwrite makes "
            "it again."
        ) from error
    if report.schema_version > SWEEP_SCHEMA_VERSION:
        raise RunError(f"{path} was written by a newer semfreeze (schema {report.schema_version}): update semfreeze.")
    return report
