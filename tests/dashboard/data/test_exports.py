"""The command and the Python that a page hands out make the plan that it hands out."""

import json
import shlex
from dataclasses import asdict

import pytest
from typer.main import get_command

from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.errors import DataError
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.runs.plans import read_plan
from semfreeze_core.sources.data.fields import resolve_fields
from semfreeze_dashboard.data.exports import PlanSelection, as_command, as_python, training_command
from semfreeze_dashboard.data.finetune_request import analyzed_form
from semfreeze_dashboard.data.run_folder import PATHS_VARIABLE
from semfreeze_dashboard.text.visitor_text import command_text
from tests.core.cli.terminal import ask
from tests.core.cli_app import app
from tests.core.runs.tiny_run import write_jsonl
from tests.dashboard.test_pages import opened

CHOICES = {
    "as it comes": ("coverage", None, None, EstimateOptions(lora_rank=16), "semantic"),
    "by hand, another metric": ("manual", 12, None, EstimateOptions(lora_rank=16), "logit_z"),
    "paper's rule, another setup": (
        "paper",
        None,
        None,
        EstimateOptions(
            batch_size=4, sequence_length=256, epochs=2, precision="bf16", optimizer="adamw8bit", lora_rank=8
        ),
        "semantic",
    ),
    "budget of a card and a share": (
        "budget",
        None,
        Budget(max_memory_gib=9.5, gpu="RTX 4090", max_cost_fraction=0.7),
        EstimateOptions(loss="supervised-only", prefix_cache=True, lora_rank=16),
        "semantic",
    ),
    "deeper after some steps": ("manual", 20, None, EstimateOptions(lora_rank=16), "semantic", DepthSwitch(7, 20, 30)),
    "adapters, checkpointing": (
        "manual",
        20,
        None,
        EstimateOptions(
            lora=True, lora_rank=8, checkpointing="transformers-5", precision="bf16-autocast", loss="fused"
        ),
        "semantic",
    ),
}


@pytest.fixture(params=CHOICES.values(), ids=CHOICES)
def choice(request, example):
    rule, depth, budget, flags, metric, *deeper = request.param
    card = None if budget is None else budget.card
    setup = setup_from_options(example.run.shape, example.run, flags, with_reference=True, gpu=card)
    return PlanSelection(example, metric, rule, depth, budget, flags, setup, *deeper)


def undated(text):
    document = json.loads(text)
    document["provenance"].pop("created")
    return document


def test_as_command_and_as_python_make_the_plan_of_the_page(choice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = undated(choice.document())
    program, *arguments = shlex.split(as_command(choice))
    assert program == "semfreeze"
    assert ask(*arguments).code == 0
    assert undated((tmp_path / "plan.json").read_text()) == expected
    (tmp_path / "plan.json").unlink()
    exec(compile(as_python(choice), "copied.py", "exec"), {})
    assert undated((tmp_path / "plan.json").read_text()) == expected
    assert read_plan(tmp_path / "plan.json").rule == choice.rule


def data_columns(run, file, mapping, **entry):
    """The manifest of a run that read a file by its columns."""
    read = run.manifest.data.model_copy(update={"source": str(file), "mapping": asdict(mapping), **entry})
    return run.manifest.model_copy(update={"data": read})


def shown(manifest):
    """The command that trains, as a page shows it."""
    return command_text(training_command(manifest))


def parsed(command):
    """What the command line takes a semfreeze command for: the data, and the mapping."""
    _, name, *arguments = shlex.split(command)
    given = get_command(app()).commands[name].make_context(name, arguments).params
    return given["data"], FieldMapping(**{field: given[field] for field in asdict(FieldMapping())})


ODD = FieldMapping(prompt_field="Frage, lang", completion_field="Antwort '25", label_field="class")


@pytest.fixture
def odd_file(tmp_path):
    rows = [{"id": i, "Frage, lang": f"q{i}", "Antwort '25": f"a{i}", "class": "x"} for i in range(3)]
    return write_jsonl(tmp_path / "my data.jsonl", rows)


@pytest.fixture
def own_machine(monkeypatch):
    """The server is reached from its own machine alone, so pages name files by their paths."""
    monkeypatch.setenv(PATHS_VARIABLE, "1")


@pytest.mark.usefixtures("own_machine")
@pytest.mark.parametrize("name", ["train", "finetune"])
def test_a_command_that_trains_reads_the_data_as_the_analysis_did(name, example, odd_file):
    manifest = data_columns(example.run, odd_file, ODD)
    if name == "train":
        command = shown(manifest)
    else:
        command = shlex.join(
            ["semfreeze", *analyzed_form(manifest, str(odd_file), None, EstimateOptions()).command(), "--out=m"]
        )
    source, mapping = parsed(command)
    assert (source, mapping) == (str(odd_file), ODD)
    columns = [*json.loads(odd_file.read_text().splitlines()[0])]
    with pytest.raises(DataError):
        resolve_fields(FieldMapping(), columns)
    assert resolve_fields(mapping, columns)[0] == ODD


@pytest.mark.usefixtures("own_machine")
def test_a_command_names_no_column_that_it_guesses_anyway(example, tmp_path):
    file = write_jsonl(tmp_path / "task.jsonl", [{"prompt": "p", "completion": "c"}])
    usual = FieldMapping(prompt_field="prompt", completion_field="completion")
    command = shown(data_columns(example.run, file, usual))
    assert command == f"semfreeze train plan.json --data {file} --out my-model"
    swapped = FieldMapping(prompt_field="completion", completion_field="prompt")
    assert parsed(shown(data_columns(example.run, file, swapped))) == (str(file), swapped)


def test_a_command_names_the_columns_of_data_that_cannot_be_looked_at(example, tmp_path):
    hub = data_columns(example.run, "hf:owner/name", ODD, split="test")
    assert parsed(shown(hub)) == ("hf:owner/name#test", ODD)
    gone = data_columns(example.run, tmp_path / "gone.jsonl", ODD)
    assert parsed(shown(gone)) == ("YOUR_DATA.jsonl", ODD)


def test_as_command_names_the_precision_that_came_from_a_gpu_of_the_page(example):
    flags, card = EstimateOptions(lora_rank=16), Budget(gpu="A10")
    setup = setup_from_options(example.run.shape, example.run, flags, with_reference=True, gpu=card.card)
    by_hand = PlanSelection(example, "semantic", "manual", 5, None, flags, setup)
    assert "--precision bf16-autocast" in as_command(by_hand)
    by_rule = PlanSelection(example, "semantic", "budget", None, card, flags, setup)
    assert "--precision" not in as_command(by_rule)
    assert "setup" not in as_python(by_rule)


def test_as_command_and_as_python_name_another_run_by_its_folder(example, doubtful, tmp_path, monkeypatch):
    from semfreeze_core.plan.make import default_setup
    from semfreeze_dashboard.data.run_folder import RunCatalog, open_run

    monkeypatch.chdir(tmp_path)
    opened = open_run(RunCatalog(doubtful.parent), "doubtful", 0)
    choice = PlanSelection(opened, "semantic", "manual", 5, None, EstimateOptions(), default_setup(opened.run))
    for make in (lambda: ask(*shlex.split(as_command(choice))[1:]), lambda: exec(as_python(choice), {})):
        make()
        assert undated((tmp_path / "plan.json").read_text()) == undated(choice.document())
        (tmp_path / "plan.json").unlink()


def test_page_writes_another_trainers_configuration_and_says_what_it_cannot_be_told(doubtful):
    app = opened("use", run="doubtful", trainer="axolotl")
    app.slider(key="depth").set_value(11).run()
    assert not app.error
    written = next(code.value for code in app.code if "base_model" in code.value)
    assert "the-folder-of-the-model" in written
    assert "11" in written
    app.button_group(key="trainer").set_value("unsloth").run()
    assert any("can select layers for adapters only" in info.value.replace("\\", "") for info in app.info)
    app.button_group(key="trainer").set_value("semfreeze").run()
    assert not any("base_model" in code.value for code in app.code)
