"""`semfreeze jobs`, and a real analysis as a job: to its end, and cancelled in the middle."""

import json
import os
import shutil
import time
from pathlib import Path

import psutil
import pytest

from semfreeze_core.finetune.arm.process import run_job
from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.job_events import EVENTS, read_progress
from semfreeze_core.runs.job_folder import END, LOG, PROCESS, SPEC, end_group, read_log, read_process
from semfreeze_core.runs.jobs import JOBS, cancel, find_job, list_jobs, submit
from semfreeze_core.runs.reports import read_validation
from semfreeze_core.runs.store import run_names
from semfreeze_core.storage import runs_folder, write_atomically
from tests.core.cli.terminal import ask
from tests.core.runs.held_job import wait_for, wait_for_state
from tests.core.runs.left_job import DEAD, GONE, put
from tests.core.runs.tiny_run import task_rows

PLAIN = ("--dtype=float32", "--device=cpu")


@pytest.fixture
def runs(home, monkeypatch):
    """The store; whatever still runs there is ended."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield runs_folder()
    for job in list_jobs(runs_folder()):
        if (process := read_process(runs_folder() / JOBS / job.name)) is not None and process.pid != DEAD.pid:
            end_group(process)


@pytest.mark.slow
def test_an_analysis_as_a_job_makes_the_run_and_tells_its_stages(runs, models, task):
    command = ("analyze", f"--model={models / 'untied'}", f"--data={task}", *PLAIN)
    job = submit(runs, command, "untied on task", runs / "mine")
    ended = wait_for_state(runs, job.name, "done", "failed", "dead")
    log = read_log(runs / JOBS / job.name, 100)
    assert ended.state == "done", log
    assert job.spec.created <= ended.started <= ended.ended <= time.time()
    assert read_run(runs / "mine").n_examples == 48
    assert run_names() == ["mine"]  # a listing of runs shows no jobs
    stages = read_progress(runs / JOBS / job.name).stages
    assert {"Loading the model", "Extracting hidden states", "Projecting the display sample"} <= set(stages)
    assert set(stages) <= set(log.splitlines())  # the log says them too, should the job die
    (row,) = ask("jobs", "list", "--json").json["jobs"]
    assert (row["state"], row["out"], row["command"]) == ("done", str(runs / "mine"), ["semfreeze", *command])


@pytest.mark.slow
def test_an_analysis_is_cancelled_in_its_middle(runs, models, rows_file):
    data = rows_file(task_rows(1500))
    command = ("analyze", f"--model={models / 'untied'}", f"--data={data}", "--examples=0", "--batch-tokens=1", *PLAIN)
    job = submit(runs, command, "long", runs / "mine")
    folder = runs / JOBS / job.name
    wait_for(
        lambda: (reported := read_progress(folder)) and reported.stage == "Extracting hidden states" and reported.done
    )
    row = ask("jobs", "list", "--json").json["jobs"][0]
    assert (row["state"], row["stage"], row["total"] > row["done"]) == ("running", "Extracting hidden states", True)
    assert "Extracting hidden states" in ask("jobs", "list").out
    leader = psutil.Process(read_process(folder).pid)
    assert ask("jobs", "cancel", job.name).out == f"{job.name}: canceled\n"
    assert not leader.is_running() or leader.status() == psutil.STATUS_ZOMBIE
    assert [path.name for path in runs.iterdir()] == [JOBS]
    assert "semfreeze: interrupted; unfinished results are not saved." in read_log(folder, 5)
    assert cancel(runs, job.name) == find_job(runs, job.name)


def test_list_says_how_each_job_stands(runs):
    assert ask("jobs", "list").out == f"No jobs in {runs}.\n"
    put(runs, "1-done", DEAD, "done", out="/r/x")
    put(runs, "2-failed", DEAD, "failed", log="semfreeze: [no] such file.\n")
    job_folder = put(runs, "3-dead", DEAD)
    put(runs, "4-waits")
    event = {"stage": "S", "done": 3, "total": 4, "unit": "rows", "done_before": 0, "seconds": 6.0, "stages": ["S"]}
    (job_folder / EVENTS).write_text(json.dumps(event) + "\n")
    answer = ask("jobs", "list", "--json").json
    assert answer["folder"] == str(runs)
    rows = {row.pop("name"): row for row in answer["jobs"]}
    assert list(rows) == ["1-done", "2-failed", "3-dead", "4-waits"]
    assert rows["1-done"] == {
        "state": "done",
        "title": "1-done",
        "command": ["semfreeze", "show", "1-done"],
        "out": "/r/x",
        "ahead": 0,
        "stage": None,
        "done": None,
        "total": None,
        "seconds_left": None,
        "reason": None,
    }
    assert rows["2-failed"]["reason"] == "[no] such file."
    dead = rows["3-dead"]
    assert (dead["stage"], dead["done"], dead["total"], dead["seconds_left"]) == ("S", 3, 4, None)
    assert dead["reason"].startswith("Its process stopped without an error message")
    shown = " ".join(ask("jobs", "list").out.split())
    for line in ("1-done done", "2-failed failed [no] such file.", "3-dead dead Its process", "4-waits queued"):
        assert line in shown


@pytest.mark.quick_cases(0)
def test_a_validation_resumes_as_a_job_where_its_folder_was_moved_to(runs, stored, task, monkeypatch, tmp_path):
    monkeypatch.setattr("semfreeze_core.runs.jobs._start", lambda folder: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the job's process is the test's
    stored("tied")
    upload = runs / ".uploads" / "task.jsonl"
    upload.parent.mkdir()
    shutil.copy(task, upload)
    sizes = ("--steps=1", "--batch-size=2", "--train-examples=4", "--eval-examples=4", "--accuracy-examples=0")
    command = ("validate", str(runs / "tied"), f"--train={upload}", f"--eval={upload}", *sizes, *PLAIN[1:])
    command += ("--arms=depth:1,full", "--depth=1", "--seeds=1", "--match=steps", "--lr=full=1e-3,frozen=1e-3")
    job = submit(runs, command, "validation", runs / "tied" / "validations" / "task")

    trained = []

    def train(file, log, progress):
        if json.loads(file.read_text())["arm"] is not None:
            trained.append(file.stem)
            if trained == ["depth-1-seed0", "full-seed0"]:
                raise KeyboardInterrupt
        run_job(file)

    monkeypatch.setattr(this_machine, "run_arm_process", train)
    ask("_job", runs / JOBS / job.name)
    assert find_job(runs, job.name).state == "failed"
    moved = tmp_path / "moved"
    shutil.move(runs, moved)
    left = find_job(moved, job.name)
    again = submit(moved, left.spec.command, left.spec.title, Path(left.spec.out))
    ask("_job", moved / JOBS / again.name)
    assert find_job(moved, again.name).state == "done", read_log(moved / JOBS / again.name, 50)
    assert trained == ["depth-1-seed0", "full-seed0", "full-seed0"], "what was finished is kept"
    assert read_validation(moved / "tied" / "validations" / "task").finished
    assert not runs.exists()


@pytest.mark.parametrize("args", [["log"], ["cancel"]])
def test_a_job_that_is_not_there_is_refused(runs, args):
    assert ask("jobs", *args, "absent").refusal == "There is no job named 'absent' here."


def test_cancel_of_an_ended_job_says_how_it_ended(runs):
    put(runs, "one", DEAD, "done")
    assert ask("jobs", "cancel", "one").out == "one: done\n"


def test_the_jobs_process_refuses_what_is_no_job(tmp_path):
    assert "is not a job's folder" in ask("_job", tmp_path).usage_error
    write_atomically(tmp_path / SPEC, "{}")
    assert "is not a job's folder" in ask("_job", tmp_path).usage_error
    assert not (tmp_path / PROCESS).exists()


def test_the_jobs_process_is_no_command_of_the_users():
    assert "_job" not in ask("--help").out


def test_all_ended_jobs_are_listed(runs):
    for number in range(50):
        put(runs, f"{number:02}", DEAD, "done")
    assert len(list_jobs(runs)) == 50


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (PROCESS, '{"pid": -1, "born": 1.0, "host": "HOST"}'),
        (PROCESS, '{"pid": 99999999999999999999, "born": 1.0, "host": "HOST"}'),
        (PROCESS, '{"pid": 5, "born": 1e999, "host": "HOST"}'),
        (SPEC, '{"command": ["show"], "title": "t", "created": 1e999}'),
        (SPEC, '{"command": ["show", "/a\\u0000b"], "title": "t", "created": 1.0}'),
        (END, '{"state": "done", "ended": -1e999}'),
        (EVENTS, '{"stage": 1, "done": "x", "total": 2, "unit": 3, "done_before": 4, "seconds": 5, "stages": 6}'),
        (SPEC, None),
        (LOG, None),
    ],
)
def test_a_broken_job_does_not_hide_or_hold_the_others(runs, name, content):
    broken = put(runs, "1-broken", DEAD)
    put(runs, "2-queued")
    (broken / name).unlink(missing_ok=True)
    if content is None:
        os.mkfifo(broken / name)
    else:
        (broken / name).write_text(content.replace("HOST", GONE.host))
    assert "2-queued" in [job.name for job in list_jobs(runs)]
    assert ask("jobs", "list", "--json").json["jobs"][-1]["name"] == "2-queued"
    assert ask("jobs", "cancel", "2-queued").out == "2-queued: canceled\n"
