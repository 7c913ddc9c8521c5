"""Removal of what 0.1.0, which took no locks on what it was writing, left when it was killed.

Only what is certainly of 0.1.0 and of a dead process goes. Later versions hold locks, see temporary.py.
"""

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

_RANDOM = r"[a-z0-9_]{8}"  # tempfile's
_FINETUNE = re.compile(
    rf"\.model-{_RANDOM}|\.(training_settings|training|settings|report|sweep|baseline|[\w.+-]+-seed\d+)\.json\.{_RANDOM}"
)
_RUN = re.compile(rf"\.(?P<name>.+)\.(?P<use>partial|old)-{_RANDOM}")
_SCRATCH = re.compile(rf"semfreeze-{_RANDOM}|\.prefix-weights-{_RANDOM}")
_SECONDS = 86400.0  # a run is written in seconds; younger ones may be another machine's


def is_unlocked_leftover(name: str) -> bool:
    """Whether a name in the folder of a training or validation is one that 0.1.0 gave to what it was writing there."""
    return _FINETUNE.fullmatch(name) is not None


def remove_from_claimed(folder: Path) -> None:
    """Remove leftovers from the folder of a training or validation whose lock the caller holds.

    0.1.0 held the same lock while it wrote there, so no writer lives.
    """
    for path in _matching(folder, _FINETUNE):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_abandoned(folder: Path, holds: Literal["runs", "scratch"]) -> None:
    """Remove leftovers from a folder without a lock of its own; a run that was moved aside returns to its place.

    What is younger than a day, another user's, or younger than a living Python process of this user, stays.

    Args:
        folder: of runs or cached models, or the system's for temporary files.
        holds: which of these it is; names that look like ours are others' elsewhere.
    """
    for path in _matching(folder, _RUN if holds == "runs" else _SCRATCH):
        with suppress(OSError):
            if _is_abandoned(path):
                _take_away(path)


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                folder / entry.name for entry in entries if pattern.fullmatch(entry.name) and not entry.is_symlink()
            ]
    except OSError:
        return []


def _is_abandoned(path: Path) -> bool:
    status = path.lstat()
    if not hasattr(os, "geteuid") or status.st_uid != os.geteuid() or time.time() - status.st_ctime < _SECONDS:
        return False
    return not any(_may_write(process, status) for process in psutil.process_iter() if process.pid != os.getpid())


def _may_write(process: psutil.Process, status: os.stat_result) -> bool:
    """Whether a process may have made a file: one of the file's owner that runs Python and was there before it."""
    try:
        if process.uids().effective != status.st_uid or process.create_time() > status.st_ctime:
            return False
        command = " ".join([process.exe(), *process.cmdline()])
    except psutil.AccessDenied:
        return True
    except psutil.Error:  # it has ended
        return False
    return "python" in command or "semfreeze" in command


def _take_away(path: Path) -> None:
    match = _RUN.fullmatch(path.name)
    if match is None and path.is_dir():
        path.rmdir()  # an arm's; it left nothing there, so what holds something is another's
    elif match is None:
        path.unlink()
    elif match["use"] == "partial":
        shutil.rmtree(path)
    elif [inside.name for inside in path.iterdir()] == [match["name"]]:
        if not os.path.lexists(path.parent / match["name"]):
            os.rename(path / match["name"], path.parent / match["name"])
        shutil.rmtree(path)
