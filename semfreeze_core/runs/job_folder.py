"""A job's folder: what its files hold, whether its process lives, and the state that follows from both."""

import os
import platform
import signal
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
from pydantic import BaseModel, ValidationError

from semfreeze_core.errors import RunError
from semfreeze_core.records.job import JobEnd, JobProcess, JobSpec, JobState

SPEC, PROCESS, END, CANCEL, LOG = "job.json", "process.json", "end.json", "cancel", "log"
_GRACE_SECONDS = 1.5  # to end in order; a cancelled job is gone within three
_TAIL_BYTES = 64 * 1024

_Document = TypeVar("_Document", bound=BaseModel)


def read_spec(folder: Path) -> JobSpec | None:
    """What the job does; None for a folder that is none of ours, or of a newer semfreeze."""
    return _read(JobSpec, folder / SPEC)


def read_process(folder: Path) -> JobProcess | None:
    """The process that holds the job; None before it is there."""
    return _read(JobProcess, folder / PROCESS)


def read_end(folder: Path) -> JobEnd | None:
    """How the job ended; None while it has not, or when it was killed."""
    return _read(JobEnd, folder / END)


def _read(kind: type[_Document], path: Path) -> _Document | None:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def read_log(folder: Path, lines: int) -> str:
    """The last lines that the job printed, "" when it printed nothing."""
    path = folder / LOG
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def job_state(folder: Path) -> JobState:
    """The state that a job's files and its process say it is in."""
    if (end := read_end(folder)) is not None:
        return end.state
    process, alive = read_process(folder), is_alive(folder)
    if (folder / CANCEL).exists() and not alive:
        return "cancelled"
    if process is None or process.turn is None:
        return "queued"  # without a process, until somebody starts one
    return "running" if alive else "dead"


def is_alive(folder: Path) -> bool:
    """Whether the job's process lives. That of another machine, whose processes are not seen, is taken to."""
    process = read_process(folder)
    if process is None:
        return False
    return process.host != platform.node() or _same(process) is not None


def this_process(turn: float | None = None) -> JobProcess:
    """The process that asks, as the holder of a job."""
    own = psutil.Process()
    return JobProcess(pid=own.pid, born=own.create_time(), host=platform.node(), turn=turn)


def end_group(process: JobProcess) -> None:
    """End a job's process and all that it started: asked first, then by force. Returns when they are gone.

    Raises:
        RunError: it runs on another machine.
    """
    if process.host != platform.node():
        raise RunError(f"This job runs on {process.host}, and can be cancelled only there.")
    leader = _same(process)
    if leader is None:
        return
    with suppress(psutil.NoSuchProcess):
        started = leader.children(recursive=True)  # some are leaders of groups of their own
        _signal_group(leader.pid, signal.SIGTERM)
        _, living = psutil.wait_procs([leader], timeout=_GRACE_SECONDS)
        if living:
            _signal_group(leader.pid, signal.SIGKILL)
        for child in started:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs([leader, *started], timeout=_GRACE_SECONDS)


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _same(process: JobProcess) -> psutil.Process | None:
    """The living process that is meant; None when it is gone, even if another has its number."""
    try:
        found = psutil.Process(process.pid)
        if abs(found.create_time() - process.born) < 1 and found.status() != psutil.STATUS_ZOMBIE:
            return found
    except psutil.NoSuchProcess:
        pass
    return None
