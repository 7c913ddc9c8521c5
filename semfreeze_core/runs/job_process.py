"""What a job's own process does beside its command: say that it is there, wait for its turn, say how it ended."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from semfreeze_core.records.job import JobEnd
from semfreeze_core.runs.job_folder import CANCEL, END, LOCK, PROCESS, SPEC, is_alive, job_state, this_process
from semfreeze_core.storage import write_atomically

_SECONDS_BETWEEN_LOOKS = 0.3
_TURNS = ".turns"  # lock under which turns are taken, one at a time
AT_ONCE_VARIABLE = "SEMFREEZE_JOBS"


def hold_job(folder: Path, work: Callable[[], int]) -> None:
    """Wait for the job's turn, do its work, and write down how it ended.

    A second process for the same job, or one for a job that has ended, ends without doing anything. Ended from outside
    while it waits, a job stays queued, for somebody to start its process anew.

    Args:
        folder: of the job.
        work: does it; returns the exit code, 0 when it went well.
    """
    try:
        held = FileLock(folder / LOCK).acquire(timeout=1)
    except Timeout:
        return
    with held:
        if (folder / END).exists():
            return
        write_atomically(folder / PROCESS, this_process().model_dump_json() + "\n")
        code, had_turn = 1, False
        try:
            while not (folder / CANCEL).exists() and not (had_turn := _take_turn(folder)):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            if had_turn:
                code = work()
        except KeyboardInterrupt:
            pass
        cancelled = (folder / CANCEL).exists()
        if had_turn or cancelled:
            end = JobEnd(state="done" if code == 0 else "cancelled" if cancelled else "failed", ended=time.time())
            write_atomically(folder / END, end.model_dump_json() + "\n")


def jobs_at_once() -> int:
    """How many jobs of one folder of runs run at once: `SEMFREEZE_JOBS`, else one."""
    limit = os.environ.get(AT_ONCE_VARIABLE, "")
    return max(1, int(limit)) if limit.isdecimal() else 1


def _take_turn(folder: Path) -> bool:
    """Write down that the job's turn has come, if fewer jobs than may run at once run or wait before it."""
    with FileLock(folder.parent / _TURNS):
        others = (path for path in folder.parent.iterdir() if path != folder and (path / SPEC).is_file())
        if sum(_goes_before(other, folder) for other in others) >= jobs_at_once():
            return False
        write_atomically(folder / PROCESS, this_process(time.time()).model_dump_json() + "\n")
        return True


def _goes_before(other: Path, folder: Path) -> bool:
    """Whether another job runs, or lives and was asked for before this one; names sort by that."""
    state = job_state(other)
    return state == "running" or (state == "queued" and other.name < folder.name and is_alive(other))
