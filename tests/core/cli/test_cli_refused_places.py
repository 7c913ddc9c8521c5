"""Paths that the system refuses and places that are taken, found before any work."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from semfreeze_core.runs.folder import MANIFEST
from semfreeze_core.storage import runs_folder
from semfreeze_core.workflow import task
from tests.core.cli.refusals import fail
from tests.core.cli.terminal import ask

pytestmark = pytest.mark.usefixtures("nothing_kept")


def passes_permissions():
    """Whether this process may write where nobody may, as root may unless that power was taken from it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o500)
        return os.access(folder, os.W_OK)


PASSES_PERMISSIONS = passes_permissions()


@pytest.mark.parametrize("number", [errno.EACCES, errno.ELOOP])
def test_analyze_says_when_the_system_refuses_a_path(analyze, monkeypatch, number):
    monkeypatch.setattr(task, "open_rows", fail(OSError(number, os.strerror(number), "locked/t.jsonl")))
    assert analyze().refusal == f"locked/t.jsonl cannot be used: {os.strerror(number)}."


def test_analyze_refuses_a_data_path_the_system_cannot_hold(analyze):
    assert "cannot be used: File name too long" in analyze(data=f"{'x' * 300}.jsonl").refusal


@pytest.mark.parametrize("name", ["example", "two words", "ü", "", "x" * 101])
def test_analyze_refuses_an_impossible_name_before_any_work(analyze, never_loaded, name):
    assert "is not a valid run name" in analyze("--out", name).refusal


def test_analyze_refuses_a_taken_place_before_any_work(analyze, never_loaded, tmp_path, stored, begun):
    stored("tied")
    before = {p: p.read_bytes() for p in (runs_folder() / "tied").iterdir()}
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    (tmp_path / "mine" / MANIFEST).write_text('{"name": "an app"}')
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert "Choose another --out, or replace it with --overwrite" in analyze("--out", "tied").refusal
    assert "is not a folder, but a run is one" in analyze("--out", tmp_path / "file", "--overwrite").refusal
    assert "Something else is at this path" in analyze("--out", tmp_path / "file" / "run").refusal
    assert "already exists" in analyze("--out", ".").refusal
    assert "is not a run folder, so --overwrite will not" in analyze("--out", tmp_path / "mine", "--overwrite").refusal
    assert "is not a folder, but a run is one" in analyze("--out", tmp_path / "dangling", "--overwrite").refusal
    assert "File name too long" in analyze("--out", f"./{'x' * 300}").refusal
    assert {p: p.read_bytes() for p in (runs_folder() / "tied").iterdir()} == before
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == [MANIFEST, "photo.jpg"]


def test_analyze_refuses_a_read_only_place_before_any_work(analyze, never_loaded, monkeypatch, tmp_path):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and real(path, mode))
    message = analyze("--out", tmp_path / "deep" / "run").refusal
    assert f"cannot be written: {tmp_path} is read-only. Choose another location with --out" in message


@pytest.mark.skipif(PASSES_PERMISSIONS, reason="this process passes every permission check, as root does")
def test_analyze_refuses_a_folder_without_write_permission(analyze, never_loaded, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "is read-only" in analyze("--out", tmp_path / "locked" / "run").refusal


def test_analyze_refuses_a_home_that_is_a_file(analyze, never_loaded, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "file"))
    assert "Something else is at this path" in analyze().refusal


@pytest.mark.skipif(PASSES_PERMISSIONS, reason="this process passes every permission check, as root does")
def test_commands_say_what_they_may_not_read(analyze, task, stored, begun, tmp_path):
    locked = tmp_path / "locked"
    shutil.copytree(runs_folder() / stored("tied"), locked / "run")
    shutil.copy(task, locked / "task.jsonl")
    locked.chmod(0o000)
    try:
        assert "Permission denied" in ask("show", locked / "run").refusal
        assert "Permission denied" in analyze(data=locked / "task.jsonl").refusal
        assert "Permission denied" in analyze(model=locked / "model").refusal
        assert "Permission denied" in ask("plan", "tied", "--out", locked / "plan.json").refusal
    finally:
        locked.chmod(0o700)
