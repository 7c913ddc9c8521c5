"""`semfreeze umap`: lays out once, reads what it kept afterwards, and refuses in one message."""

from pathlib import Path

import pytest

from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.umaps import read_umap
from semfreeze_core.semantics.umap_projection import umap_points
from semfreeze_core.storage import runs_folder
from tests.core.cli.terminal import ask


@pytest.mark.usefixtures("quick_umap")
def test_umap_says_what_it_laid_out_and_keeps_it(stored):
    answer = ask("umap", stored("untied"))
    display = read_run(runs_folder() / "untied").display
    spaces, n, components = display.coordinates.shape
    first, second, saved_line, see = answer.out.splitlines()
    assert first == (
        f"UMAP of {umap_points(display):,} points: {n} of {n} shown positions at {spaces} hidden states, and "
        f"{len(display.basis_ids)} bases."
    )
    assert second.startswith(f"Seed 0, 15 neighbors, first {min(50, components)} principal components; it took ")
    assert read_umap(Path(saved_line.removeprefix("Saved in "))).n_points == umap_points(display)
    assert "semfreeze dashboard" in see
    assert answer.err == "Loading UMAP\n"


@pytest.mark.usefixtures("quick_umap")
def test_umap_reads_what_it_kept(stored, monkeypatch):
    first = ask("umap", stored("untied"), "--json").json
    monkeypatch.setattr("semfreeze_core.semantics.umap_projection._layout", None)
    answer = ask("umap", "untied", "--json")
    assert answer.json == first | {"from_cache": True}
    assert not first["from_cache"]
    assert answer.err == ""
    assert ask("umap", "untied").out.splitlines()[2] == f"Read from {first['file']}"


@pytest.mark.usefixtures("quick_umap")
@pytest.mark.parametrize("damage", [b"", b"damage"])
def test_umap_computes_again_what_is_damaged(stored, damage):
    first = ask("umap", stored("untied"), "--json").json
    good = Path(first["file"]).read_bytes()
    Path(first["file"]).write_bytes(damage)
    answer = ask("umap", "untied", "--json", "-q")
    assert not answer.json["from_cache"]
    (message,) = answer.err.splitlines()
    assert message.startswith(f"semfreeze: The cached UMAP {first['file']} is damaged (")
    assert message.endswith("It is being computed again.")
    again = read_umap(Path(first["file"]))
    Path(first["file"]).write_bytes(good)
    assert (again.coordinates == read_umap(Path(first["file"])).coordinates).all()


def test_umap_refuses_bad_values_in_one_message(stored):
    message = ask("umap", stored("untied"), "--neighbors", "201", "--seed", "-3").refusal
    assert message == "--neighbors must be in 2..200, found 201; --seed must be in 0..4294967295, found -3."
    assert "no run with this name" in ask("umap", "absent").refusal


@pytest.mark.usefixtures("quick_umap")
def test_umap_leaves_the_run_folder_as_it_was(stored):
    folder = runs_folder() / stored("untied")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    ask("umap", "untied", "-q")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
