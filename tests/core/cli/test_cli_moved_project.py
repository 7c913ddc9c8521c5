"""A project's folder that holds model, data, run and plan, after it was moved: every command finds the model again."""

import json
import shutil

import pytest

from semfreeze_core.runs.folder import read_manifest, write_run
from semfreeze_core.runs.plans import read_plan
from tests.core.cli.terminal import ask
from tests.core.runs.tiny_run import read_tiny

FEW = ("--steps", 2, "--batch-size", 2, "--device", "cpu", "--quiet")


@pytest.fixture(params=["absolute", "relative"])
def project(request, models, task, tmp_path, monkeypatch):
    """A folder `project` with model, task.jsonl, a run and its plan.json, each as a command would have named it."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copytree(models / "untied", folder / "model")
    shutil.copy(task, folder)
    monkeypatch.chdir(folder)
    named = ("model", "task.jsonl") if request.param == "relative" else (folder / "model", folder / "task.jsonl")
    write_run(read_tiny(*named), folder / "runs" / "one")
    assert ask("plan", folder / "runs" / "one", "--depth", 1, "--out", folder / "plan.json").code == 0
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def moved(project, tmp_path):
    """The project once it has another name and nothing is left where it was."""
    return project.rename(tmp_path / "moved")


def test_a_moved_run_and_plan_name_the_model_and_data_that_went_along(moved):
    assert read_plan(moved / "plan.json").model.source == str(moved / "model")
    manifest = read_manifest(moved / "runs" / "one")
    assert (manifest.model.identity.source, manifest.data.source) == (str(moved / "model"), str(moved / "task.jsonl"))
    made = ask("plan", moved / "runs" / "one", "--depth", 1, "--json").json
    assert made["model"]["source"] == str(moved / "model")


def test_a_moved_plan_is_trained_and_exported_with_the_model_that_went_along(moved, tmp_path):
    trained = ask("train", moved / "plan.json", "--data", moved / "task.jsonl", "--out", tmp_path / "out", *FEW)
    assert trained.code == 0, trained.err
    assert read_plan(tmp_path / "out").model.source == str(moved / "model")
    exported = ask("export", moved / "plan.json", "--to", "axolotl", "--data", moved / "task.jsonl")
    assert f'base_model: "{moved / "model"}"' in exported.out


def test_a_plan_that_was_moved_alone_names_the_model_where_it_still_is(project, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    plan = (project / "plan.json").rename(tmp_path / "elsewhere" / "plan.json")
    source = json.loads(plan.read_text())["model"]["source"]
    there = project if source.startswith("/") else plan.parent  # a relative path says nothing of where it began
    assert read_plan(plan).model.source == str(there / "model")


def test_a_copied_project_has_its_own_model(project, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(project, copied)
    assert read_plan(copied / "plan.json").model.source == str(copied / "model")
    assert read_manifest(copied / "runs" / "one").model.identity.source == str(copied / "model")


def test_a_moved_plan_whose_model_is_gone_says_what_to_pass(moved, tmp_path):
    (moved / "model").rename(tmp_path / "lost")
    refusal = ask("train", moved / "plan.json", "--data", moved / "task.jsonl", "--out", tmp_path / "out", *FEW).refusal
    assert refusal.startswith("The plan's model is not at /")
    assert refusal.endswith("Set --model to the folder or GGUF file where it is now.")
