"""What a training keeps where it freezes deeper: from there on a checkpoint holds only what is still trained."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from semfreeze_core.finetune.arm.switch import deeper_checkpoint
from semfreeze_core.finetune.arm.trainer import TRAINED, last_complete_checkpoint
from semfreeze_core.storage import disk_errors
from semfreeze_core.temporary import temporary_folder

DEEPER = "deeper"  # the folder, in that of the training
STATES = "states"  # boundary states of the layers as the first phase left them, beside it


def save_switch(checkpoint: Path, trained: Collection[str], folder: Path) -> None:
    """Keep a checkpoint as the second phase begins with it, and all weights that the first one trained.

    A folder that is there is complete.

    Args:
        checkpoint: of the first phase's last step.
        trained: names of the parameters that stay trained.
        folder: of the training.

    Raises:
        ResourceError: the disk is full.
    """
    with disk_errors(folder), temporary_folder(folder) as partial:
        made, wide = partial / DEEPER, partial / DEEPER / "wide"
        deeper_checkpoint(checkpoint, trained, made)
        wide.mkdir()
        shutil.copyfile(checkpoint / TRAINED, wide / TRAINED)
        os.replace(made, folder / DEEPER)


def saved_switch(folder: Path) -> Path | None:
    """The checkpoint with which the second phase begins; None before the first one's end."""
    return last_complete_checkpoint(folder / DEEPER)


def wide_weights(folder: Path) -> Path:
    """Where the weights are that the first phase trained, as load_trained takes it."""
    return folder / DEEPER / "wide"
