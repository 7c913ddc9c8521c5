"""`semfreeze export` as a person meets it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from semfreeze_core.export import TARGETS, export_plan
from semfreeze_core.runs.plans import read_plan
from tests.core.cli.terminal import ask
from tests.core.export.exports import tiny_plan
from tests.core.tiny_models import build_tiny


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Everything semfreeze keeps, and every relative path, is below the test's own folder."""
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def tiny():
    return build_tiny("llama")


@pytest.fixture
def plan(tiny):
    """A plan's file."""

    def write(k=2, **setup):
        Path("plan.json").write_text(tiny_plan(tiny, k, **setup).model_dump_json())
        return "plan.json"

    return write


def test_export_prints_the_file_or_writes_it_and_its_notes(plan):
    path = plan()
    exported = export_plan(read_plan(Path(path)), "axolotl", plan_path=path)
    assert ask("export", path, "--to", "axolotl").out == exported.text
    answer = ask("export", path, "--to", "axolotl", "--out", "below/a.yaml")
    assert Path("below/a.yaml").read_text() == exported.text
    assert answer.out.splitlines() == [*(f"note: {note}" for note in exported.notes), "Export: below/a.yaml"]


def test_a_trained_models_folder_is_exported_with_the_rate_it_was_trained_at(plan):
    Path("model").mkdir()
    Path(plan()).rename("model/plan.json")
    assert "learning_rate: 0.0003\n" in ask("export", "model", "--to", "axolotl").out
    Path("model/training.json").write_text('{"learning_rate": 5e-05}')
    output = ask("export", "model", "--to", "axolotl").out
    assert "learning_rate: 5e-05\n" in output
    assert "# - The learning rate, 5e-5, is the one at which this model was trained." in output
    Path("model/training.json").write_text('{"learning_rate": "fast"}')
    assert "learning_rate: 0.0003\n" in ask("export", "model", "--to", "axolotl").out


def test_export_writes_whole_or_not_at_all(plan, monkeypatch):
    path = plan()
    ask("export", path, "--to", "axolotl", "--out", "a.yaml")
    before = Path("a.yaml").read_text()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    refusal = ask("export", path, "--to", "mlx-lm", "--out", "a.yaml", "--overwrite").refusal
    assert refusal.startswith("The disk is full")
    assert Path("a.yaml").read_text() == before
    assert sorted(p.name for p in Path().iterdir()) == ["a.yaml", "plan.json"]


def test_export_replaces_nothing_unasked(plan):
    path = plan()
    Path("a.yaml").write_text("mine")
    assert ask("export", path, "--to", "axolotl", "--out", "a.yaml").refusal == (
        "a.yaml already exists. Choose another --out, or replace it with --overwrite."
    )
    assert Path("a.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "plan.json is not a semfreeze plan: "),
        ("no json", "plan.json is not a semfreeze plan: its JSON"),
        (None, "plan.json does not exist. Give a plan.json that semfreeze plan --out wrote"),
    ],
)
def test_export_refuses_what_is_no_plan(text, message):
    if text is not None:
        Path("plan.json").write_text(text)
    assert ask("export", "plan.json", "--to", "trl").refusal.startswith(message)


def test_export_refuses_plans_of_the_future_and_edited_ones(plan):
    path = plan()
    text = Path(path).read_text()
    Path(path).write_text(text.replace('"schema_version":3', '"schema_version":99'))
    refusal = ask("export", path, "--to", "trl").refusal
    assert "has schema version 99, but this semfreeze reads up to 3. Update semfreeze." in refusal
    Path(path).write_text(text.replace('"layers":[false,false,true,true]', '"layers":"all"'))
    assert "is not a semfreeze plan: trainable.layers" in ask("export", path, "--to", "trl").refusal
    Path(path).write_text(text.replace('"layers":[false,false,true,true]', '"layers":[false,true,true,true]'))
    refusal = ask("export", path, "--to", "trl").refusal
    assert "contradicts itself: freeze_depth is 2, but trainable.layers trains layer 1 first" in refusal


def test_export_refuses_abstention_and_unknown_targets(plan):
    assert "semfreeze plan RUN --depth K --out plan.json" in ask("export", plan(None), "--to", "trl").refusal
    refusal = ask("export", plan(), "--to", "keras").refusal
    assert refusal == f"There is no export to 'keras'. Available: {', '.join(TARGETS)}."


def test_export_takes_fields_with_a_file_only(plan):
    assert ask("export", plan(), "--to", "trl", "--prompt-field", "ask").refusal == (
        "Fields belong to a data file: give it with --data."
    )


def test_export_of_the_embedded_model_names_its_folder(plan, tiny, monkeypatch):
    made = tiny_plan(tiny, 2)
    made = made.model_copy(update={"model": replace(made.model, source="embedded")})
    Path("plan.json").write_text(made.model_dump_json())
    monkeypatch.setattr("semfreeze_core.sources.models.embedded.convert_embedded", lambda: Path("converted"))
    assert 'base_model: "converted"' in ask("export", "plan.json", "--to", "axolotl").out
    assert 'base_model: "other"' in ask("export", "plan.json", "--to", "axolotl", "--model", "other").out


def test_help_of_export_names_every_target():
    text = " ".join(ask("export", "--help").out.replace("│", " ").split())
    assert all(target in text for target in TARGETS)


def test_export_of_a_run_writes_the_plan_that_its_script_reads(folder):
    refusal = ask("export", "example", "--to", "trl", "--model", "model").refusal
    assert "reads the plan's file, and the plan of a run has none yet. Give --out" in refusal
    answer = ask("export", "example", "--to", "trl", "--model", "model", "--out", "below/mine.py")
    assert answer.out.splitlines()[-2:] == ["Plan: below/mine.plan.json", "Export: below/mine.py"]
    assert 'PLAN = "below/mine.plan.json"' in Path("below/mine.py").read_text()
    written = read_plan(Path("below/mine.plan.json"))
    assert (written.run, written.recommendation) == ("example_run", "freeze")
    refusal = ask("export", "example", "--to", "trl", "--model", "model", "--out", "below/mine.py").refusal
    assert refusal == "below/mine.py already exists. Choose another --out, or replace it with --overwrite."
    assert ask("export", "example", "--to", "axolotl", "--model", "model").out.startswith("#")
    assert sorted(p.name for p in Path("below").iterdir()) == ["mine.plan.json", "mine.py"]


def test_export_and_train_refuse_an_abstaining_plan_in_the_same_words(plan):
    path = plan(None)
    exported = ask("export", path, "--to", "trl").refusal
    assert exported == ask("train", path, "--data", "sample:sentence_to_json_train", "--out", "model").refusal
    assert "so there is nothing to train: Nothing is learned here." in exported
    assert not Path("model").exists()
