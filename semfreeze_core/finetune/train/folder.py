"""The folder of a training: what is in it, and one request and one process at a time."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from semfreeze_core.errors import RunError
from semfreeze_core.finetune.arm.trainer import checkpoint_step, last_complete_checkpoint
from semfreeze_core.finetune.train.deeper import DEEPER, LOOK, LOOKS, STATES, saved_switch
from semfreeze_core.finetune.train.request import PARTS, TrainRequest, different_settings, kept_settings
from semfreeze_core.processes import from_first
from semfreeze_core.records.finetune_report import DECISION, TRAINING_RESULT
from semfreeze_core.storage import disk_errors, write_atomically
from semfreeze_core.temporary import is_temporary, remove_leftovers, require_locks
from semfreeze_core.unlocked_leftovers import is_unlocked_leftover, remove_from_claimed

CHECKPOINTS, RATES, SETTINGS = "checkpoints", "rates", "training_settings.json"
RESULT = TRAINING_RESULT
_ONLY_TO_RESUME = (CHECKPOINTS, RATES, DEEPER, STATES, LOOK, LOOKS)
RESUME_ADVICE = "Free some space and run the same command again: it resumes."


@contextmanager
def claimed(folder: Path, request: TrainRequest) -> Iterator[None]:
    """Lock the folder for this request and this process; what is refused leaves nothing there.

    Raises:
        RunError: it holds something else, is finished, or is in use.
    """
    made = not folder.exists()
    lock = folder / ".lock"
    with disk_errors(folder, saved_text=lambda: _checkpoint_sentence(folder / CHECKPOINTS), advice=RESUME_ADVICE):
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is not a folder. Choose another --out.")
        _refuse_foreign(folder)  # before the lock, which others would find there
        folder.mkdir(parents=True, exist_ok=True)
        try:
            require_locks(folder)
            with FileLock(lock, timeout=0):
                try:
                    remove_leftovers(folder)
                    remove_from_claimed(folder)
                    _refuse_foreign(folder)
                    if (folder / RESULT).exists():
                        remove_what_only_resumes(folder)  # killed in its deletion
                        raise RunError(f"{folder} holds a finished training. Choose another --out.")
                    _refuse_another(folder, request)
                    yield
                finally:
                    lock.unlink(missing_ok=True)
        except Timeout as error:
            raise RunError(f"A training is already running in {folder}.") from error
        finally:
            if made:
                with suppress(OSError):
                    folder.rmdir()  # only an empty one goes


@contextmanager
def claimed_for_all(folder: Path, request: TrainRequest) -> Iterator[None]:
    """As `claimed`, by the first of the processes that train this request.

    Raises:
        RunError: likewise, in every process.
    """
    with ExitStack() as claim:
        from_first(lambda: claim.enter_context(claimed(folder, request)))
        yield


def save_settings(folder: Path, request: TrainRequest, parts: int = 1) -> None:
    """Write what this folder trains, once nothing can be refused any more: a corrected request finds it free.

    Args:
        folder: of the training.
        request: what it trains.
        parts: of the data that take turns, which a resumed training must keep.
    """
    settings = kept_settings(request, folder) | ({} if parts == 1 else {PARTS: parts})
    write_atomically(folder / SETTINGS, json.dumps(settings, indent=1) + "\n")


def saved_parts(folder: Path, request: TrainRequest) -> int | None:
    """In how many parts the folder's training of this request takes its data; None where it has not begun."""
    try:
        document = json.loads((folder / SETTINGS).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or different_settings(document, request):
        return None
    return int(document.get(PARTS, 1))


def adopt(checkpoint: Path | None, checkpoints: Path) -> Path | None:
    """Move a checkpoint of the first steps to where the training goes on from."""
    if checkpoint is None:
        return None
    checkpoints.mkdir(exist_ok=True)
    target = checkpoints / checkpoint.name
    os.replace(checkpoint, target)
    return target


def remove_what_only_resumes(folder: Path) -> None:
    """Delete what a finished training needs no more: checkpoints, trials of rates, and what its phases kept."""
    for used in _ONLY_TO_RESUME:
        if (folder / used).is_file():
            (folder / used).unlink()
        else:
            shutil.rmtree(folder / used, ignore_errors=True)


def _checkpoint_sentence(checkpoints: Path) -> str:
    last = last_complete_checkpoint(checkpoints)
    return "No checkpoint was saved." if last is None else f"The checkpoint of step {checkpoint_step(last)} is kept."


def _refuse_foreign(folder: Path) -> None:
    if (folder / SETTINGS).exists() or not folder.exists():
        return
    left = (
        ".lock",
        DECISION,
        *(p.name for p in folder.iterdir() if is_temporary(p.name) or is_unlocked_leftover(p.name)),
    )
    if any(path.name not in left for path in folder.iterdir()):
        raise RunError(f"{folder} is not empty. Choose another --out.")


def _refuse_another(folder: Path, request: TrainRequest) -> None:
    """Refuse a folder whose settings are another request's, unless it has no checkpoint to lose."""
    begun = last_complete_checkpoint(folder / CHECKPOINTS) is not None or saved_switch(folder) is not None
    if not (folder / SETTINGS).exists() or not begun:
        return
    try:
        document = json.loads((folder / SETTINGS).read_text())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RunError(f"{folder / SETTINGS} is damaged: expected an object. Choose another --out, or remove {folder}.")
    if different := different_settings(document, request):
        raise RunError(
            f"{folder} holds another training (other settings: {', '.join(different)}). Choose another --out, or "
            "remove it."
        )
