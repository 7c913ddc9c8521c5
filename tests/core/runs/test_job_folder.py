"""What a job's folder says of it: its state, its place in the queue, and how it failed."""

import os
import shutil
import subprocess
import sys

import psutil
import pytest

from semfreeze_core.errors import RunError
from semfreeze_core.records.job import JOB_SCHEMA_VERSION, JobProcess
from semfreeze_core.runs import job_folder as folders
from semfreeze_core.runs.job_folder import CANCEL, LOCK, LOG, PROCESS, SPEC, read_log, this_process
from semfreeze_core.runs.jobs import JOBS, cancel, failure, find_job, job_folder, list_jobs
from tests.core.runs.held_job import wait_for
from tests.core.runs.left_job import DEAD, GONE, put


def states(runs):
    return {job.name: job.state for job in list_jobs(runs)}


@pytest.mark.parametrize(
    ("left", "state"),
    [
        ({}, "queued"),
        ({"process": GONE}, "queued"),
        ({"process": this_process()}, "queued"),
        ({"process": this_process(2.0)}, "running"),
        ({"process": DEAD}, "dead"),
        ({"process": DEAD, "end": "done"}, "done"),
        ({"process": DEAD, "end": "failed", "cancelled": True}, "failed"),
        ({"process": DEAD, "cancelled": True}, "cancelled"),
        ({"cancelled": True}, "cancelled"),
        ({"process": this_process(2.0), "cancelled": True}, "running"),  # it is ending
        ({"process": DEAD.model_copy(update={"pid": os.getpid()})}, "dead"),  # the number is another's now
        ({"process": DEAD.model_copy(update={"host": "elsewhere"})}, "dead"),  # a container that is no more
    ],
)
def test_state_follows_from_what_the_folder_holds(runs, left, state):
    put(runs, "one", **left)
    (job,) = list_jobs(runs)
    assert job.state == state
    assert job.finished == (state not in ("queued", "running"))
    assert job.started == (2.0 if left.get("process") and left["process"].turn else None)
    assert job.ended == (3.0 if "end" in left else None)


def test_a_job_that_ends_between_two_looks_is_not_dead(runs, monkeypatch):
    folder = put(runs, "one", DEAD)

    def gone(folder):
        put(runs, "one", DEAD, "done")
        return False

    monkeypatch.setattr(folders, "is_alive", gone)
    assert folders.job_state(folder) == "done"


def test_job_of_another_machine_lives_while_its_lock_is_held(runs):
    folder = put(runs, "one", DEAD.model_copy(update={"host": "elsewhere"}))
    with folders.FileLock(folder / LOCK):
        assert states(runs) == {"one": "running"}
        with pytest.raises(RunError, match="runs on elsewhere and can be canceled only there"):
            cancel(runs, "one")
        assert not (folder / CANCEL).exists()  # else it would call itself cancelled in the end
    assert states(runs) == {"one": "dead"}


def test_a_clock_that_is_set_makes_no_living_job_dead(runs, monkeypatch):
    put(runs, "one", this_process(2.0))
    boot = psutil.boot_time()
    monkeypatch.setattr("psutil.boot_time", lambda: boot + 3600)
    monkeypatch.setattr("psutil.Process.create_time", lambda self, real=psutil.Process.create_time: real(self) + 3600)
    assert states(runs) == {"one": "running"}


def test_zombie_is_no_living_process(runs):
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    try:
        wait_for(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        zombie = JobProcess(pid=child.pid, born=folders._born(child.pid), host=GONE.host, turn=2.0)
        put(runs, "one", zombie)
        assert states(runs) == {"one": "dead"}
    finally:
        child.wait()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"command": [1]}', "\xff"])
def test_what_is_no_job_is_left_alone(runs, content):
    put(runs, "good")
    (runs / JOBS / "strange").mkdir()
    (runs / JOBS / "strange" / SPEC).write_bytes(content.encode("latin-1"))
    (runs / JOBS / "a file").write_text("")
    assert states(runs) == {"good": "queued"}


def test_job_of_a_newer_semfreeze_is_left_alone(runs):
    put(runs, "newer", schema_version=JOB_SCHEMA_VERSION + 1)
    assert list_jobs(runs) == []
    with pytest.raises(RunError, match="no job named 'newer'"):
        cancel(runs, "newer")


def test_paths_of_a_job_follow_its_folder_of_runs(runs, tmp_path):
    (tmp_path / "link").symlink_to(runs, target_is_directory=True)
    before, away = (str(tmp_path / "link"), str(runs)), tmp_path / "away"
    command = (
        "validate",
        f"{runs}/mine",
        f"--train={tmp_path}/link/.uploads/t.jsonl#1",
        f"--eval={runs}2/e.jsonl",
        "--q",
    )
    folder = put(runs, "one", command=command, out=f"{runs}/mine/validations/t", runs=before)
    old = put(runs, "two", command=command, out=f"{runs}/mine")  # as 0.1.0 wrote it
    spec = folders.read_spec(folder)
    assert (spec.command, spec.out) == (command, f"{runs}/mine/validations/t")
    assert folders.read_spec(tmp_path / "link" / JOBS / "one") == spec  # the same folder by another name
    assert folders.read_spec(old).command == command
    shutil.copytree(runs, away)
    assert folders.read_spec(folder) == spec
    copied = folders.read_spec(away / JOBS / "one")
    assert copied.command == (
        "validate", f"{away}/mine", f"--train={away}/.uploads/t.jsonl#1", f"--eval={runs}2/e.jsonl", "--q",
    )  # fmt: skip
    assert (copied.out, copied.title, copied.created) == (f"{away}/mine/validations/t", "one", 1.0)
    assert folders.read_spec(away / JOBS / "two").command == command


def test_files_beside_the_runs_that_were_moved_with_them_are_found_by_a_job(tmp_path):
    before, project = tmp_path / "before", tmp_path / "project"
    runs = before / "runs"
    (before / "model").mkdir(parents=True)
    (before / "task.jsonl").write_text("")
    command = ("analyze", f"--model={before}/model", f"--data={before}/task.jsonl", f"--eval={before}/gone.jsonl")
    put(runs, "one", command=command, out=f"{runs}/mine", runs=(str(runs),))
    before.rename(project)
    spec = folders.read_spec(project / "runs" / JOBS / "one")
    assert spec.command == (
        "analyze", f"--model={project}/model", f"--data={project}/task.jsonl", f"--eval={before}/gone.jsonl",
    )  # fmt: skip
    assert spec.out == f"{project}/runs/mine"


@pytest.mark.parametrize("name", ["absent", "..", "../.jobs/one", "", "."])
def test_no_name_leads_out_of_the_folder(runs, name):
    put(runs, "one")
    for ask in (find_job, job_folder, cancel):
        with pytest.raises(RunError, match="There is no job named"):
            ask(runs, name)
    assert job_folder(runs, "one") == runs / JOBS / "one"


def test_damaged_process_file_reads_as_none(runs):
    folder = put(runs, "one")
    (folder / PROCESS).write_text('{"pid": 1,')
    assert states(runs) == {"one": "queued"}


def test_places_count_who_comes_before(runs):
    put(runs, "1", DEAD, "done")
    put(runs, "2", this_process(2.0))
    put(runs, "3", this_process())
    put(runs, "4", DEAD)
    put(runs, "5", this_process())
    assert [(job.name, job.jobs_ahead) for job in list_jobs(runs)] == [("1", 0), ("2", 0), ("3", 1), ("4", 0), ("5", 2)]


@pytest.mark.parametrize(
    ("state", "log", "message"),
    [
        ("failed", "Loading\nsemfreeze: x: no such file.\n", "x: no such file."),
        ("failed", "semfreeze: It is being computed again.\nTraceback (most recent call last):\nE: x\n", "E: x"),
        ("failed", "", "It printed nothing."),
        (
            "dead",
            "",
            "Its process stopped without an error message: killed, out of memory, or the machine was shut down.",
        ),
        (
            "dead",
            "Loading the model\nExtracting hidden states\n",
            "Its process stopped without an error message: killed, out of memory, or the machine was shut down. "
            "Last output: Extracting hidden states",
        ),
    ],
)
def test_failure_is_told_in_the_jobs_own_words(runs, state, log, message):
    put(runs, "one", DEAD, "failed" if state == "failed" else None, log=log)
    assert failure(runs, find_job(runs, "one")) == message


def test_log_gives_its_last_lines_of_any_bytes(runs):
    folder = put(runs, "one")
    (folder / LOG).write_bytes(b"old\n" * 100_000 + b"caf\xc3\xa9 \xff\nlast")
    assert read_log(folder, 2) == "café \ufffd\nlast"
    (folder / LOG).unlink()
    assert read_log(folder, 2) == ""
