"""Background jobs: semfreeze commands in process groups of their own, which outlive whoever started them.

A job is a folder below the runs it works on. Every job has its process from the start, which waits until the jobs asked
for before it have ended; nothing else has to stay alive for the queue to move on. What state a job is in is read off
its folder and the living processes, never kept in a second place that could contradict them.
"""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from semfreeze_core.errors import RunError
from semfreeze_core.records.job import Job, JobEnd, JobSpec
from semfreeze_core.runs.job_folder import (
    CANCEL,
    END,
    LOG,
    PROCESS,
    SPEC,
    beginnings,
    end_group,
    is_alive,
    job_state,
    read_end,
    read_log,
    read_process,
    read_spec,
)
from semfreeze_core.storage import digest, disk_errors, write_atomically
from semfreeze_core.temporary import require_locks

JOBS = ".jobs"  # hidden, so that no listing of runs takes it for one
_MAX_FINISHED = 50  # finished jobs whose folders stay
_SECONDS_TO_START = 20.0


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
    with _queue_held(runs):
        known = list_jobs(runs)
        for job in known:
            ending = (runs / JOBS / job.name / CANCEL).exists()
            if job.spec.command == tuple(command) and not job.finished and not ending:
                _start_again(runs, job)
                return job
        # Later than all others even after the clock was set back: the queue's order follows from it.
        created = max([time.time(), *(job.spec.created + 0.001 for job in known)])
        run_path = None if out is None else str(out.absolute())
        spec = JobSpec(command=tuple(command), title=title, out=run_path, created=created, runs=beginnings(runs))
        folder = runs / JOBS / _name(spec)
        write_atomically(folder / SPEC, spec.model_dump_json(indent=1) + "\n")
        try:
            _start(folder)
        except RunError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _forget_old(runs)
    return find_job(runs, folder.name)


def list_jobs(runs: Path) -> list[Job]:
    """Every job of a folder of runs, oldest first."""
    jobs: list[Job] = []
    ahead = 0
    folder = runs / JOBS
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for name in names:
        spec = read_spec(folder / name)
        if spec is None:
            continue
        state = job_state(folder / name)
        process, end = read_process(folder / name), read_end(folder / name)
        jobs_ahead = ahead if state == "queued" else 0
        jobs.append(Job(name, spec, state, jobs_ahead, process.turn if process else None, end.ended if end else None))
        ahead += state in ("queued", "running")
    return jobs


def find_job(runs: Path, name: str) -> Job:
    """One job by name.

    Raises:
        RunError: there is none.
    """
    for job in list_jobs(runs):
        if job.name == name:
            return job
    raise RunError(f"There is no job named {name!a} here.")


def job_folder(runs: Path, name: str) -> Path:
    """The folder of a job that is there.

    Raises:
        RunError: there is none.
    """
    folder = runs / JOBS / name
    if name != folder.name or read_spec(folder) is None:
        raise RunError(f"There is no job named {name!a} here.")
    return folder


def revive(runs: Path) -> None:
    """Start the processes of queued jobs that have none, as after the machine was started anew.

    Raises:
        RunError: the folder cannot be written, or a process does not come up.
    """
    if not (runs / JOBS).is_dir():
        return
    with _queue_held(runs):
        for job in list_jobs(runs):
            _start_again(runs, job)


def cancel(runs: Path, name: str) -> Job:
    """End a job with everything it started; what it had finished stays readable.

    Raises:
        RunError: no such job, or it is another machine's or another user's.
    """
    job, folder = find_job(runs, name), runs / JOBS / name
    if job.finished:
        return job
    write_atomically(folder / CANCEL, "")
    if is_alive(folder) and (process := read_process(folder)) is not None:
        try:
            end_group(process)
        except RunError:
            (folder / CANCEL).unlink(missing_ok=True)
            raise
    if not is_alive(folder) and read_end(folder) is None:  # killed, or it never had a process
        end = JobEnd(state="cancelled", ended=time.time())
        write_atomically(folder / END, end.model_dump_json() + "\n")
    return find_job(runs, name)


def failure(runs: Path, job: Job) -> str:
    """Why a job failed, from its last output.

    Args:
        runs: the folder of runs.
        job: failed or dead.
    """
    lines = read_log(runs / JOBS / job.name, 20).splitlines()
    last = lines[-1].strip() if lines else ""
    if job.state == "dead":
        reason = "Its process stopped without an error message: killed, out of memory, or the machine was shut down."
        return f"{reason} Last output: {last}" if last else reason
    messages = [line.removeprefix("semfreeze: ") for line in lines if line.startswith("semfreeze: ")]
    crashed = any(line.startswith("Traceback") for line in lines)
    return messages[-1] if messages and not crashed else last or "It printed nothing."


@contextmanager
def _queue_held(runs: Path) -> Iterator[None]:
    """While the block runs, nobody else asks for a job or starts one."""
    folder = runs / JOBS
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        require_locks(folder)
        held = FileLock(folder / ".lock").acquire()
    with held:
        yield


def _name(spec: JobSpec) -> str:
    """Sorts by time, in UTC, where no hour comes twice."""
    when = datetime.fromtimestamp(spec.created, UTC).strftime("%Y%m%d-%H%M%S-%f")
    return f"{when}-{digest(spec.command)[:8]}"


def _start_again(runs: Path, job: Job) -> None:
    """Start a queued job's process if it has none."""
    folder = runs / JOBS / job.name
    if job.state == "queued" and not is_alive(folder):
        _start(folder)


def _start(folder: Path) -> None:
    """Start a job's process and wait until it has said that it is there."""
    # Where the asker stands, so that relative paths mean the same; -P: no module is taken from there.
    command = [sys.executable, "-P", "-m", "semfreeze_core", "_job", str(folder.absolute())]
    with disk_errors(folder), (folder / LOG).open("ab") as log:
        (folder / PROCESS).unlink(missing_ok=True)
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    threading.Thread(target=child.wait, name="waits for a job", daemon=True).start()  # else it would stay a zombie
    until = time.monotonic() + _SECONDS_TO_START
    while not (folder / PROCESS).exists() and not (folder / END).exists():
        if child.poll() is not None or time.monotonic() > until:
            child.kill()
            raise RunError(f"The job's process did not start. Its output: {read_log(folder, 20) or 'nothing'}")
        time.sleep(0.02)


def _forget_old(runs: Path) -> None:
    finished = [job for job in list_jobs(runs) if job.finished]
    for job in finished[:-_MAX_FINISHED]:
        shutil.rmtree(runs / JOBS / job.name, ignore_errors=True)
