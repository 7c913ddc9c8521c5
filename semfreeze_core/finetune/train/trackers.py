"""TensorBoard and other trackers of a training, by transformers' callbacks."""

import os
from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from semfreeze_core.errors import InputError


def reporters(names: Sequence[str], folder: Path) -> list[TrainerCallback]:
    """A callback per tracker, created before anything is loaded, so that a missing package fails at once.

    TensorBoard's files go to `folder`/logs unless TENSORBOARD_LOGGING_DIR is set: its own default is in the
    checkpoints' folder, which a finished training removes.

    Args:
        names: as Trainer's `report_to` has them.
        folder: the training's.

    Raises:
        InputError: an unknown tracker, or one whose package is not installed.
    """
    if "tensorboard" in names:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder / "logs"))
    try:
        return [callback() for callback in get_reporting_integration_callbacks(list(names))]  # type: ignore[no-untyped-call]
    except (ValueError, RuntimeError, ImportError) as error:
        raise InputError(f"--report-to {','.join(names)}: {error}") from error
