"""A guided finetune as the form has it, as a command and as Python: all three ask for the same."""

from pathlib import Path

import pytest

import semfreeze_core.guided.finetune as guided
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.options import EstimateOptions, TrainingOptions
from semfreeze_core.records.race import Objective
from semfreeze_dashboard.data.finetune_request import FinetuneForm, analyzed_form, form_of
from tests.core.cli.terminal import ask
from tests.core.cli.test_cli_finetune import REPORT

FORMS = [
    FinetuneForm("embedded", "sample:sentence_to_json_train"),
    FinetuneForm("org/model", "hf:a/b#train", revision="abc", evaluation="/tmp/x y=z.jsonl", steps=150),
    FinetuneForm("m", "d.jsonl", epochs=2, kind="memory", limit=12.5, max_length=256),
    FinetuneForm("m", "d.jsonl", kind="time", limit=1.5, add_eos=False),
    FinetuneForm(
        "m", "d.jsonl", kind="quality", mapping=FieldMapping(template="{a} = {b?}\\n'", completion_field="c"),
        options=TrainingOptions(batch_size=4, optimizer="sgd", prefix_cache=False),
    ),
    FinetuneForm("m", "d.jsonl", options=TrainingOptions(prefix_cache=True)),
    FinetuneForm("m", "d.jsonl", depth=0),
    FinetuneForm("m", "d.jsonl", depth=12, steps=40),
]  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """Requests that reach the core, with their folders."""
    requests = []

    def stand_in(request, folder, *_):
        requests.append((request, folder))
        return REPORT

    monkeypatch.setattr(guided, "finetune", stand_in)
    return requests


@pytest.mark.parametrize("form", FORMS)
def test_command_and_python_ask_for_what_the_form_has(form, asked):
    answer = ask(*form.command(), "--out=/tmp/out")
    assert answer.code == 0, answer.err
    exec(form.python(Path("/tmp/out")), {})
    (by_command, folder), (by_python, same_folder) = asked
    assert by_command == by_python
    assert folder == same_folder == Path("/tmp/out")
    request = by_command
    assert (request.model.source, request.model.revision, request.data) == (form.model, form.revision, form.data)
    assert (request.evaluation, request.steps, request.max_length) == (form.evaluation, form.steps, form.max_length)
    assert (request.objective, request.mapping, request.options) == (form.objective, form.mapping, form.options)
    assert (request.add_eos, request.depth) == (form.add_eos, form.depth)
    assert request.epochs == (form.epochs or 3)


@pytest.mark.parametrize("form", FORMS)
def test_a_command_leads_back_to_its_form(form):
    assert form_of(form.command()) == form


def test_another_command_has_no_form():
    assert form_of(("validate", "run", "--train=a")) is None
    assert form_of(()) is None


@pytest.mark.parametrize(
    ("kind", "limit", "expected"), [("memory", 0.5, 2**29), ("time", 1.5, 5400), ("quality", None, None)]
)
def test_limits_are_bytes_and_seconds(kind, limit, expected):
    assert FinetuneForm("m", "d", kind=kind, limit=limit).objective == Objective(kind=kind, limit=expected)


def test_a_form_takes_fields_and_setup_as_the_run_and_the_page_have_them(example):
    setup = EstimateOptions(batch_size=4, epochs=5, sequence_length=128, lora=True, lora_rank=8, stock=True)
    form = analyzed_form(example.run.manifest, "d.jsonl", None, setup)
    manifest = example.run.manifest
    assert (form.model, form.revision) == (manifest.model.identity.source, manifest.model.identity.revision)
    assert form.mapping == FieldMapping(**manifest.data.mapping)
    assert (form.epochs, form.max_length, form.options) == (5, 128, TrainingOptions(batch_size=4))
