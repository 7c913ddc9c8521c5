"""What pilots decided, kept in a run's folder, one folder each."""

from pathlib import Path

from pydantic import ValidationError

from semfreeze_core.errors import RunError
from semfreeze_core.records.measurement import MEASUREMENT_SCHEMA_VERSION, Measurement
from semfreeze_core.runs.folder import PILOTS

MEASUREMENT = "measurement.json"


def list_measurements(run_folder: Path) -> dict[str, Measurement]:
    """Every readable measurement of a run, by its folder's name; pilots that have not decided yet are left out.

    Raises:
        RunError: one is damaged or of a newer semfreeze.
    """
    folders = sorted((run_folder / PILOTS).glob(f"*/{MEASUREMENT}"))
    return {path.parent.name: read_measurement(path.parent) for path in folders}


def read_measurement(folder: Path) -> Measurement:
    """The measurement in a folder of pilots.

    Raises:
        RunError: there is none, or it is damaged or of a newer semfreeze.
    """
    path = folder / MEASUREMENT
    try:
        found = Measurement.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{folder} holds no measurement: {error.strerror}.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise RunError(
            f"{path} is damaged, or of another version of semfreeze. The same command makes it again."
        ) from error
    if found.schema_version > MEASUREMENT_SCHEMA_VERSION:
        raise RunError(f"{path} was written by a newer semfreeze (schema {found.schema_version}): update semfreeze.")
    return found
