"""Writing to disk: whole or not at all, and clear words when the disk says no."""

import errno
import json
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from hypothesis import given
from hypothesis import strategies as st

from semfreeze_core.errors import ResourceError, RunError
from semfreeze_core.storage import (
    cache_entries,
    cache_folder,
    digest,
    disk_errors,
    folder_bytes,
    found_source,
    home,
    is_disk_full,
    kept_source,
    moved_source,
    new_folder,
    prefix_cache_folder,
    require_free,
    runs_folder,
    source_beside,
    source_from,
    write_atomically,
)

RUN = '{"kind": "semfreeze run"}'


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_run(folder, content="old"):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(RUN)
    (folder / "data").write_text(content)
    return folder


def raises(error):
    def stop(*_, **__):
        raise error

    return stop


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    assert os.umask(before) == 0o027, "writing leaves the process's umask as it was"


def test_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path))
    assert home() == tmp_path
    assert runs_folder() == tmp_path / "runs"
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("SEMFREEZE_HOME", "~/kept")
    assert home() == tmp_path / "me" / "kept"
    assert cache_folder() == tmp_path / "me" / "kept" / "cache"


def test_prefix_caches_are_among_what_is_listed_and_cleared(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path))
    cache = prefix_cache_folder() / "key"
    cache.mkdir(parents=True)
    assert cache_entries() == [cache]


@pytest.mark.parametrize("value", [None, ""])
def test_home_is_the_platforms_without_the_environment(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("SEMFREEZE_HOME", raising=False)
    else:
        monkeypatch.setenv("SEMFREEZE_HOME", value)
    assert home().name == "semfreeze"
    assert home().is_absolute()
    assert cache_folder().is_absolute()
    assert cache_folder() != home()


@pytest.mark.parametrize("content", ["naïve\n", b"\x00\xff", ""])
def test_write_atomically_writes_the_content(tmp_path, content):
    path = tmp_path / "deep" / "er" / "file"
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(path.parent) == ["file"]


def test_write_atomically_replaces_and_obeys_the_umask(tmp_path, umask):
    path = tmp_path / "file"
    path.write_text("old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_writing_never_changes_the_umask_under_which_other_threads_write(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "umask", raises(AssertionError("the umask belongs to the whole process")))
    write_atomically(tmp_path / "file", "new")
    with new_folder(tmp_path / "folder") as partial:
        assert names(partial) == []
        assert stat.S_IMODE(partial.stat().st_mode) == 0o700, "nobody else sees what is half written"
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("stopped")], ids=["interrupt", "error"])
def test_write_atomically_leaves_the_old_file_when_stopped(monkeypatch, tmp_path, step, error):
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, step, raises(error))
    with pytest.raises(type(error)):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_write_atomically_says_when_the_disk_is_full(monkeypatch, tmp_path, number):
    path = tmp_path / "runs" / "file"
    monkeypatch.setattr(os, "fsync", raises(OSError(number, os.strerror(number))))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 3 * 2**20))
    with pytest.raises(ResourceError) as caught:
        write_atomically(path, "new")
    assert str(caught.value) == (
        f"The disk is full: {path} could not be written (3 MiB free). "
        "Nothing was saved. Free some space, or choose another location with --out or SEMFREEZE_HOME."
    )
    assert names(path.parent) == []


def test_disk_errors_asks_the_nearest_folder_that_exists(tmp_path):
    with pytest.raises(ResourceError, match=r"\(\d+ MiB free\)"), disk_errors(tmp_path / "not" / "yet" / "there"):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EFBIG, "x"), True),
        (OSError(errno.EIO, "x"), False),
        (Exception("I/O error: File too large (os error 27)"), True),
        (RuntimeError("basic_ios::clear: iostream error"), True),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), True),
        (RuntimeError("[enforce fail at inline_container.cc:626] . unexpected pos 64 vs 0"), True),
        (ValueError("an unexpected position"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_is_disk_full_knows_it_in_every_librarys_words(error, full):
    assert is_disk_full(error) == full
    outer = RunError("clear")
    outer.__cause__ = error
    assert is_disk_full(outer) == full


def test_disk_errors_says_what_is_kept_and_what_to_do(tmp_path):
    with (
        pytest.raises(ResourceError) as caught,
        disk_errors(tmp_path, saved_text=lambda: "Step 4 is kept.", advice="Run it again."),
    ):
        raise OSError(errno.EFBIG, "File too large")
    assert str(caught.value).startswith("The disk is full or limits the size of a file:")
    assert str(caught.value).endswith(" MiB free). Step 4 is kept. Run it again.")


def test_disk_errors_of_who_knows_what_is_kept_says_it_of_what_is_written_inside(tmp_path):
    def write(**inner):
        with (
            disk_errors(tmp_path, saved_text=lambda: "Step 4 is kept.", advice="Run it again."),
            disk_errors(tmp_path / "file", **inner),
        ):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match=r"file could not be written .*Step 4 is kept\. Run it again\.$") as caught:
        write()
    assert is_disk_full(caught.value)
    with pytest.raises(ResourceError, match=r"file could not be written .*The weights stay\. Set TMPDIR\.$"):
        write(saved_text=lambda: "The weights stay.", advice="Set TMPDIR.")


def test_disk_errors_knows_a_full_disk_in_safetensors_words(tmp_path):
    class SafetensorError(Exception):
        pass

    with pytest.raises(ResourceError, match="The disk is full"), disk_errors(tmp_path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        TimeoutError("timed out"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        OSError("Max retries exceeded"),
        LocalEntryNotFoundError("the hub is out of reach and the file is not in the cache"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("a matrix has the wrong shape"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_disk_errors_leaves_errors_of_networks_and_memory_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENAMETOOLONG])
def test_disk_errors_say_when_a_place_cannot_be_written(tmp_path, number):
    with pytest.raises(RunError) as caught, disk_errors(tmp_path / "run"):
        raise OSError(number, os.strerror(number))
    folder = tmp_path / "run"
    assert (
        str(caught.value) == f"{folder} cannot be written: {os.strerror(number)}. Choose another location with --out."
    )


@pytest.mark.parametrize("error", [ValueError("other"), RunError("clear"), KeyboardInterrupt()])
def test_disk_errors_lets_other_errors_through(tmp_path, error):
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


def test_write_atomically_refuses_a_file_or_folder_in_the_way(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError, match="Something else is at this path"):
        write_atomically(tmp_path / "file" / "below", "new")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(RunError, match="Something else is at this path"):
        write_atomically(tmp_path / "folder", "new")
    assert (tmp_path / "file").read_text() == "kept"
    assert names(tmp_path) == ["file", "folder"]


def test_write_atomically_follows_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    for content in ("first", "second"):
        write_atomically(tmp_path / "link", content)
        assert (tmp_path / "real" / "file").read_text() == content
    assert (tmp_path / "link").is_symlink()


def test_write_atomically_never_replaces_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match="pipe cannot be written"):
        write_atomically(tmp_path / "pipe", "new")
    assert (tmp_path / "pipe").is_fifo()


def test_new_folder_appears_only_when_complete(tmp_path, umask):
    target = tmp_path / "runs" / "one"
    with new_folder(target) as partial:
        assert partial.parent == target.parent
        assert partial.name.startswith(".")
        (partial / "data").write_text("new")
        assert not target.exists()
    assert (target / "data").read_text() == "new"
    assert names(target.parent) == ["one"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o750


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), RuntimeError("stopped"), RunError("no")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_new_folder_leaves_nothing_behind_when_stopped(tmp_path, error, overwrite):
    target = tmp_path / "one"
    if overwrite:
        make_run(target)

    def write():
        with new_folder(target, overwrite=overwrite) as partial:
            (partial / "data").write_text("half")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert names(tmp_path) == (["one"] if overwrite else [])
    assert not overwrite or (target / "data").read_text() == "old"


def test_new_folder_says_when_the_disk_is_full(tmp_path):
    def write():
        with new_folder(tmp_path / "one") as partial:
            (partial / "data").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match=r"The disk is full: .*one could not be written"):
        write()
    assert names(tmp_path) == []


def test_new_folder_overwrites_only_at_the_end(tmp_path):
    target = make_run(tmp_path / "one")
    with new_folder(target, overwrite=True) as partial:
        (partial / "manifest.json").write_text(RUN)
        assert (target / "data").read_text() == "old"
    assert names(target) == ["data", "manifest.json"]  # what was not written again is kept
    assert (target / "data").read_text() == "old"
    assert names(tmp_path) == ["one"]


def test_new_folder_keeps_the_old_run_when_the_exchange_fails(monkeypatch, tmp_path):
    target = make_run(tmp_path / "one")
    inner = os.replace

    def replace(source, destination):
        if Path(destination) == target and ".semfreeze-part-" in str(source):
            raise OSError(errno.EIO, "Input/output error")
        inner(source, destination)

    monkeypatch.setattr(os, "replace", replace)

    def write():
        with new_folder(target, overwrite=True):
            pass

    with pytest.raises(RunError, match="one cannot be written: Input/output error"):
        write()
    assert (target / "data").read_text() == "old"
    assert names(tmp_path) == ["one"]


def enter(target, *, overwrite=False):
    with new_folder(target, overwrite=overwrite):
        raise AssertionError("entered")


def test_new_folder_refuses_an_existing_run_before_any_work(tmp_path):
    target = make_run(tmp_path / "one")
    with pytest.raises(RunError) as caught:
        enter(target)
    assert str(caught.value) == (f"{target} already exists. Choose another --out, or replace it with --overwrite.")
    assert (target / "data").read_text() == "old"


@pytest.mark.parametrize("overwrite", [False, True])
def test_new_folder_refuses_a_file(tmp_path, overwrite):
    target = tmp_path / "one"
    target.write_text("kept")
    with pytest.raises(RunError, match=r"one is not a folder, but a run is one\. Choose another --out\."):
        enter(target, overwrite=overwrite)
    assert target.read_text() == "kept"


@pytest.mark.parametrize("manifest", [None, '{"name": "a browser extension"}'])
def test_new_folder_never_overwrites_what_is_no_run(tmp_path, manifest):
    target = tmp_path / "photos"
    target.mkdir()
    (target / "cat.jpg").write_text("kept")
    if manifest:
        (target / "manifest.json").write_text(manifest)
    with pytest.raises(RunError, match="photos is not a run folder, so --overwrite will not replace it"):
        enter(target, overwrite=True)
    assert (target / "cat.jpg").read_text() == "kept"


def test_new_folder_may_overwrite_a_damaged_run(tmp_path):
    target = tmp_path / "one"
    target.mkdir()
    (target / "manifest.json").write_text("{")
    (target / "arrays.safetensors").touch()
    with new_folder(target, overwrite=True) as partial:
        (partial / "manifest.json").write_text(RUN)
    assert (target / "manifest.json").read_text() == RUN


def test_new_folder_may_overwrite_an_empty_folder(tmp_path):
    target = tmp_path / "one"
    target.mkdir()
    require_free(target, overwrite=True)
    with new_folder(target, overwrite=True) as partial:
        (partial / "data").touch()
    assert names(target) == ["data"]


def test_new_folder_refuses_a_run_that_appeared_meanwhile(tmp_path):
    target = tmp_path / "one"

    def write():
        with new_folder(target):
            make_run(target, "somebody else's")

    with pytest.raises(RunError, match="already exists"):
        write()
    assert (target / "data").read_text() == "somebody else's"
    assert names(tmp_path) == ["one"]


def test_new_folder_says_when_its_parent_cannot_be_written(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
        with pytest.raises(RunError, match=r"one cannot be written: .* is read-only\. Choose another location"):
            enter(tmp_path / "not" / "yet" / "one")
    monkeypatch.setattr(tempfile, "mkdtemp", raises(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(RunError, match=r"one cannot be written: Permission denied\. Choose another location with"):
        enter(tmp_path / "one")


def test_new_folder_refuses_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError, match="Something else is at this path"):
        enter(tmp_path / "file" / "one")


def test_digest_ignores_the_order_of_keys_and_nothing_else():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1, "b": [1, 2]}) != digest({"a": 1, "b": [2, 1]})
    # printf '"é"' | sha256sum
    assert digest("é") == "f2886017e9c7abacf804b54d64787dce2b611c9544ba21f3affdd126a6e50086"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_digest_survives_a_round_trip_through_json(value):
    assert digest(value) == digest(json.loads(json.dumps(value)))


def test_folder_bytes_counts_files_and_follows_no_links(tmp_path):
    assert folder_bytes(tmp_path / "absent") == 0
    (tmp_path / "run" / "sub").mkdir(parents=True)
    (tmp_path / "large").write_bytes(bytes(10_000))
    (tmp_path / "run" / "a").write_bytes(bytes(100))
    (tmp_path / "run" / "sub" / "b").write_bytes(bytes(23))
    assert folder_bytes(tmp_path / "run") == 123
    (tmp_path / "run" / "link").symlink_to(tmp_path / "large")
    assert 123 < folder_bytes(tmp_path / "run") < 500


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of a model, data and a run, in a home that holds others."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "project"
    for name in ("model", "data", "runs/one/parts"):
        (folder / name).mkdir(parents=True)
    (folder / "data" / "task#1.jsonl").write_text("")
    (folder / "runs" / "one" / "eval.jsonl").write_text("")
    (tmp_path / "home" / "shared.jsonl").write_text("")
    return folder


@pytest.mark.parametrize(
    ("source", "stored"),
    [
        ("model", "../../model"),
        ("data/task#1.jsonl", "../../data/task#1.jsonl"),
        ("hf:data#train", "hf:../../data#train"),
        ("runs/one/eval.jsonl", "./eval.jsonl"),
    ],
)
def test_a_source_in_the_project_is_kept_by_its_path_from_the_document_and_found_where_both_went(
    project, monkeypatch, source, stored
):
    monkeypatch.chdir(project)
    kind, path = ("hf:", source.removeprefix("hf:")) if source.startswith("hf:") else ("", source)
    for typed in (source, f"{kind}{project / path}", f"{kind}~/project/{path}"):
        assert kept_source(typed, project / "runs" / "one") == stored
    assert found_source(stored, Path("runs/one")) == source
    monkeypatch.chdir(project.parent)
    project.rename("moved")
    assert found_source(stored, Path("moved/runs/one")) == f"{kind}moved/{path}"
    assert found_source(stored, Path.cwd() / "moved" / "runs" / "one") == f"{kind}{Path.cwd()}/moved/{path}"


def test_a_source_that_would_stay_when_the_project_is_moved_is_kept_by_its_absolute_path(project, monkeypatch):
    monkeypatch.chdir(project)
    outside = str(project.parent / "shared.jsonl")
    assert kept_source("../shared.jsonl", project / "runs" / "one") == outside == found_source(outside, project)
    assert kept_source(os.sep, project) == os.sep


@pytest.mark.parametrize("source", ["embedded", "sample:task", "owner/name", "hf:owner/name#train", "gone.jsonl", ""])
def test_what_is_no_path_is_kept_as_it_is(project, monkeypatch, source):
    monkeypatch.chdir(project)
    (project / "embedded").mkdir()
    assert kept_source(source, project / "runs") == source == found_source(source, project / "runs")
    assert source_from(source, project / "runs") is None
    assert source_beside(source, None, project / "runs") == source


def test_a_path_as_0_1_0_kept_it_is_taken_from_where_the_process_stands(project, monkeypatch):
    monkeypatch.chdir(project / "data")
    assert found_source("../data/task#1.jsonl", project / "runs" / "one") == "../data/task#1.jsonl"
    assert found_source("data/task#1.jsonl", project / "runs" / "one") == "data/task#1.jsonl"


def test_what_a_command_named_inside_a_moved_folder_moved_and_beside_it_where_it_went_along(project):
    runs, away = project / "runs", project.parent / "away" / "runs"
    shutil.copytree(runs, away)

    def moved(source):
        return moved_source(source, str(runs), str(away))

    assert moved(str(runs)) == str(away)
    assert moved(f"{runs}/one/absent") == f"{away}/one/absent"
    assert moved(f"{project}/model") == f"{project}/model", "it was left behind"
    shutil.copytree(project / "model", away.parent / "model")
    shutil.copytree(project / "data", away.parent / "data")
    assert moved(f"{project}/model") == f"{away.parent}/model"
    assert moved(f"hf:{project}/data#train") == f"hf:{away.parent}/data#train"
    assert moved(f"{project.parent}/shared.jsonl") == f"{project.parent}/shared.jsonl"
    for other in ("runs/one", "owner/name", "--positions", ""):
        assert moved(other) == other
