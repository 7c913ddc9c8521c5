"""What killed writers leave is removed, what they were replacing returns, and nothing else is touched."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile

import pytest

from semfreeze_core.errors import ResourceError, RunError
from semfreeze_core.finetune.train import folder as training_folder
from semfreeze_core.finetune.validation import validate
from semfreeze_core.runs.jobs import submit
from semfreeze_core.storage import new_folder, write_atomically
from semfreeze_core.temporary import (
    is_temporary,
    moved_aside,
    remove_leftovers,
    require_locks,
    scratch_parent,
    temporary_file,
    temporary_folder,
)
from tests.core.killed_writes import kill_everywhere

RUN = '{"kind": "semfreeze run"}'
NAME = ".semfreeze-part-abcd_123"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def make_run(folder):
    (folder / "validations" / "task").mkdir(parents=True)
    for name in ("manifest.json", "data", "plan.json", "validations/task/report.json"):
        (folder / name).write_text(RUN if name == "manifest.json" else f"old {name}")
    (folder / "link").symlink_to("plan.json")
    return folder


def overwrite(folder):
    with new_folder(folder / "one", overwrite=True) as partial:
        (partial / "manifest.json").write_text(RUN)
        (partial / "data").write_text("new")


def test_an_overwrite_killed_before_any_operation_leaves_the_old_or_the_new_and_loses_nothing(tmp_path):
    def prepare(n):
        make_run(tmp_path / str(n) / "one")
        return tmp_path / str(n)

    stood = []
    for folder, kill in kill_everywhere(prepare, overwrite):
        remove_leftovers(folder)
        assert names(folder) == ["one"], kill.operations
        files = contents(folder / "one")
        stood.append(files["data"])
        expected = {name: f"old {name}" for name in ("plan.json", "validations/task/report.json")}
        assert files == expected | {"manifest.json": RUN, "data": files["data"], "link": "old plan.json"}
        assert (folder / "one" / "link").is_symlink()
    assert len(stood) > 15
    assert stood == sorted(stood, reverse=True), "old until the exchange, new from then on"
    assert {"old data", "new"} == set(stood)


def test_a_run_half_deleted_after_its_replacement_does_not_return(tmp_path):
    def prepare(n):
        make_run(tmp_path / str(n) / "one")
        return tmp_path / str(n)

    met = 0
    for folder, kill in kill_everywhere(prepare, overwrite):
        if kill.operations and "os.remove" in kill.operations[-1]:  # inside the deletion of the old one
            met += 1
            (folder / "one").rename(folder / "taken away")
            remove_leftovers(folder)
            assert names(folder) == ["taken away"]
    assert met > 3


def test_a_write_killed_before_any_operation_leaves_one_whole_file(tmp_path):
    def prepare(n):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "file").write_text("old")
        return folder

    for folder, _ in kill_everywhere(prepare, lambda folder: write_atomically(folder / "file", "new")):
        assert (folder / "file").read_text() in ("old", "new")
        write_atomically(folder / "another", "")  # the next write there removes what was left
        assert names(folder) == ["another", "file"]


def test_remove_leftovers_touches_nothing_of_others(tmp_path):
    others = (".semfreeze-part-mine", ".semfreeze-old-abcd_1234", "semfreeze-abcd_123", ".one.partial-abcd_123")
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / "real").write_text("kept")
    (tmp_path / NAME).symlink_to(tmp_path / "real")  # never a link, even by our name
    before = names(tmp_path)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == before
    assert (tmp_path / "real").read_text() == "kept"


def test_remove_leftovers_removes_files_and_folders_that_nobody_holds(tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "file").touch()
    (tmp_path / ".semfreeze-part-00000000").touch()
    os.mkfifo(tmp_path / ".semfreeze-part-00000001")  # does not wait for a writer
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []
    remove_leftovers(tmp_path / "absent")


def test_what_a_living_writer_holds_stays(tmp_path):
    (tmp_path / "run").mkdir()
    with temporary_file(tmp_path) as file, temporary_folder(tmp_path) as folder:
        with moved_aside(tmp_path / "run"):
            remove_leftovers(tmp_path)
            assert file.exists()
            assert folder.is_dir()
            assert len(names(tmp_path)) == 3
            assert all(map(is_temporary, names(tmp_path)))
        assert (tmp_path / "run").is_dir(), "nothing was put in its place"
    assert names(tmp_path) == ["run"]


def test_a_file_is_made_again_when_it_is_taken_for_a_leftover_before_it_is_locked(tmp_path, monkeypatch):
    inner, made = tempfile.mkdtemp, []

    def mkdtemp(**how):
        made.append(inner(**how))
        if len(made) == 1:
            remove_leftovers(tmp_path)
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with temporary_folder(tmp_path) as folder:
        assert str(folder) == made[1]
        assert folder.is_dir()


@pytest.mark.slow
def test_what_a_process_left_that_was_killed_is_removed(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from semfreeze_core.temporary import temporary_folder
with temporary_folder(Path({str(tmp_path)!r})) as folder:
    (folder / "file").touch()
    print(folder.name, flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        name = process.stdout.readline().decode().strip()
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [name], "its writer lives"
        process.kill()
        process.wait()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


@pytest.fixture
def without_locks(monkeypatch):
    """File systems have no locks, as some network folders, and say so with the number that the test sets."""

    def set_number(number):
        def refuse(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)
        monkeypatch.setattr("semfreeze_core.temporary._with_locks", set())

    return set_number


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_folder_without_locks_is_refused_in_one_sentence_by_what_needs_it_alone(tmp_path, without_locks, number):
    without_locks(number)
    for take in (require_locks, lambda folder: submit(folder, ("show", "example"), "Show")):
        with pytest.raises(RunError, match=r"is on a file system without file locks .* local disk, with --out or"):
            take(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    write_atomically(tmp_path / "file", "whole")  # writing needs none
    with new_folder(tmp_path / "run") as partial:
        (partial / "data").write_text("whole")
    assert names(tmp_path) == [".jobs", "file", "run"]


def test_a_finetune_in_a_folder_without_locks_is_refused_and_leaves_nothing(tmp_path, without_locks):
    without_locks(errno.ENOLCK)
    with pytest.raises(RunError, match="without file locks"), training_folder.claimed(tmp_path / "out", None):
        pytest.fail("it began")
    assert names(tmp_path) == []
    with pytest.raises(RunError, match="without file locks"), validate._claimed(tmp_path / "out", None, False):
        pytest.fail("it began")


def test_a_folder_with_locks_is_asked_once(tmp_path, monkeypatch):
    monkeypatch.setattr("semfreeze_core.temporary._with_locks", set())
    require_locks(tmp_path)
    monkeypatch.setattr(fcntl, "flock", lambda *_: pytest.fail("it was asked again"))
    require_locks(tmp_path)
    assert names(tmp_path) == []


def test_scratch_parent_says_when_there_is_none(monkeypatch):
    def none_usable():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none_usable)
    with pytest.raises(ResourceError, match=r"found in \['/tmp'\]\. Free some space there, or set TMPDIR"):
        scratch_parent()
