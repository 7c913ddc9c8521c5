"""What 0.1.0 left when it was killed is removed where no writer can live, and nothing of others is."""

import os
import time

import psutil
import pytest

from semfreeze_core.runs.store import run_names
from semfreeze_core.storage import new_folder
from semfreeze_core.unlocked_leftovers import remove_abandoned, remove_from_claimed

OURS = (".model-abcd_123", ".settings.json.abcd_123", ".depth-1-seed0.json.abcd_123", ".training.json.0123abcd")
OTHERS = (".model-abc", "model-abcd_123", ".package.json.abcd_123", ".settings.json.ABCDEFGH", "settings.json")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def days_later(monkeypatch):
    """Two days have passed, and of this user's processes only the test's own lives."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86400)
    monkeypatch.setattr(psutil, "process_iter", lambda: [psutil.Process()])


class Living:
    """A process of this user."""

    pid = 2**22

    def __init__(self, born, command="/usr/bin/python3"):
        self.born, self.command = born, command

    def uids(self):
        return psutil.Process().uids()

    def create_time(self):
        return self.born

    def exe(self):
        return self.command

    def cmdline(self):
        return [self.command]


def test_a_claimed_folder_loses_its_leftovers_alone(tmp_path):
    for name in (*OURS, *OTHERS):
        (tmp_path / name).mkdir() if "model" in name else (tmp_path / name).write_text("x")
    (tmp_path / OURS[0] / "weights").write_text("x")
    (tmp_path / ".model-00000000").symlink_to(tmp_path / OTHERS[1])
    remove_from_claimed(tmp_path)
    assert names(tmp_path) == sorted((*OTHERS, ".model-00000000"))


def leave(runs):
    """A run that was half written, one moved aside, and one moved aside that has its replacement."""
    for name in (".a.partial-abcd_123/data", ".b.old-abcd_123/b/data", ".c.old-abcd_123/c/data", "c/data"):
        (runs / name).parent.mkdir(parents=True)
        (runs / name).write_text(name)


@pytest.mark.usefixtures("days_later")
def test_runs_that_were_moved_aside_return_and_half_written_ones_go(tmp_path):
    leave(tmp_path)
    for name in (".a.partial-short", ".d.old-abcd_123"):
        (tmp_path / name).mkdir()
    (tmp_path / ".d.old-abcd_123" / "others").write_text("x")
    assert run_names(tmp_path) == ["b", "c"]
    assert (tmp_path / "b" / "data").read_text() == ".b.old-abcd_123/b/data"
    assert (tmp_path / "c" / "data").read_text() == "c/data"
    assert names(tmp_path) == [".a.partial-short", ".d.old-abcd_123", "b", "c"]


@pytest.mark.usefixtures("days_later")
def test_a_new_run_in_the_store_removes_them_and_one_elsewhere_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    for runs, left in ((tmp_path / "home" / "runs", 0), (tmp_path / "elsewhere", 3)):
        leave(runs)
        with new_folder(runs / "new"):
            pass
        assert sum(name.startswith(".") for name in names(runs)) == left


def test_a_young_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "process_iter", lambda: [])
    leave(tmp_path)
    before = names(tmp_path)
    remove_abandoned(tmp_path, "runs")
    assert names(tmp_path) == before


@pytest.mark.usefixtures("days_later")
@pytest.mark.parametrize(
    ("living", "stays"),
    [(Living(1.0), True), (Living(1.0, "/bin/bash"), False), (Living(1e11), False)],
    ids=["an older Python", "an older shell", "a younger Python"],
)
def test_one_that_a_living_process_may_write_stays(tmp_path, monkeypatch, living, stays):
    monkeypatch.setattr(psutil, "process_iter", lambda: [living])
    (tmp_path / ".prefix-weights-abcd_123").write_text("x")
    remove_abandoned(tmp_path, "scratch")
    assert (names(tmp_path) != []) == stays


@pytest.mark.usefixtures("days_later")
def test_another_users_stays(tmp_path, monkeypatch):
    (tmp_path / ".prefix-weights-abcd_123").write_text("x")
    monkeypatch.setattr(os, "geteuid", lambda: 2**30)
    remove_abandoned(tmp_path, "scratch")
    assert names(tmp_path) == [".prefix-weights-abcd_123"]


@pytest.mark.usefixtures("days_later")
def test_in_the_systems_folder_only_what_0_1_0_left_there_goes(tmp_path):
    for name in ("semfreeze-abcd_123", "semfreeze-holds_it/others", ".a.partial-abcd_123", "semfreeze-notes"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".prefix-weights-abcd_123").write_text("x")
    remove_abandoned(tmp_path, "scratch")
    assert names(tmp_path) == [".a.partial-abcd_123", "semfreeze-holds_it", "semfreeze-notes"]
