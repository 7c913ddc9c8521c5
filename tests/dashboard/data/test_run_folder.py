"""Only runs inside the folder can be reached, by names that are there."""

import os

import pytest

from semfreeze_core.errors import RunError
from semfreeze_core.runs.store import example_run
from semfreeze_core.storage import runs_folder
from semfreeze_dashboard.data.run_folder import (
    DEMO_VARIABLE,
    RUNS_VARIABLE,
    RunCatalog,
    open_run,
    server_catalog,
)


@pytest.mark.parametrize("name", ["..", "../doubtful", "/etc", "doubtful/", "", ".", "absent", "a\x00b"])
def test_folder_of_refuses_what_is_no_name_of_a_run(runs, name):
    (runs / "doubtful").mkdir()
    with pytest.raises(RunError, match="no run called"):
        RunCatalog(runs).folder_of(name)


def test_names_leave_out_links_that_lead_out_of_the_folder(runs, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", runs / "out")
    (runs / "in").mkdir()
    (runs / ".partial").mkdir()
    (runs / "note.txt").touch()
    assert RunCatalog(runs).names == ["example", "in"]


def test_entries_say_why_a_run_cannot_be_read(doubtful, runs):
    (runs / "broken").mkdir()
    (runs / "broken" / "manifest.json").write_text("{}")
    entries = {entry.name: entry for entry in RunCatalog(runs).entries()}
    assert entries["doubtful"].manifest is not None
    assert entries["example"].problem == ""
    assert entries["broken"].manifest is None
    assert "broken" in entries["broken"].problem


def test_stamp_of_a_run_that_is_gone_is_an_error(runs):
    (runs / "gone").mkdir()
    with pytest.raises(RunError, match="any more"):
        RunCatalog(runs).stamp("gone")


def test_open_run_reads_the_shipped_one_from_any_catalog(runs):
    assert open_run(RunCatalog(runs), "example", 0).folder == example_run()
    assert RunCatalog(None).names == ["example"]
    assert RunCatalog(runs / "absent").names == ["example"]


def test_server_catalog_goes_by_what_it_was_started_with(monkeypatch, runs):
    assert server_catalog().folder == runs
    monkeypatch.delenv(RUNS_VARIABLE)
    assert server_catalog().folder == runs_folder()
    monkeypatch.setenv(DEMO_VARIABLE, "1")
    assert server_catalog().folder is None
