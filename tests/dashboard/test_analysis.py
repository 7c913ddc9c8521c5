"""What the form of a new analysis becomes: a command, a name, a place for an upload, words."""

from dataclasses import replace

import pytest

from semfreeze_core.errors import DataError, RunError
from semfreeze_core.plan.decide import MEASURED_NEEDS_DATA
from semfreeze_core.plan.rules_by_cost import UNKNOWN_MEMORY
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.job import Job, JobProgress, JobSpec
from semfreeze_core.records.preview import DataPreview, RenderedExample, RenderedPiece
from semfreeze_core.sources.data import formats
from semfreeze_core.sources.data.fields import FIELD_FLAGS
from semfreeze_dashboard.data.analysis_request import (
    UPLOADS,
    AnalysisForm,
    keep_upload,
    proposed_name,
    run_path,
    upload_types,
)
from semfreeze_dashboard.text.analysis_text import (
    escaped,
    form_message,
    job_line,
    preview_sentence,
    rendered_example,
    stage_line,
)
from semfreeze_dashboard.text.tooltips import TOOLTIPS
from tests.core.cli.terminal import ask


def test_command_says_only_what_is_not_as_usual():
    assert AnalysisForm("embedded", "sample:a").command() == ("analyze", "--model=embedded", "--data=sample:a")
    form = AnalysisForm("embedded", "a.jsonl", fields=FieldMapping(prompt_field="q", completion_field="a"), examples=0)
    assert form.command()[3:] == ("--prompt-field=q", "--completion-field=a", "--examples=0")


def test_command_keeps_a_value_that_looks_like_a_flag_a_value():
    answer = ask(*AnalysisForm("--trust-remote-code", "x.jsonl").command())
    assert "x.jsonl" in answer.refusal  # the data is looked at first


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            f"Columns found: a. Name the fields with {FIELD_FLAGS}.",
            "Columns found: a. Name the fields under Read it.",
        ),
        (
            "Read as Alpaca: the prompt from 'q' (--prompt-field).",
            "Read as Alpaca: the prompt from 'q'.",
        ),
        (
            "--template: no column 'x'; --messages-field excludes --text-field",
            "Template: no column 'x'; Messages excludes Text",
        ),
        ("Allow --trust-remote-code.", "Allow --trust-remote-code."),
        (
            f"{MEASURED_NEEDS_DATA}.",
            "The rule measured runs short finetunes of your model: start pilots on the page Prove.",
        ),
        (UNKNOWN_MEMORY, UNKNOWN_MEMORY.replace("Use --max-cost-fraction", "Set a limit of compute")),
        (
            "At least 32 are needed. Add examples, or continue with --allow-few (intervals will be wide).",
            "At least 32 are needed. Add examples.",
        ),
        ("--epochs and --steps set the same thing: give one", "Epochs and Steps set the same thing: give one"),
        (
            "planned trains for 9 steps: make --steps at least 24, or give its rate, as in --lr planned=1e-4.",
            "planned trains for 9 steps: make Steps at least 24.",
        ),
        (
            "To freeze a quarter of the layers, which is little, add --depth 7; to train every layer, --depth 0.",
            "To freeze a quarter of the layers, which is little, set depth 7 on the page Decide, 0 to train every "
            "layer; then choose Freeze depth, as on Decide, here.",
        ),
    ],
)
def test_a_message_names_the_forms_fields(said, shown):
    assert form_message(said) == shown


def test_what_people_call_the_data_does_not_make_another_job():
    assert AnalysisForm("embedded", "/x/upload-1.jsonl", data_name="mine.jsonl") == AnalysisForm(
        "embedded", "/x/upload-1.jsonl"
    )
    assert AnalysisForm("embedded", "/x/upload-1.jsonl", data_name="mine.jsonl").title() == (
        "bundled model on mine.jsonl"
    )


def test_proposed_name_is_one_and_is_free(runs):
    form = AnalysisForm("/models/My Model/", "/x/upload-1.jsonl", data_name="../../task one.jsonl")
    assert proposed_name(runs, form) == "My-Model-task-one"
    run_path(runs, "My-Model-task-one").mkdir()
    assert proposed_name(runs, form) == "My-Model-task-one-2"


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "example", ""])
def test_place_for_a_run_is_inside_the_folder(runs, name):
    with pytest.raises(RunError, match="is not a valid run name"):
        run_path(runs, name)


def test_upload_is_kept_under_a_name_made_of_its_own_and_its_content(runs):
    first = keep_upload(runs, "../../../etc/a.jsonl", b"{}")
    assert first.parent == runs / UPLOADS
    assert first.suffix == ".jsonl"
    assert first.name.startswith("a-")
    assert keep_upload(runs, "b.jsonl", b"{}") == first
    assert keep_upload(runs, "b.jsonl", b"{ }") != first
    with pytest.raises(DataError, match="expected jsonl"):
        keep_upload(runs, "a.exe", b"")
    with pytest.raises(DataError):
        keep_upload(runs, "jsonl/../../x", b"")


def test_uploads_are_what_can_be_read(runs, monkeypatch):
    added = replace(formats.FORMATS[0], kind="packed", label="JSONL.PACKED", suffixes=(".jsonl.packed",))
    assert upload_types() == [suffix[1:] for suffix in formats.all_suffixes()]
    with pytest.raises(DataError, match="expected jsonl"):
        keep_upload(runs, "a.jsonl.packed", b"x")
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, added))
    assert "jsonl.packed" in upload_types()
    for name in ("a.jsonl.packed", "b.jsonl.gz"):
        upload = keep_upload(runs, name, b"x")
        assert (upload.name[:2], "".join(upload.suffixes)) == (f"{name[0]}-", name[1:])
        upload.unlink()


def test_help_of_data_names_every_format():
    assert formats.formats_text() in TOOLTIPS["data kind"]


def test_rendered_example_marks_supervised_text_line_by_line():
    pieces = (RenderedPiece("Ask *x*\n", False, 3), RenderedPiece("a\nb", True, 2))
    text = rendered_example(RenderedExample(0, "l_1", pieces, 4))
    assert "Ask \\*x\\*⏎" in text
    assert ":orange-background[a⏎]  \n:orange-background[b]" in text
    assert "2 of 5 tokens are targets, label l_1, 4 cut on the left" in text


def test_rendered_example_marks_what_follows_a_colon():
    pieces = (RenderedPiece("Answer:", False, 2), RenderedPiece(" 11", True, 2))
    assert rendered_example(RenderedExample(0, None, pieces, 0)).startswith("Answer\\::orange-background[ 11]")


def test_rendered_example_leaves_out_the_middle_of_long_text():
    text = rendered_example(RenderedExample(0, None, (RenderedPiece("x" * 5000, True, 900),), 0))
    assert "4,300 characters left out" in text.replace("\\", "")
    assert text.count("x") == 700


def test_escaped_text_is_shown_as_it_stands():
    assert escaped("a_b $x$ [y](z) :smile: `c`") == r"a_b \$x\$ \[y\](z) \:smile: \`c\`"


def test_preview_sentence_names_what_was_taken_for_what():
    data = DataPreview({"prompt_field": "q", "completion_field": "a", "template": None}, 10, 9, (), ())
    sentence = preview_sentence(data, "my_file.tsv", 256).replace("\\", "")
    assert sentence.startswith(
        "**Of my_file.tsv, 9 of 10 rows can be used**: prompt from 'q', completion from 'a'. All "
    )


@pytest.mark.parametrize(
    ("asked", "drawn"), [(0, "All of them are analyzed"), (9, "All of them"), (10, "All of them"), (4, "4 of them are")]
)
def test_preview_sentence_counts_what_is_analyzed(asked, drawn):
    data = DataPreview({"prompt_field": "q", "completion_field": "a"}, 10, 9, (), ())
    assert f". {drawn}" in preview_sentence(data, "file", asked)


@pytest.mark.parametrize(
    ("state", "jobs_ahead", "started", "ended", "line"),
    [
        ("queued", 2, None, None, "queued, behind 2 others"),
        ("queued", 0, None, None, "queued, starting"),
        ("running", 0, 10.0, None, "running for 30 s"),
        ("done", 0, 10.0, 175.0, "done in 2.8 min"),
        ("dead", 0, 10.0, None, "stopped without an error message (killed or out of memory)"),
        ("cancelled", 0, 10.0, 11.0, "canceled"),
    ],
)
def test_job_line(state, jobs_ahead, started, ended, line):
    job = Job("j", JobSpec(command=("analyze",), title="m on d", created=0.0), state, jobs_ahead, started, ended)
    assert job_line(job, 40.0) == f"**m on d**: {line}"


def test_stage_line_says_how_much_and_how_long():
    assert stage_line(None) == "Starting"
    line = stage_line(JobProgress("Extracting hidden states", 1500, 3000, "tokens", 12.4, ("a",)))
    assert line == "Extracting hidden states: 1,500 of 3,000 tokens, about 12 s left of this part"
