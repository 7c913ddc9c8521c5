"""Background jobs: semfreeze commands in process groups of their own, which outlive whoever started them.

A job is a folder below the runs it works on. Every job has its process from the start, which waits until the jobs asked
for before it have ended; nothing else has to stay alive for the queue to move on. What state a job is in is read off
its folder and the living processes, never kept in a second place that could contradict them.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from semfreeze_core.errors import RunError
from semfreeze_core.records.job import Job, JobSpec
from semfreeze_core.runs.job_folder import (
    CANCEL,
    END,
    LOG,
    PROCESS,
    SPEC,
    end_group,
    is_alive,
    job_state,
    read_end,
    read_log,
    read_process,
    read_spec,
)
from semfreeze_core.storage import digest, disk_errors, write_atomically

JOBS = ".jobs"  # hidden, so that no listing of runs takes it for one
_KEPT = 50  # finished jobs whose folders stay
_SECONDS_TO_START = 20.0

_children: list[subprocess.Popen[bytes]] = []  # kept to be reaped, else each would stay a zombie


def submit(runs: Path, command: Sequence[str], title: str, out: Path | None = None) -> Job:
    """Start a job, or join the one that does the same and has not ended.

    Args:
        runs: folder of the runs it works on; one job of it runs at a time.
        command: words of a semfreeze command, without --out.
        title: what it does, in words.
        out: folder of the run it makes, given to the command as --out.

    Raises:
        RunError: the folder cannot be written, or the job's process does not come up.
    """
    folder = runs / JOBS
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire()
    try:
        for job in _jobs(runs):
            if not job.finished and job.spec.command == tuple(command):
                return job
        spec = JobSpec(command=tuple(command), title=title, out=None if out is None else str(out), created=time.time())
        place = folder / _name(spec)
        write_atomically(place / SPEC, spec.model_dump_json(indent=1) + "\n")
        _start(place)
        _forget_old(runs)
    finally:
        lock.release()
    return find_job(runs, place.name)


def list_jobs(runs: Path) -> list[Job]:
    """Every job of a folder of runs, oldest first."""
    with suppress(ChildProcessError):
        _children[:] = [child for child in _children if child.poll() is None]
    return _jobs(runs)


def find_job(runs: Path, name: str) -> Job:
    """One job by name.

    Raises:
        RunError: there is none.
    """
    for job in list_jobs(runs):
        if job.name == name:
            return job
    raise RunError(f"There is no job called {name!a} here.")


def job_folder(runs: Path, name: str) -> Path:
    """The folder of a job that is there."""
    return runs / JOBS / find_job(runs, name).name


def revive(runs: Path) -> None:
    """Start the processes of queued jobs that have none, as after the machine was started anew.

    Raises:
        RunError: the folder cannot be written.
    """
    waiting = [job for job in list_jobs(runs) if job.state == "queued" and not is_alive(runs / JOBS / job.name)]
    if not waiting:
        return
    with FileLock(runs / JOBS / ".lock"):
        for job in waiting:
            if not is_alive(runs / JOBS / job.name):
                _start(runs / JOBS / job.name)


def cancel(runs: Path, name: str) -> Job:
    """End a job with everything it started; what it had finished stays readable.

    Raises:
        RunError: no such job, or it runs on another machine.
    """
    job, folder = find_job(runs, name), runs / JOBS / name
    if job.finished:
        return job
    write_atomically(folder / CANCEL, "")
    if is_alive(folder) and (process := read_process(folder)) is not None:
        end_group(process)
    return find_job(runs, name)


def failure(runs: Path, job: Job) -> str:
    """Why a job did not end well, in its own last words.

    Args:
        runs: the folder of runs.
        job: failed or dead.
    """
    tail = read_log(runs / JOBS / job.name, 20)
    told = [line.removeprefix("semfreeze: ") for line in tail.splitlines() if line.startswith("semfreeze: ")]
    if job.state == "failed" and told:
        return told[-1]
    if job.state == "dead":
        return "Its process is gone without a word: killed, out of memory, or the machine was stopped."
    return tail.splitlines()[-1] if tail else "It said nothing."


def _jobs(runs: Path) -> list[Job]:
    found: list[Job] = []
    ahead = 0
    folder = runs / JOBS
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for name in names:
        spec = read_spec(folder / name)
        if spec is None:
            continue
        state = job_state(folder / name)
        process, end = read_process(folder / name), read_end(folder / name)
        place = ahead if state == "queued" else 0
        found.append(Job(name, spec, state, place, process.turn if process else None, end.ended if end else None))
        ahead += state in ("queued", "running")
    return found


def _name(spec: JobSpec) -> str:
    """Sorts by time; the digest tells apart what was asked in one microsecond."""
    when = datetime.fromtimestamp(spec.created).strftime("%Y%m%d-%H%M%S-%f")
    return f"{when}-{digest(spec.command)[:8]}"


def _start(folder: Path) -> None:
    """Start a job's process and wait until it has said that it is there."""
    (folder / PROCESS).unlink(missing_ok=True)
    command = [sys.executable, "-m", "semfreeze_core", "_job", str(folder)]
    with disk_errors(folder), (folder / LOG).open("ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    _children.append(child)
    until = time.monotonic() + _SECONDS_TO_START
    while not (folder / PROCESS).exists() and not (folder / END).exists():
        if child.poll() is not None or time.monotonic() > until:
            raise RunError(f"The job's process did not come up. The end of {folder / LOG}:\n{read_log(folder, 20)}")
        time.sleep(0.02)


def _forget_old(runs: Path) -> None:
    finished = [job for job in _jobs(runs) if job.finished]
    for job in finished[:-_KEPT]:
        shutil.rmtree(runs / JOBS / job.name, ignore_errors=True)
