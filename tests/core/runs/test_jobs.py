"""Background jobs: they outlive who started them, wait for their turn, say how they ended, and go when told to."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from semfreeze_core.errors import RunError
from semfreeze_core.runs import job_folder as folders
from semfreeze_core.runs.job_folder import read_log, this_process
from semfreeze_core.runs.job_process import AT_ONCE_VARIABLE
from semfreeze_core.runs.jobs import JOBS, cancel, failure, find_job, list_jobs, revive, submit
from tests.core.runs.held_job import PATIENCE, wait_for, wait_for_state
from tests.core.runs.left_job import DEAD, GONE, put


def pid_of(runs, job):
    return folders.read_process(runs / JOBS / job.name).pid


def test_jobs_run_one_at_a_time_in_order_and_say_how_they_ended(runs, held):
    first, second = held(), held()
    one = first.submit(runs)
    two = second.submit(runs)
    assert (one.name < two.name, one.spec.command) == (True, first.arguments)
    first.wait_until_it_works()
    assert [(job.state, job.jobs_ahead) for job in list_jobs(runs)] == [("running", 0), ("queued", 1)]
    assert first.submit(runs).name == one.name  # the same is shared,
    assert second.submit(runs).name == two.name  # waiting or not
    leader = psutil.Process(pid_of(runs, one))
    assert os.getpgid(leader.pid) == os.getsid(leader.pid) == leader.pid
    first.let_go()
    ended = wait_for_state(runs, one.name, "done", "failed")
    assert ended.state == "done", read_log(runs / JOBS / one.name, 20)
    assert "layer" in read_log(runs / JOBS / one.name, 50)
    second.let_go(b"{")
    assert wait_for_state(runs, two.name, "done", "failed").state == "failed"
    assert "manifest.json is damaged" in failure(runs, find_job(runs, two.name))
    wait_for(lambda: not leader.is_running())  # nobody listed, and no zombie stays
    again = first.submit(runs)
    assert again.name > two.name  # what has ended is done anew


@pytest.mark.slow
def test_two_at_once_when_told(runs, held, monkeypatch):
    monkeypatch.setenv(AT_ONCE_VARIABLE, "2")
    commands = [held() for _ in range(3)]
    jobs = [command.submit(runs) for command in commands]
    for job in jobs[:2]:
        wait_for_state(runs, job.name, "running")
    assert [job.state for job in list_jobs(runs)] == ["running", "running", "queued"]
    cancel(runs, jobs[1].name)
    wait_for_state(runs, jobs[2].name, "running")
    assert [job.state for job in list_jobs(runs)] == ["running", "cancelled", "running"]


@pytest.mark.slow
def test_killed_jobs_are_dead_or_wait_anew_and_the_queue_goes_on(runs, held):
    commands = [held() for _ in range(3)]
    one, two, three = (command.submit(runs) for command in commands)
    commands[0].wait_until_it_works()
    os.kill(pid_of(runs, two), signal.SIGKILL)
    wait_for(lambda: not folders.is_alive(runs / JOBS / two.name))
    assert find_job(runs, two.name).state == "queued"
    os.kill(pid_of(runs, one), signal.SIGKILL)
    assert wait_for_state(runs, one.name, "dead").ended is None
    assert failure(runs, find_job(runs, one.name)).startswith("Its process stopped without an error message")
    wait_for_state(runs, three.name, "running")  # the third's turn: the second has no process that could take it
    revive(runs)
    revive(runs)
    assert folders.is_alive(runs / JOBS / two.name)
    assert [job.state for job in list_jobs(runs)] == ["dead", "queued", "running"]
    cancel(runs, three.name)
    wait_for_state(runs, two.name, "running")


def test_submit_starts_the_process_of_the_same_job_when_it_has_none(runs, held):
    command = held()
    put(runs, "1", GONE, command=command.arguments)
    assert command.submit(runs).name == "1"
    wait_for_state(runs, "1", "running")
    assert len(list_jobs(runs)) == 1


SUBMIT = """
import sys, time
from pathlib import Path
from semfreeze_core.runs.jobs import submit
sys.stdin.readline()
print(submit(Path(sys.argv[1]), sys.argv[2:], "Show").name, flush=True)
time.sleep(600)
"""


def test_two_people_at_the_same_moment_share_a_job_that_outlives_both(runs, held, monkeypatch):
    command = held()
    runs.mkdir()
    monkeypatch.chdir(runs.parent)
    people = [  # a relative folder, as a server may have been given one
        subprocess.Popen(
            [sys.executable, "-c", SUBMIT, runs.name, *command.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for person in people:
            person.stdin.write("\n")
            person.stdin.flush()
        names = {person.stdout.readline() for person in people}
        wait_for_state(runs, next(iter(names)).strip(), "running")
    finally:
        for person in people:
            person.terminate()
            person.communicate(timeout=PATIENCE)
    (job,) = list_jobs(runs)
    assert names == {f"{job.name}\n"}
    assert job.state == "running"
    leader = psutil.Process(pid_of(runs, job))
    ended = cancel(runs, job.name)
    assert ended.state == "cancelled"
    assert ended.ended is not None
    assert not folders._lives(leader)
    assert cancel(runs, job.name) == ended


def test_cancel_of_a_queued_job_never_begins_it(runs, held):
    first, second = held(), held()
    first.submit(runs)
    waiting = second.submit(runs)
    process = psutil.Process(pid_of(runs, waiting))
    ended = cancel(runs, waiting.name)
    assert (ended.state, ended.started, ended.finished) == ("cancelled", None, True)
    assert not folders._lives(process)
    revive(runs)
    assert find_job(runs, waiting.name) == ended
    put(runs, "0", GONE)  # nor one whose process is gone
    assert cancel(runs, "0").ended is not None


@pytest.mark.quick_cases(0)  # the first test above has one that fails
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("show", "absent"), "absent: no run with this name or path."),
        (("no-such-command",), "No such command"),
    ],
)
def test_failed_job_gives_the_sentence(runs, command, message):
    job = submit(runs, command, "It fails")
    assert wait_for_state(runs, job.name, "done", "failed").state == "failed"
    assert message in failure(runs, find_job(runs, job.name))


def test_a_process_that_does_not_come_up_leaves_nothing(runs, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RunError, match=r"did not start\. Its output: nothing"):
        submit(runs, ("show", "example"), "Show")
    assert list_jobs(runs) == []
    assert [p.name for p in (runs / JOBS).iterdir() if p.is_dir()] == []


READ_ONLY = """
import sys
from pathlib import Path
from semfreeze_core.errors import RunError
from semfreeze_core.runs.jobs import cancel, list_jobs, revive, submit
runs = Path(sys.argv[1])
for act in (lambda: submit(runs, ("show", "example"), "Show"), lambda: revive(runs)):
    try:
        act()
    except RunError as error:
        print(error)
print(len(list_jobs(runs)))
"""


@pytest.mark.parametrize("with_jobs", [False, True])
def test_folder_without_write_permission_is_refused_and_left_as_it_is(runs, with_jobs):
    powerless = []
    if os.geteuid() == 0:  # root passes every permission check, unless it gives that power up
        if shutil.which("setpriv") is None:
            pytest.skip("root without setpriv")
        powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]
    runs.mkdir()
    if with_jobs:
        put(runs, "one", GONE)
    before = sorted(runs.rglob("*"))
    for folder in (runs, *(runs.glob(JOBS))):
        folder.chmod(0o555)
    try:
        done = subprocess.run(
            [*powerless, sys.executable, "-c", READ_ONLY, str(runs)], capture_output=True, text=True, timeout=PATIENCE
        )
        assert sorted(runs.rglob("*")) == before
    finally:
        for folder in (runs, *(runs.glob(JOBS))):
            folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    *refusals, number = done.stdout.splitlines()
    assert len(refusals) == 1 + with_jobs
    assert all("cannot be written" in line for line in refusals)
    assert int(number) == with_jobs


def test_runs_below_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Something else is at this path"):
        submit(tmp_path / "file" / "runs", ("show", "example"), "Show")
    assert list_jobs(tmp_path / "file" / "runs") == []


@pytest.fixture
def unstarted(monkeypatch):
    """Jobs are written down, and no process is started."""
    monkeypatch.setattr("semfreeze_core.runs.jobs._start", lambda folder: None)


@pytest.mark.usefixtures("unstarted")
def test_submit_does_not_join_what_is_being_cancelled(runs):
    put(runs, "1", this_process(2.0), command=("show", "example"), cancelled=True)
    assert submit(runs, ("show", "example"), "Show").name != "1"


@pytest.mark.usefixtures("unstarted")
def test_names_follow_the_queue_even_when_the_clock_is_set_back(runs, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_793_000_000.0)
    first = submit(runs, ("show", "1"), "1")
    monkeypatch.setattr("time.time", lambda: 1_792_000_000.0)
    second, third = (submit(runs, ("show", number), number) for number in "23")
    assert first.name < second.name < third.name
    assert first.name.startswith("20261026-073320-000000-")  # UTC


@pytest.mark.usefixtures("unstarted")
def test_the_oldest_of_many_finished_jobs_are_forgotten(runs):
    for number in range(53):
        put(runs, f"{number:02}", DEAD, "done")
    put(runs, "00-running", this_process(2.0))
    submit(runs, ("show", "x"), "x")
    finished = [job.name for job in list_jobs(runs) if job.finished]
    assert finished == [f"{number:02}" for number in range(3, 53)]
    assert {job.state for job in list_jobs(runs) if not job.finished} == {"running", "queued"}


@pytest.mark.usefixtures("unstarted")
def test_the_run_is_made_where_the_asker_stands(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert submit(runs, ("show", "x"), "x", Path("mine")).spec.out == str(tmp_path / "mine")
