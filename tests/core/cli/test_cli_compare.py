"""`semfreeze compare`: a column a run, differences in words and numbers, and what it refuses."""

import shutil

import pytest

from semfreeze_core.storage import runs_folder
from tests.core.cli.terminal import ask


@pytest.fixture
def tiny(stored):
    return stored("untied")


def test_table_and_document_say_the_same(tiny):
    shown, document = ask("compare", "example", tiny).out, ask("compare", "example", tiny, "--json").json
    assert list(document["runs"]) == ["example", "untied"]
    for run in document["runs"].values():
        depth = run["plan"]["freeze_depth"]
        assert ("no recommendation" if depth is None else f"{depth} of {run['n_layers']}") in shown
    assert document["runs"]["example"]["validations"]["sentence_to_json_train"]["verdict"] == "holds"
    assert "depth 19: 100% [99, 101] same steps (pass), 100%" in " ".join(shown.split())
    assert "Models have 4, 30 layers" in " ".join(shown.split())


def test_difference_is_on_relative_depth_and_says_where_it_is_sure(tiny):
    document = ask("compare", "example", tiny, "--json").json
    held = document["differences"]["untied"]["gain coverage"]
    assert held["relative_depth"][0] == 0
    assert held["relative_depth"][-1] == 1
    assert len(held["relative_depth"]) == len(held["mean"]) == 31
    assert held["paired"] is False
    for start, end in held["differs_for_sure"]:
        inside = [i for i, x in enumerate(held["relative_depth"]) if start <= x <= end]
        assert all(held["low"][i] > 0 or held["high"][i] < 0 for i in inside)


def test_runs_by_path_are_called_by_their_folder_unless_two_are_called_alike(tiny, stored, tmp_path):
    path = runs_folder() / tiny
    assert list(ask("compare", "example", path, "--json").json["runs"]) == ["example", tiny]
    shutil.copytree(path, tmp_path / "other" / tiny)
    names = list(ask("compare", tiny, tmp_path / "other" / tiny, "--json").json["runs"])
    assert names == [tiny, str(tmp_path / "other" / tiny)]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["example"], "Expected 2 to 6 different runs to compare, found 1."),
        (["example", "example"], "The same run is named twice"),
        (["example", "nowhere"], "nowhere: no run with this name or path"),
    ],
)
def test_what_cannot_be_compared_is_refused(tiny, runs, message):
    assert message in ask("compare", *runs).refusal
