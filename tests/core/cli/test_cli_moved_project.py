"""A project's folder that holds model, data, run and plan, after it was moved: every command finds the model again."""

import json
import shutil

import pytest

from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.runs.folder import read_manifest, write_run
from semfreeze_core.runs.plans import read_plan
from semfreeze_core.runs.reports import read_validation
from tests.core.cli.terminal import ask
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.runs.tiny_run import read_tiny, task_rows, write_jsonl

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
def validated(project):
    """The words of a validation of the project's run that has ended, but for the project's folder."""
    write_jsonl(project / "eval.jsonl", task_rows(8, seed=9))

    def validate(folder, plan, *further):
        flags = ("--arms", "full,planned", "--seeds", 1, "--lr", "full=1e-3,frozen=1e-3", "--match", "steps")
        data = ("--train", folder / "task.jsonl", "--eval", folder / "eval.jsonl", "--accuracy-examples", 0)
        return ask("validate", folder / plan, *data, *flags, *FEW, *further)

    with arms_in_this_process():
        answer = validate(project, "runs/one", "--depth", 1)
    assert answer.code == 0, answer.err
    return validate


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


@pytest.mark.quick_cases(2)
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


@pytest.mark.quick_cases(0)
def test_a_validation_in_a_moved_project_is_found_and_another_one_finds_the_model(
    project, validated, tmp_path, monkeypatch
):
    moved = project.rename(tmp_path / "moved")
    with monkeypatch.context() as patch:
        patch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("it trained again"))
        again = validated(moved, "runs/one", "--depth", 1)
        assert again.code == 0, again.err
        assert f"Saved in {moved / 'runs' / 'one' / 'validations' / 'task'}" in again.out
    with arms_in_this_process():
        other = validated(moved, "plan.json", "--out", moved / "other")
    assert other.code == 0, other.err
    assert read_validation(moved / "other").settings.model == str(moved / "model")


@pytest.mark.quick_cases(0)
def test_a_moved_run_whose_model_is_gone_says_what_to_pass_to_a_validation(project, validated, tmp_path):
    moved = project.rename(tmp_path / "moved")
    (moved / "model").rename(tmp_path / "lost")
    for plan in ("plan.json", "runs/one"):
        refusal = validated(moved, plan, "--out", moved / "other").refusal
        assert refusal.startswith("The plan's model is not at /")
        assert refusal.endswith("Set --model to the folder or GGUF file where it is now.")
    with arms_in_this_process():
        answer = validated(moved, "plan.json", "--out", moved / "other", "--model", tmp_path / "lost")
    assert answer.code == 0, answer.err
