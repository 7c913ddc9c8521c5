"""What a job's own process does beside its command: say that it is there, wait for its turn, say how it ended."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from semfreeze_core.records.job import JobEnd
from semfreeze_core.runs.job_folder import CANCEL, END, PROCESS, SPEC, is_alive, job_state, this_process
from semfreeze_core.storage import write_atomically

_SECONDS_BETWEEN_LOOKS = 0.3
AT_ONCE_VARIABLE = "SEMFREEZE_JOBS"


def hold_job(folder: Path, work: Callable[[], int]) -> None:
    """Wait for the job's turn, do its work, and write down how it ended.

    A second process for the same job ends without doing anything.

    Args:
        folder: of the job.
        work: does it; returns the exit code, 0 when it went well.
    """
    try:
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        return
    with lock:
        write_atomically(folder / PROCESS, this_process().model_dump_json() + "\n")
        try:
            while not _is_its_turn(folder):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            write_atomically(folder / PROCESS, this_process(time.time()).model_dump_json() + "\n")
            code = work()
        except KeyboardInterrupt:
            code = 1
        ended = time.time()
        if (folder / CANCEL).exists():
            end = JobEnd(state="cancelled", ended=ended)
        else:
            end = JobEnd(state="failed" if code else "done", ended=ended)
        write_atomically(folder / END, end.model_dump_json() + "\n")


def jobs_at_once() -> int:
    """How many jobs of one folder of runs run at once: `SEMFREEZE_JOBS`, else one."""
    told = os.environ.get(AT_ONCE_VARIABLE, "")
    return max(1, int(told)) if told.isdigit() else 1


def _is_its_turn(folder: Path) -> bool:
    """Whether fewer jobs than may run at once were asked for before this one and live; others' names sort by that."""
    before = (path for path in folder.parent.iterdir() if path.name < folder.name and (path / SPEC).is_file())
    living = [path for path in before if is_alive(path) and job_state(path) in ("queued", "running")]
    return len(living) < jobs_at_once()
