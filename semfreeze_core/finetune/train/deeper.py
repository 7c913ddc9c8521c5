"""What a training keeps where it freezes deeper: from there on a checkpoint holds only what is still trained."""

import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from semfreeze_core.finetune.arm.switch import deeper_checkpoint
from semfreeze_core.finetune.arm.trainer import TRAINED, last_complete_checkpoint
from semfreeze_core.records.looks import Looks
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.storage import disk_errors, write_atomically
from semfreeze_core.temporary import temporary_folder

DEEPER = "deeper"  # the folder, in that of the training
LOOK, LOOKS = "look", "looks.json"  # the short trainings of a decision whether to freeze deeper, and all decisions
_SEARCH = "search.json"
STATES = "states"  # boundary states of the layers as the first phase left them, beside it


def save_switch(checkpoint: Path, trained: Collection[str], folder: Path, search: RateSearch | None) -> None:
    """Keep a checkpoint as the second phase begins with it, and all weights that the first one trained.

    A folder that is there is complete.

    Args:
        checkpoint: of the first phase's last step.
        trained: names of the parameters that stay trained.
        folder: of the training.
        search: of the learning rate in the first phase, or None.

    Raises:
        ResourceError: the disk is full.
    """
    _save(checkpoint, lambda made: deeper_checkpoint(checkpoint, trained, made), folder, search)


def save_look(checkpoint: Path, won: Path, folder: Path, search: RateSearch | None) -> None:
    """Keep the checkpoint of a short training with the deeper freeze, which the second phase then begins with.

    Args:
        checkpoint: of the first phase, where the short training began.
        won: of the short training's last step.
        folder: of the training.
        search: of the learning rate in the first phase, or None.

    Raises:
        ResourceError: the disk is full.
    """
    _save(checkpoint, lambda made: shutil.copytree(won, made / won.name), folder, search)


def _save(checkpoint: Path, begin: Callable[[Path], object], folder: Path, search: RateSearch | None) -> None:
    with disk_errors(folder), temporary_folder(folder) as partial:
        made, wide = partial / DEEPER, partial / DEEPER / "wide"
        made.mkdir()
        begin(made)
        wide.mkdir()
        shutil.copyfile(checkpoint / TRAINED, wide / TRAINED)
        if search is not None:
            (made / _SEARCH).write_text(search.model_dump_json(indent=1) + "\n")
        os.replace(made, folder / DEEPER)


def saved_search(folder: Path) -> RateSearch | None:
    """The search of the learning rate in the first phase; None where its rate was given."""
    path = folder / DEEPER / _SEARCH
    return RateSearch.model_validate_json(path.read_text()) if path.exists() else None


def read_looks(folder: Path) -> Looks | None:
    """The decisions so far; None before the first step."""
    path = folder / LOOKS
    return Looks.model_validate_json(path.read_text()) if path.exists() else None


def write_looks(looks: Looks, folder: Path) -> None:
    """Keep the decisions."""
    write_atomically(folder / LOOKS, looks.model_dump_json(indent=1) + "\n")


def saved_switch(folder: Path) -> Path | None:
    """The checkpoint with which the second phase begins; None before the first one's end."""
    return last_complete_checkpoint(folder / DEEPER)


def wide_weights(folder: Path) -> Path:
    """Where the weights are that the first phase trained, as load_trained takes it."""
    return folder / DEEPER / "wide"
