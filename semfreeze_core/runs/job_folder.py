"""A job's folder: what its files hold, whether its process lives, and the state that follows from both."""

import os
import platform
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from semfreeze_core.errors import RunError
from semfreeze_core.records.job import JOB_SCHEMA_VERSION, JobEnd, JobProcess, JobSpec, JobState
from semfreeze_core.storage import moved_source

SPEC, PROCESS, END, CANCEL, LOG = "job.json", "process.json", "end.json", "cancel", "log"
LOCK = ".lock"  # held by the job's process as long as it lives
_GRACE_SECONDS = 1.5  # to end in order; a cancelled job is gone within three
_TAIL_BYTES = 64 * 1024
_OPTION = re.compile(r"(--[a-z-]+=)?(.*)", re.DOTALL)

_Document = TypeVar("_Document", bound=BaseModel)


def read_spec(folder: Path) -> JobSpec | None:
    """What the job does; None for a folder that is none of ours, or of a newer semfreeze.

    Its paths into the folder of runs follow that folder, which may have been moved or copied since; those beside it
    do where the files were moved or copied with it.
    """
    spec = _read(JobSpec, folder / SPEC)
    if spec is None or not 1 <= spec.schema_version <= JOB_SCHEMA_VERSION:
        return None
    runs = folder.parent.parent
    if not spec.runs or Path(spec.runs[0]).resolve() == runs.resolve():
        return spec
    now = beginnings(runs)
    moved = {before: now[min(i, len(now) - 1)] for i, before in enumerate(spec.runs)}
    command = tuple(_moved(word, moved) for word in spec.command)
    out = None if spec.out is None else _moved(spec.out, moved)
    return spec.model_copy(update={"command": command, "out": out, "runs": now})


def beginnings(runs: Path) -> tuple[str, ...]:
    """How paths into a folder of runs begin: as it was given, and where that differs, with its links followed."""
    return tuple(dict.fromkeys((str(runs.absolute()), str(runs.resolve()))))


def _moved(word: str, moved: dict[str, str]) -> str:
    """A word of a command, its path with another beginning where it has one of these; others stay as they are."""
    option, value = _OPTION.fullmatch(word).groups("")  # type: ignore[union-attr]  # matches every text
    for before, now in moved.items():
        if (path := moved_source(value, before, now)) != value:
            return option + path
    return word


def read_process(folder: Path) -> JobProcess | None:
    """The process that holds the job; None before it is there."""
    return _read(JobProcess, folder / PROCESS)


def read_end(folder: Path) -> JobEnd | None:
    """How the job ended; None while it has not, or when it was killed."""
    return _read(JobEnd, folder / END)


def _read(kind: type[_Document], path: Path) -> _Document | None:
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            return None
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def read_log(folder: Path, lines: int) -> str:
    """The last lines that the job printed, "" when it printed nothing."""
    path = folder / LOG
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def job_state(folder: Path) -> JobState:
    """The state that a job's files and its process say it is in."""
    if (end := read_end(folder)) is not None:
        return end.state
    process, alive = read_process(folder), is_alive(folder)
    if not alive and (end := read_end(folder)) is not None:
        return end.state  # it ended between the two looks
    if (folder / CANCEL).exists() and not alive:
        return "cancelled"
    if process is None or process.turn is None:
        return "queued"  # without a process, until somebody starts one
    return "running" if alive else "dead"


def is_alive(folder: Path) -> bool:
    """Whether the job's process lives.

    Another machine's processes are not seen, but its lock is: a container that was made anew, with another name, must
    not wait for ever for the jobs of the old one.
    """
    process = read_process(folder)
    if process is None:
        return False
    return _same(process) is not None if process.host == platform.node() else _is_held(folder / LOCK)


def this_process(turn: float | None = None) -> JobProcess:
    """The process that asks, as the holder of a job."""
    pid = os.getpid()
    return JobProcess(pid=pid, born=_born(pid), host=platform.node(), turn=turn)


def end_group(process: JobProcess) -> None:
    """End a job's process and all that it started: asked first, then by force. Returns when they are gone.

    Raises:
        RunError: it runs on another machine, or for another user.
    """
    if process.host != platform.node():
        raise RunError(f"This job runs on {process.host} and can be canceled only there.")
    leader = _same(process)
    if leader is None:
        return
    started = _started(leader)  # some are leaders of groups of their own
    try:
        _signal_group(leader.pid, signal.SIGTERM)
    except PermissionError as error:
        raise RunError("This job belongs to another user, and only that user can cancel it.") from error
    _wait_until_gone([leader])
    started += _started(leader)
    with suppress(PermissionError):
        _signal_group(leader.pid, signal.SIGKILL)  # those of its group that outlived it, too
    for child in started:
        with suppress(psutil.Error):
            child.kill()
    _wait_until_gone([leader, *started])


def _started(leader: psutil.Process) -> list[psutil.Process]:
    """Children, and those of the leader's group whose own parent is gone: they have to be waited for, too."""
    started = [process for process in psutil.process_iter() if _group(process) == leader.pid]
    with suppress(psutil.NoSuchProcess):
        started += leader.children(recursive=True)
    return [process for process in started if process != leader]


def _group(process: psutil.Process) -> int | None:
    with suppress(ProcessLookupError, PermissionError):
        return os.getpgid(process.pid)
    return None


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _wait_until_gone(processes: Sequence[psutil.Process]) -> None:
    until = time.monotonic() + _GRACE_SECONDS
    while any(map(_lives, processes)) and time.monotonic() < until:
        time.sleep(0.02)


def _lives(process: psutil.Process) -> bool:
    """Whether a process does anything still; a zombie waits for its parent to notice, perhaps in vain."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _same(process: JobProcess) -> psutil.Process | None:
    """The living process that is meant; None when it is gone, even if another has its number."""
    try:
        candidate = psutil.Process(process.pid)
        if abs(_born(process.pid) - process.born) < 0.5 and _lives(candidate):
            return candidate
    except psutil.Error:
        pass
    return None


def _born(pid: int) -> float:
    """When a process was started, seconds after the machine: setting the clock moves both times alike."""
    booted = psutil.boot_time()  # first: older psutil keep it for the next line
    return psutil.Process(pid).create_time() - booted


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except (Timeout, OSError):  # OSError: it may not be looked at
        return True
