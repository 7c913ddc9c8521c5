"""A job's process: it says that it is there, waits for its turn, and ends with everything it started."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from semfreeze_core.errors import RunError
from semfreeze_core.records.job import JobProcess
from semfreeze_core.runs import job_folder as folders
from semfreeze_core.runs import job_process
from semfreeze_core.runs.job_folder import CANCEL, END, PROCESS, end_group, this_process
from semfreeze_core.runs.job_process import AT_ONCE_VARIABLE, hold_job, jobs_at_once
from semfreeze_core.runs.jobs import cancel, find_job, list_jobs
from semfreeze_core.storage import write_atomically
from tests.core.runs.held_job import wait_for
from tests.core.runs.left_job import DEAD, GONE, put


def states(runs):
    return {job.name: job.state for job in list_jobs(runs)}


def test_hold_job_says_that_it_is_there_and_how_it_ended(runs):
    for name, code, state in (("1", 0, "done"), ("2", 2, "failed")):
        folder = put(runs, name)

        def work(name=name, code=code):
            assert states(runs)[name] == "running"
            return code

        hold_job(folder, work)
        assert states(runs)[name] == state
        assert find_job(runs, name).started <= find_job(runs, name).ended <= time.time()


def never():
    raise AssertionError("it must not work")


def test_hold_job_works_once(runs):
    folder = put(runs, "one")
    hold_job(folder, lambda: hold_job(folder, never) or 0)  # while one holds it, a second one does nothing
    hold_job(folder, never)  # nor after it ended
    assert states(runs) == {"one": "done"}


def test_hold_job_does_not_begin_what_was_cancelled_before_it_came_up(runs):
    folder = put(runs, "one", cancelled=True)
    hold_job(folder, never)
    assert states(runs) == {"one": "cancelled"}
    assert find_job(runs, "one").started is None


@pytest.mark.parametrize(("code", "state"), [(0, "done"), (2, "cancelled")])
def test_a_cancel_that_came_too_late_takes_nothing_away(runs, code, state):
    folder = put(runs, "one")

    def work():
        write_atomically(folder / CANCEL, "")
        return code

    hold_job(folder, work)
    assert states(runs) == {"one": state}


def interrupt(*args):
    raise KeyboardInterrupt


def test_hold_job_interrupted_at_work_has_failed(runs):
    folder = put(runs, "one")
    hold_job(folder, interrupt)
    assert states(runs) == {"one": "failed"}


def test_hold_job_interrupted_while_it_waits_stays_queued(runs, monkeypatch):
    put(runs, "1", this_process(2.0))
    folder = put(runs, "2")
    monkeypatch.setattr(job_process.time, "sleep", interrupt)
    hold_job(folder, never)
    assert not (folder / END).exists()
    write_atomically(folder / PROCESS, GONE.model_dump_json())  # as it reads once its process has ended
    assert states(runs) == {"1": "running", "2": "queued"}


@pytest.mark.parametrize(
    ("others", "at_once", "turn"),
    [
        ({}, 1, True),
        ({"1": this_process(2.0)}, 1, False),
        ({"1": this_process()}, 1, False),
        ({"9": this_process()}, 1, True),
        ({"9": this_process(2.0)}, 1, False),  # revived later than it began, but one is enough
        ({"1": GONE, "2": DEAD}, 1, True),
        ({"1": this_process(2.0)}, 2, True),
        ({"1": this_process(2.0), "2": this_process()}, 2, False),
        ({"1": this_process(2.0), "9": this_process(2.0)}, 2, False),
    ],
)
def test_turn_comes_when_few_enough_run_or_come_before(runs, monkeypatch, others, at_once, turn):
    monkeypatch.setenv(AT_ONCE_VARIABLE, str(at_once))
    for name, process in others.items():
        put(runs, name, process)
    folder = put(runs, "5", this_process())
    assert job_process._take_turn(folder) == turn
    assert states(runs)["5"] == ("running" if turn else "queued")


@pytest.mark.parametrize(
    ("setting", "number"), [(None, 1), ("", 1), ("3", 3), ("0", 1), ("-2", 1), ("two", 1), ("²", 1), ("٣", 3)]
)
def test_jobs_at_once(monkeypatch, setting, number):
    monkeypatch.delenv(AT_ONCE_VARIABLE, raising=False)
    if setting is not None:
        monkeypatch.setenv(AT_ONCE_VARIABLE, setting)
    assert jobs_at_once() == number


TREE = """
import os, signal, subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
orphan = f"import os, sys; os.fork() and sys.exit(); {deaf}"
for code, own in ((deaf, False), (deaf, True), (orphan, False)):
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=own)
    child.stdout.readline()
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("leader", ["obeys", "deaf"])
def test_end_group_ends_deaf_children_orphans_and_sessions_of_their_own(leader):
    """Three deaf processes: a child, a child with a session of its own, and one whose parent is gone."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", TREE, leader], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout.readline() == b"up\n"
        process_info = psutil.Process(process.pid)

        def four():
            family = {process_info, *process_info.children(recursive=True), *in_group(process.pid)}
            return family if sum(map(folders._lives, family)) == 4 else None

        family = wait_for(four)
        job = JobProcess(pid=process.pid, born=folders._born(process.pid), host=GONE.host)
        end_group(job)
        assert not [p for p in family if folders._lives(p)]
        end_group(job)  # once more finds nothing to do
    finally:
        process.stdout.close()
        process.kill()
        process.wait()


def in_group(pid):
    def group(process):
        try:
            return os.getpgid(process.pid)
        except ProcessLookupError:
            return None

    return [process for process in psutil.process_iter() if group(process) == pid]


def test_end_group_leaves_another_process_of_the_number_alone():
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        end_group(JobProcess(pid=child.pid, born=folders._born(child.pid) - 5, host=GONE.host))
        assert child.poll() is None
    finally:
        child.communicate(b"\n")
    assert child.returncode == 0


def test_cancel_of_another_users_job_says_so_and_leaves_no_mark(runs, monkeypatch):
    folder = put(runs, "one", this_process(2.0))

    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    with pytest.raises(RunError, match="belongs to another user"):
        cancel(runs, "one")
    assert not (folder / CANCEL).exists()
