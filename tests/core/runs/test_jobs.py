"""Background jobs: they outlive who started them, wait for their turn, say how they ended, and go when told to."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from semfreeze_core.errors import RunError
from semfreeze_core.records.job import JobProcess
from semfreeze_core.runs import job_folder as folders
from semfreeze_core.runs import job_process
from semfreeze_core.runs.job_folder import CANCEL, END, LOCK, LOG, PROCESS, SPEC, end_group, read_log, this_process
from semfreeze_core.runs.job_process import AT_ONCE_VARIABLE, hold_job, jobs_at_once
from semfreeze_core.runs.jobs import JOBS, cancel, failure, find_job, job_folder, list_jobs, revive, submit
from semfreeze_core.storage import write_atomically
from tests.core.runs.held_job import PATIENCE, HeldCommand, wait_for, wait_for_state
from tests.core.runs.left_job import DEAD, GONE, put


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of runs; whatever still runs there is ended."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv(AT_ONCE_VARIABLE, raising=False)
    folder = tmp_path / "runs"
    yield folder
    for job in list_jobs(folder):
        if (process := folders.read_process(folder / JOBS / job.name)) and process.pid not in (os.getpid(), GONE.pid):
            end_group(process)


@pytest.fixture
def held(tmp_path):
    """Makes commands that stand still until they are let go."""
    made = []

    def make():
        made.append(HeldCommand(tmp_path / f"held-{len(made)}"))
        return made[-1]

    yield make
    for command in made:
        command.close()


def states(runs):
    return {job.name: job.state for job in list_jobs(runs)}


def pid_of(runs, job):
    return folders.read_process(runs / JOBS / job.name).pid


# What a folder says


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
    place = put(runs, "one", DEAD)

    def gone(folder):
        put(runs, "one", DEAD, "done")
        return False

    monkeypatch.setattr(folders, "is_alive", gone)
    assert folders.job_state(place) == "done"


def test_job_of_another_machine_lives_while_its_lock_is_held(runs):
    place = put(runs, "one", DEAD.model_copy(update={"host": "elsewhere"}))
    with folders.FileLock(place / LOCK):
        assert states(runs) == {"one": "running"}
        with pytest.raises(RunError, match="runs on elsewhere, and can be cancelled only there"):
            cancel(runs, "one")
        assert not (place / CANCEL).exists()  # else it would call itself cancelled in the end
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
    put(runs, "newer", schema_version=2)
    assert list_jobs(runs) == []
    with pytest.raises(RunError, match="no job called 'newer'"):
        cancel(runs, "newer")


@pytest.mark.parametrize("name", ["absent", "..", "../.jobs/one", "", "."])
def test_no_name_leads_out_of_the_folder(runs, name):
    put(runs, "one")
    for ask in (find_job, job_folder, cancel):
        with pytest.raises(RunError, match="There is no job called"):
            ask(runs, name)
    assert job_folder(runs, "one") == runs / JOBS / "one"


def test_damaged_process_file_reads_as_none(runs):
    place = put(runs, "one")
    (place / PROCESS).write_text('{"pid": 1,')
    assert states(runs) == {"one": "queued"}


def test_places_count_who_comes_before(runs):
    put(runs, "1", DEAD, "done")
    put(runs, "2", this_process(2.0))
    put(runs, "3", this_process())
    put(runs, "4", DEAD)
    put(runs, "5", this_process())
    assert [(job.name, job.place) for job in list_jobs(runs)] == [("1", 0), ("2", 0), ("3", 1), ("4", 0), ("5", 2)]


@pytest.mark.parametrize(
    ("state", "log", "words"),
    [
        ("failed", "Loading\nsemfreeze: x: no such file.\n", "x: no such file."),
        ("failed", "semfreeze: It is being computed again.\nTraceback (most recent call last):\nE: x\n", "E: x"),
        ("failed", "", "It said nothing."),
        ("dead", "", "Its process is gone without a word: killed, out of memory, or the machine was stopped."),
        (
            "dead",
            "Loading the model\nReading hidden states\n",
            "Its process is gone without a word: killed, out of memory, or the machine was stopped. "
            "Last it said: Reading hidden states",
        ),
    ],
)
def test_failure_is_told_in_the_jobs_own_words(runs, state, log, words):
    put(runs, "one", DEAD, "failed" if state == "failed" else None, log=log)
    assert failure(runs, find_job(runs, "one")) == words


def test_log_gives_its_last_lines_of_any_bytes(runs):
    place = put(runs, "one")
    (place / LOG).write_bytes(b"old\n" * 100_000 + b"caf\xc3\xa9 \xff\nlast")
    assert read_log(place, 2) == "café \ufffd\nlast"
    (place / LOG).unlink()
    assert read_log(place, 2) == ""


# What a job's process does


def test_hold_job_says_that_it_is_there_and_how_it_ended(runs):
    for name, code, state in (("1", 0, "done"), ("2", 2, "failed")):
        place = put(runs, name)

        def work(name=name, code=code):
            assert states(runs)[name] == "running"
            return code

        hold_job(place, work)
        assert states(runs)[name] == state
        assert find_job(runs, name).started <= find_job(runs, name).ended <= time.time()


def never():
    raise AssertionError("it must not work")


def test_hold_job_works_once(runs):
    place = put(runs, "one")
    hold_job(place, lambda: hold_job(place, never) or 0)  # while one holds it, a second one does nothing
    hold_job(place, never)  # nor after it ended
    assert states(runs) == {"one": "done"}


def test_hold_job_does_not_begin_what_was_cancelled_before_it_came_up(runs):
    place = put(runs, "one", cancelled=True)
    hold_job(place, never)
    assert states(runs) == {"one": "cancelled"}
    assert find_job(runs, "one").started is None


@pytest.mark.parametrize(("code", "state"), [(0, "done"), (2, "cancelled")])
def test_a_cancel_that_came_too_late_takes_nothing_away(runs, code, state):
    place = put(runs, "one")

    def work():
        write_atomically(place / CANCEL, "")
        return code

    hold_job(place, work)
    assert states(runs) == {"one": state}


def interrupt(*args):
    raise KeyboardInterrupt


def test_hold_job_interrupted_at_work_has_failed(runs):
    place = put(runs, "one")
    hold_job(place, interrupt)
    assert states(runs) == {"one": "failed"}


def test_hold_job_interrupted_while_it_waits_stays_queued(runs, monkeypatch):
    put(runs, "1", this_process(2.0))
    place = put(runs, "2")
    monkeypatch.setattr(job_process.time, "sleep", interrupt)
    hold_job(place, never)
    assert not (place / END).exists()
    write_atomically(place / PROCESS, GONE.model_dump_json())  # as it reads once its process has ended
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
    place = put(runs, "5", this_process())
    assert job_process._take_turn(place) == turn
    assert states(runs)["5"] == ("running" if turn else "queued")


@pytest.mark.parametrize(
    ("told", "number"), [(None, 1), ("", 1), ("3", 3), ("0", 1), ("-2", 1), ("two", 1), ("²", 1), ("٣", 3)]
)
def test_jobs_at_once(monkeypatch, told, number):
    monkeypatch.delenv(AT_ONCE_VARIABLE, raising=False)
    if told is not None:
        monkeypatch.setenv(AT_ONCE_VARIABLE, told)
    assert jobs_at_once() == number


# Ending what a job started

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


@pytest.mark.parametrize("leader", ["obeys", "deaf"])
def test_end_group_ends_deaf_children_orphans_and_sessions_of_their_own(leader):
    """Three deaf processes: a child, a child with a session of its own, and one whose parent is gone."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", TREE, leader], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout.readline() == b"up\n"
        found = psutil.Process(process.pid)

        def four():
            family = {found, *found.children(recursive=True), *in_group(process.pid)}
            return family if sum(map(folders._lives, family)) == 4 else None

        family = wait_for(four)
        job = JobProcess(pid=process.pid, born=folders._born(process.pid), host=GONE.host)
        begun = time.monotonic()
        end_group(job)
        assert time.monotonic() - begun < 3
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
    place = put(runs, "one", this_process(2.0))

    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    with pytest.raises(RunError, match="another user's"):
        cancel(runs, "one")
    assert not (place / CANCEL).exists()


# Jobs as people meet them


def test_jobs_run_one_at_a_time_in_order_and_say_how_they_ended(runs, held):
    first, second = held(), held()
    one = first.submit(runs)
    two = second.submit(runs)
    assert (one.name < two.name, one.spec.command) == (True, first.words)
    first.wait_until_it_works()
    assert [(job.state, job.place) for job in list_jobs(runs)] == [("running", 0), ("queued", 1)]
    assert first.submit(runs).name == one.name  # the same is shared,
    assert second.submit(runs).name == two.name  # waiting or not
    leader = psutil.Process(pid_of(runs, one))
    assert os.getpgid(leader.pid) == os.getsid(leader.pid) == leader.pid
    first.let_go()
    ended = wait_for_state(runs, one.name, "done", "failed")
    assert ended.state == "done", read_log(runs / JOBS / one.name, 20)
    assert "layers" in read_log(runs / JOBS / one.name, 50)
    second.let_go(b"{")
    assert wait_for_state(runs, two.name, "done", "failed").state == "failed"
    assert "manifest.json is damaged" in failure(runs, find_job(runs, two.name))
    wait_for(lambda: not leader.is_running())  # nobody listed, and no zombie stays
    again = first.submit(runs)
    assert again.name > two.name  # what has ended is done anew


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


def test_killed_jobs_are_dead_or_wait_anew_and_the_queue_goes_on(runs, held):
    commands = [held() for _ in range(3)]
    one, two, three = (command.submit(runs) for command in commands)
    commands[0].wait_until_it_works()
    os.kill(pid_of(runs, two), signal.SIGKILL)
    wait_for(lambda: not folders.is_alive(runs / JOBS / two.name))
    assert find_job(runs, two.name).state == "queued"
    os.kill(pid_of(runs, one), signal.SIGKILL)
    assert wait_for_state(runs, one.name, "dead").ended is None
    assert failure(runs, find_job(runs, one.name)).startswith("Its process is gone without a word")
    wait_for_state(runs, three.name, "running")  # the third's turn: the second has no process that could take it
    revive(runs)
    revive(runs)
    assert folders.is_alive(runs / JOBS / two.name)
    assert [job.state for job in list_jobs(runs)] == ["dead", "queued", "running"]
    cancel(runs, three.name)
    wait_for_state(runs, two.name, "running")


def test_submit_starts_the_process_of_the_same_job_when_it_has_none(runs, held):
    command = held()
    put(runs, "1", GONE, command=command.words)
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
            [sys.executable, "-c", SUBMIT, runs.name, *command.words],
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
    begun = time.monotonic()
    ended = cancel(runs, job.name)
    assert time.monotonic() - begun < 3
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


def test_submit_does_not_join_what_is_being_cancelled(runs, held):
    command = held()
    put(runs, "1", this_process(2.0), command=command.words, cancelled=True)
    assert command.submit(runs).name != "1"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("show", "absent"), "absent: no run by this name or path."),
        (("no-such-command",), "No such command"),
    ],
)
def test_failed_job_gives_the_sentence(runs, command, words):
    job = submit(runs, command, "It fails")
    assert wait_for_state(runs, job.name, "done", "failed").state == "failed"
    assert words in failure(runs, find_job(runs, job.name))


def test_a_process_that_does_not_come_up_leaves_nothing(runs, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RunError, match=r"did not come up\. It said: nothing"):
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
    with pytest.raises(RunError, match="something stands in its path"):
        submit(tmp_path / "file" / "runs", ("show", "example"), "Show")
    assert list_jobs(tmp_path / "file" / "runs") == []


@pytest.fixture
def unstarted(monkeypatch):
    """Jobs are written down, and no process is started."""
    monkeypatch.setattr("semfreeze_core.runs.jobs._start", lambda folder: None)


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
