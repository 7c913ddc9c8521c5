"""The named runs: found by name or path, listed whatever their state, and never anything else deleted."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from semfreeze_core.errors import RunError
from semfreeze_core.runs.folder import MANIFEST, read_run, write_run
from semfreeze_core.runs.store import (
    example_run,
    find_run,
    free_name,
    is_done,
    list_runs,
    read_note,
    remove_run,
    rename_run,
    require_name,
    run_names,
    run_path,
    stored_run,
    write_note,
)
from semfreeze_core.storage import folder_bytes, runs_folder
from tests.core.runs.left_job import GONE, put

OUTSIDE = ["..", ".", "", "../one", "one/..", "a/b", "/", "~", ".hidden", "one\n", "é", "x" * 101, "a\\b"]


@pytest.fixture
def one(run):
    write_run(run, run_path("one"))
    return runs_folder() / "one"


def test_example_run_can_be_read():
    assert find_run("example") == example_run()
    assert read_run(example_run()).n_examples > 0


def test_find_run_takes_a_name_and_a_path(one, monkeypatch, tmp_path):
    assert find_run("one") == one
    assert find_run(str(one)) == one
    monkeypatch.chdir(one)
    assert find_run(".") == Path(".")
    monkeypatch.setenv("HOME", str(one.parent))
    assert find_run("~/one") == one


def test_find_run_names_the_runs_there_are(one):
    with pytest.raises(RunError, match=r"two: no run with this .*\. Named runs: one\. Bundled run: example"):
        find_run("two")


def test_find_run_says_when_there_are_none():
    with pytest.raises(RunError, match="Named runs: none yet"):
        find_run("two")


@pytest.mark.parametrize("name", [*OUTSIDE, "~nobody-of-this-name/run", "x" * 300])
def test_find_run_refuses_odd_names(one, monkeypatch, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RunError):
        find_run(name)


def test_find_run_refuses_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"is not a run folder: it has no manifest\.json"):
        find_run(str(tmp_path))


@pytest.mark.parametrize("out", ["./one", "a/b", "/somewhere/one", ".hidden", "..", "a\\b"])
def test_run_place_takes_a_path(out):
    assert run_path(out) == Path(out)


def test_run_place_takes_a_name(home):
    assert run_path("one") == home / "runs" / "one"


def test_run_place_knows_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_path("~/one") == tmp_path / "one"
    assert run_path("~nobody-of-this-name/one") == Path("~nobody-of-this-name/one")


@pytest.mark.parametrize("name", ["", "two words", "ü", "-first", "example", "x" * 101, "a:b", "one\n"])
def test_require_name_refuses_what_a_shell_or_a_disk_would_mind(name):
    with pytest.raises(RunError, match=r"is not a valid run name\. Use letters, digits"):
        require_name(name)


@pytest.mark.parametrize("name", ["a", "0", "SmolLM2-135M", "run.v2_final", "x" * 100])
def test_require_name_takes_plain_names(name):
    require_name(name)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("model-task", "model-task"),
        ("Llama 3 / ünï-task", "Llama-3-n--task"),
        ("日本", "run"),
        ("", "run"),
        ("--x.", "x"),
        ("y" * 300, "y" * 80),
    ],
)
def test_free_name_is_always_a_name(wanted, name):
    assert free_name(wanted) == name
    require_name(free_name(wanted))


def test_free_name_is_free_in_the_folder_asked_for(tmp_path, home):
    for name in ("task", "task-2"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
    assert free_name("task", tmp_path / "elsewhere") == "task-3"
    assert free_name("task") == "task"


def test_free_name_counts_on(home):
    for expected in ("task", "task-2", "task-3"):
        assert free_name("task") == expected
        (home / "runs" / expected).mkdir(parents=True)


def test_list_runs_is_empty_without_a_store():
    assert run_names() == []
    assert list_runs() == []


def test_list_runs_tells_what_each_is(one, run):
    write_note("one", "first try")
    (entry,) = list_runs()
    assert entry.name == "one"
    assert entry.manifest == read_run(one).manifest
    assert entry.problem == ""
    assert entry.note == "first try"
    assert entry.bytes == folder_bytes(one) == sum(p.stat().st_size for p in one.iterdir())


@pytest.mark.parametrize(
    "look",
    [
        lambda store: run_names(),
        lambda store: [find_run("one").name],
        lambda store: [find_run(str(store / "one")).name],
        lambda store: [stored_run("one").name],
        lambda store: [free_name("one").removesuffix("-2")],
    ],
    ids=["list", "name", "path", "stored", "free name"],
)
def test_a_run_whose_replacement_was_killed_is_found_again(one, look):
    aside = one.parent / ".semfreeze-old-abcd_123"
    aside.mkdir()
    one.rename(aside / "one")
    half = one.parent / ".semfreeze-part-efgh_456"
    half.mkdir()
    (half / MANIFEST).touch()
    assert look(one.parent) == ["one"]
    assert [path.name for path in one.parent.iterdir()] == ["one"]
    assert read_run(one).n_examples > 0


def test_write_run_keeps_every_file_that_it_does_not_write(run, one):
    (one / "plan.json").write_text("mine")
    (one / "validations" / "task").mkdir(parents=True)
    (one / "validations" / "task" / "report.json").write_text("hours of work")
    (one / "photos").mkdir()
    write_run(run, one, overwrite=True)
    assert (one / "plan.json").read_text() == "mine"
    assert (one / "validations" / "task" / "report.json").read_text() == "hours of work"
    assert (one / "photos").is_dir()


def test_list_runs_lists_what_cannot_be_read_with_the_problem(one, home):
    for name, content in (("cut", b'{"kind": '), ("newer", b'{"kind": "semfreeze run", "schema_version": 99}')):
        shutil.copytree(one, home / "runs" / name)
        (home / "runs" / name / MANIFEST).write_bytes(content)
    (home / "runs" / "empty").mkdir()
    (home / "runs" / "folded" / MANIFEST).mkdir(parents=True)
    (home / "runs" / "noted").mkdir()
    (home / "runs" / "noted" / "note.txt").write_bytes(b"not \xff UTF-8")
    (home / "runs" / "a file").touch()
    (home / "runs" / ".one.partial-x").mkdir()
    entries = {e.name: e for e in list_runs()}
    assert list(entries) == ["cut", "empty", "folded", "newer", "noted", "one"]
    assert [name for name, e in entries.items() if e.manifest] == ["one"]
    messages = {"cut": "damaged", "newer": "newer semfreeze", "empty": "no manifest", "folded": "cannot be read"}
    for name, expected in messages.items():
        assert expected in entries[name].problem
    assert entries["noted"].note == "not \ufffd UTF-8"


def test_run_names_says_when_the_store_cannot_be_read(one, monkeypatch):
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(RunError, match="runs cannot be read: Permission denied"):
        run_names()


def test_write_note_writes_replaces_and_takes_away(one):
    assert read_note(one) == ""
    for text in ("first", "naïve 日本\nsecond line", "[/b]"):
        write_note("one", text)
        assert read_note(one) == text
    write_note("one", "")
    write_note("one", "")
    assert read_note(one) == ""
    assert sorted(p.name for p in one.iterdir()) == sorted([*read_run(one).manifest.files, MANIFEST])


def test_write_note_says_when_it_cannot_be_taken_away(one, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RunError, match=r"note\.txt cannot be written: Permission denied"):
        write_note("one", "")


def test_read_run_does_not_mind_a_note(one, run):
    write_note("one", "kept")
    assert read_run(one).n_examples == run.n_examples


def test_rename_run_moves_everything(one, run):
    write_note("one", "kept")
    rename_run("one", "two")
    assert run_names() == ["two"]
    assert read_note(stored_run("two")) == "kept"
    assert read_run(find_run("two")).n_examples == run.n_examples


@pytest.mark.parametrize("new", ["one", "taken"])
def test_rename_run_never_replaces_a_run(one, home, new):
    (home / "runs" / "taken").mkdir()
    with pytest.raises(RunError, match=f"A run named {new} already exists"):
        rename_run("one", new)
    assert run_names() == ["one", "taken"]


@pytest.mark.parametrize("new", ["../two", "a/b", "example", "", "two words"])
def test_rename_run_refuses_what_is_no_name(one, new):
    with pytest.raises(RunError, match="is not a valid run name"):
        rename_run("one", new)
    assert run_names() == ["one"]


def test_rename_run_says_when_the_disk_refuses(one, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(RunError, match="two cannot be written: Read-only file system"):
        rename_run("one", "two")


def test_remove_run_frees_its_bytes(one):
    size = folder_bytes(one)
    assert remove_run("one") == size > 0
    assert run_names() == []


@pytest.mark.parametrize(
    "act",
    [remove_run, stored_run, lambda name: rename_run(name, "x"), lambda name: write_note(name, "x")],
    ids=["remove_run", "stored_run", "rename_run", "write_note"],
)
@pytest.mark.parametrize("name", [*OUTSIDE, "two", "example"])
def test_nothing_outside_the_store_is_touched(one, tmp_path, monkeypatch, act, name):
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match="no run with this name in"):
        act(name)
    assert sorted(tmp_path.rglob("*")) == before
    assert example_run().is_dir()


def test_remove_run_takes_away_a_link_and_leaves_what_it_points_to(one, tmp_path):
    shutil.move(one, tmp_path / "archive")
    one.symlink_to(tmp_path / "archive")
    assert run_names() == ["one"]
    assert read_run(find_run("one")).n_examples
    assert remove_run("one") == 0
    assert run_names() == []
    assert (tmp_path / "archive" / MANIFEST).exists()


def test_remove_run_takes_nothing_away_where_it_may_not_remove_the_folder(one, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunError, match=r"one cannot be written: .*runs is read-only"):
        remove_run("one")
    assert read_run(one).n_examples


def test_is_done_only_for_the_same_reading(one, run):
    manifest = run.manifest
    same = {
        "model": manifest.model.identity.source,
        "data": manifest.data.source,
        "examples": manifest.settings.examples,
    }
    assert is_done(one, **same)
    for change in ({"model": "embedded"}, {"data": "other"}, {"examples": 7}):
        assert not is_done(one, **(same | change))
    assert not is_done(one.parent / "absent", **same)
    text = (one / MANIFEST).read_text(encoding="utf-8")
    (one / MANIFEST).write_text(text.replace(f'"semfreeze": "{manifest.provenance.semfreeze}"', '"semfreeze": "0.0.1"'))
    assert not is_done(one, **same)


def test_write_run_keeps_the_note_of_the_run_it_replaces(run, one):
    write_note("one", "my own words")
    write_run(run, one, overwrite=True)
    assert read_note(one) == "my own words"
    assert read_run(one).n_examples == run.n_examples


@pytest.mark.parametrize("named", ["command", "out"])
def test_a_run_that_a_job_works_in_is_neither_deleted_nor_renamed(one, named):
    spec = {"command": ("umap", str(one))} if named == "command" else {"out": str(one / "validations" / "x")}
    put(one.parent, "7", **spec)  # queued
    for act in (lambda: remove_run("one"), lambda: rename_run("one", "two")):
        with pytest.raises(RunError, match=r"one is in use: 7 is queued\. .*`semfreeze jobs cancel 7`"):
            act()
    put(one.parent, "7", GONE, "done", **spec)
    put(one.parent, "8", out=str(one.parent / "one-more"))
    rename_run("one", "two")
    assert remove_run("two") > 0


def test_another_folder_of_runs_has_its_own_runs(one, run, tmp_path):
    write_run(run, tmp_path / "elsewhere" / "far")
    store = tmp_path / "elsewhere"
    assert run_names(store) == ["far"]
    write_note("far", "seen", store)
    rename_run("far", "near", store)
    assert [(entry.name, entry.note) for entry in list_runs(store)] == [("near", "seen")]
    with pytest.raises(RunError, match=f"one: no run with this name in {store}"):
        remove_run("one", store)
    remove_run("near", store)
    assert list_runs(store) == []
    assert run_names() == ["one"]
