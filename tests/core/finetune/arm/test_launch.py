"""An arm's process: its end is told apart, its progress passed on, and nothing outlives who started it."""

import errno
import json
import subprocess
import sys
import threading

import psutil
import pytest

from semfreeze_core.errors import InputError, ModelError, ResourceError, SemfreezeError
from semfreeze_core.finetune.arm import launch, process
from semfreeze_core.finetune.arm.cancel import Cancel, Canceled
from semfreeze_core.finetune.arm.launch import OutOfMemory, run_arm_process
from semfreeze_core.finetune.arm.process import NO_ROOM, OUT_OF_MEMORY, REFUSED


@pytest.fixture
def process_that(tmp_path, monkeypatch):
    """Runs a script in the place of an arm's process; returns the events told."""

    def run(script, **kwargs):
        (tmp_path / "arm.py").write_text(script)

        def popen(command, **options):
            return subprocess.Popen([sys.executable, str(tmp_path / "arm.py"), command[-1]], **options)

        monkeypatch.setattr(launch, "_start", popen)
        events = []
        progress = kwargs.pop("progress", events.append)
        run_arm_process(tmp_path / "job.json", tmp_path / "logs" / "arm.log", progress, **kwargs)
        return events

    return run


def test_run_arm_process_passes_progress_on(process_that):
    event = json.dumps({"stage": "full", "done": 3, "total": 9, "unit": "steps", "message": ""})
    (event_passed,) = process_that(f"print('noise'); print('[1]'); print({event!r})")
    assert (event_passed.stage, event_passed.done, event_passed.total, event_passed.unit) == ("full", 3, 9, "steps")


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ('print(\'{"reason": "none left"}\'); raise SystemExit(3)', OutOfMemory, "none left"),
        ("import os; os.kill(os.getpid(), 9)", OutOfMemory, "the system killed its process"),
        ('print(\'{"reason": "wrong model"}\'); raise SystemExit(4)', InputError, "wrong model"),
        ('print(\'{"reason": "disk is full"}\'); raise SystemExit(5)', ResourceError, "disk is full"),
        ("raise RuntimeError('deep inside')", SemfreezeError, "deep inside"),
    ],
)
def test_run_arm_process_tells_ends_apart(process_that, script, error, message):
    with pytest.raises(error, match=message):
        process_that(script)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ResourceError("The disk is full: x."), NO_ROOM, "The disk is full: x."),
        (OSError(errno.ENOSPC, "No space left on device"), NO_ROOM, "The disk is full ([Errno 28]"),
        (RuntimeError("basic_ios::clear: iostream error"), NO_ROOM, "The disk is full (basic_ios"),
        (MemoryError("none left"), OUT_OF_MEMORY, "none left"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OUT_OF_MEMORY, "DefaultCPUAllocator: can't"),
        (ModelError("cannot be trained"), REFUSED, "cannot be trained"),
    ],
)
def test_main_tells_who_started_it_why_it_ended(monkeypatch, capsys, error, code, message):
    def fail(path, device):
        raise error

    monkeypatch.setattr(process, "run_job", fail)
    monkeypatch.setattr(process, "_hide_other_gpus", lambda path: "cpu")
    monkeypatch.setattr(process, "_end_with_parent", lambda: None)
    assert process.main("job.json") == code
    assert json.loads(capsys.readouterr().out)["reason"].startswith(message)


def test_run_arm_process_ends_what_it_started_when_interrupted(process_that, tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    script = f"""
import os, time
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
print('{{"stage": "x"}}', flush=True)
time.sleep(60)
"""
    with pytest.raises(KeyboardInterrupt):
        process_that(script, progress=interrupt)
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid)


def test_run_arm_process_is_canceled_from_another_thread_and_begins_no_more(process_that):
    cancel = Cancel()
    script = 'import time; print(\'{"stage": "x"}\', flush=True); time.sleep(60)'
    with pytest.raises(Canceled):
        process_that(script, cancel=cancel, progress=lambda _: threading.Thread(target=cancel).start())
    with pytest.raises(Canceled):
        process_that("raise SystemExit('it began')", cancel=cancel)


def test_run_arm_process_adds_variables_and_takes_them_away(process_that, monkeypatch):
    monkeypatch.setenv("TAKEN_AWAY", "here")
    script = """
import json, os
print(json.dumps({"stage": str((os.environ.get("TAKEN_AWAY"), os.environ.get("ADDED"), "PATH" in os.environ))}))
"""
    (event,) = process_that(script, environment={"TAKEN_AWAY": None, "ADDED": "1"})
    assert event.stage == "(None, '1', True)"


def test_an_arms_process_ends_when_its_parent_is_gone():
    code = """
import time
from semfreeze_core.finetune.arm.process import _end_with_parent
_end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=300) == 1
