"""The steps in order: what one request gives, and what it does not depend on."""

import dataclasses
import errno

import numpy as np
import pytest

from semfreeze_core.errors import DataError, ModelError, ResourceError
from semfreeze_core.plan.slices import kept_columns, slices
from semfreeze_core.records.examples import Example, Segment
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.run import GROUP_PREFIX
from semfreeze_core.runs.folder import read_run, write_run
from semfreeze_core.sources.data.encode import encode_all
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.workflow import analysis
from semfreeze_core.workflow.analysis import analyze, analyze_loaded
from semfreeze_core.workflow.entries import repetition_warnings
from semfreeze_core.workflow.request import AnalysisRequest
from tests.core.runs.tiny_run import read_tiny, task_rows, write_jsonl
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer

pytestmark = pytest.mark.usefixtures("home_of_one_test")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("tasks") / "task.jsonl", task_rows(60))


@pytest.fixture(scope="module")
def run(untied_model, task):
    return read_tiny(untied_model, task)


def arrays(run):
    """Every number of a reading, by name."""
    values = {}
    for kind in ("traces", "pairs"):
        for metric, record in getattr(run, kind).items():
            values |= {f"{kind}.{metric}.{k}": v for k, v in vars(record).items() if isinstance(v, np.ndarray)}
    values |= {f"display.{k}": v for k, v in vars(run.display).items() if isinstance(v, np.ndarray)}
    return values


def without_times(manifest):
    """The manifest without what no two readings share: seconds, memory, the date."""
    document = manifest.model_dump()
    del document["extraction"], document["provenance"]["created"]
    return document


def test_analyze_gives_the_same_run_for_the_same_seed(run, untied_model, task):
    again = read_tiny(untied_model, task)
    assert without_times(again.manifest) == without_times(run.manifest)
    assert again.examples.equals(run.examples)
    for name, array in arrays(run).items():
        np.testing.assert_array_equal(arrays(again)[name], array, err_msg=name)


def test_analyze_draws_another_sample_for_another_seed(untied_model, task):
    first, second = (read_tiny(untied_model, task, examples=40, seed=seed) for seed in (0, 1))
    assert first.n_examples == second.n_examples == 40
    assert set(first.examples["row"]) != set(second.examples["row"])
    assert first.manifest.data.tokens_digest != second.manifest.data.tokens_digest
    assert first.manifest.data.file_digest == second.manifest.data.file_digest
    assert (first.display.seed, second.display.seed) == (0, 1)


def test_analyze_reads_everything_when_zero_examples_are_asked_for(untied_model, tmp_path):
    many = write_jsonl(tmp_path / "many.jsonl", task_rows(300))
    assert read_tiny(untied_model, many, examples=0).n_examples == 300
    assert read_tiny(untied_model, many).n_examples == 256


def test_analyze_does_not_depend_on_the_batch_size(run, untied_model, task):
    for batch_tokens in (1, 100, 10**9):
        other = read_tiny(untied_model, task, batch_tokens=batch_tokens)
        assert without_times(other.manifest) == without_times(run.manifest)
        for metric, trace in run.traces.items():
            for name in ("deviation", "null", "first_deviation", "later_null"):
                np.testing.assert_allclose(
                    getattr(other.traces[metric], name), getattr(trace, name), rtol=0, atol=1e-5, err_msg=name
                )


def test_analyze_counts_what_it_read(run, task):
    data, took = run.manifest.data, run.manifest.extraction
    table = run.examples
    assert list(table.columns) == [
        "row",
        "label",
        "prompt",
        "completion",
        "n_tokens",
        "n_supervised",
        "n_read",
        "n_truncated",
    ]
    assert data.n_rows == data.n_usable == data.n_examples == len(table) == 60
    assert data.n_labels == 3
    assert data.n_tokens == table["n_tokens"].sum() == took.tokens
    assert data.n_supervised_tokens == table["n_supervised"].sum()
    assert data.n_positions_read == table["n_read"].sum() == data.n_supervised_tokens
    assert data.n_truncated == 0
    assert took.tokens_per_second == pytest.approx(took.tokens / took.seconds)
    assert took.peak_bytes > 2**20
    rows = task_rows(60)
    for entry in table.to_dict("records"):
        assert {k: entry[k] for k in ("prompt", "completion", "label")} == rows[entry["row"]]


def test_analyze_gives_one_row_an_example_and_one_column_a_space(run):
    for trace in run.traces.values():
        assert trace.deviation.shape == (60, run.shape.n_layers + 1)
    assert run.display.coordinates.shape[:2] == (run.shape.n_layers + 1, 100)
    assert run.manifest.display_note == f"100 of {run.manifest.data.n_positions_read} positions, seed 0"


def test_analyze_keeps_the_columns_that_make_groups(untied_model, tmp_path):
    rows = [row | {"source": "mail" if i % 3 else "chat", "id": str(i)} for i, row in enumerate(task_rows(60))]
    analyzed = read_tiny(untied_model, write_jsonl(tmp_path / "task.jsonl", rows))
    write_run(analyzed, tmp_path / "run")
    for run in (analyzed, read_run(tmp_path / "run")):
        assert kept_columns(run) == ["source"]
        assert run.examples[GROUP_PREFIX + "source"].tolist() == [rows[i]["source"] for i in run.examples["row"]]
        groups, left_out = slices(run, "semantic", "source")
        assert ({group.name: group.curve.n_examples for group in groups}, left_out) == ({"mail": 40, "chat": 20}, 0)


def test_analyze_reads_at_most_the_positions_asked_for(untied_model, task):
    run = read_tiny(untied_model, task, positions=2)
    assert set(run.examples["n_read"]) == {2}
    assert run.manifest.data.n_positions_read == 120 < run.manifest.data.n_supervised_tokens


def test_analyze_names_the_fields_it_guessed(run, untied_model, task):
    assert run.manifest.data.mapping["prompt_field"] == "prompt"
    assert any(note.startswith("Read as ") for note in run.manifest.notes)
    named = read_tiny(untied_model, task, mapping=FieldMapping("prompt", "completion", "label"))
    assert not any(note.startswith("Guessed") for note in named.manifest.notes)
    assert named.manifest.data.mapping == run.manifest.data.mapping


def test_analyze_cuts_prompts_at_the_models_limit(untied_model, tmp_path):
    rows = [row | {"prompt": row["prompt"] * 20} for row in task_rows(40)]
    run = read_tiny(untied_model, write_jsonl(tmp_path / "long.jsonl", rows))
    assert run.manifest.data.max_length == run.shape.max_positions == 64
    assert set(run.examples["n_tokens"]) == {64}
    assert (run.examples["n_truncated"] > 0).all()
    assert run.manifest.data.n_truncated == 40
    assert any("lost" in note and "64 tokens" in note for note in run.manifest.notes)


def test_analyze_reads_chats_through_the_models_template(tmp_path):
    save_tiny(tmp_path / "chatty", "llama", tokenizer=build_tiny_tokenizer(chat_template=CHATML), max_positions=200)
    rows = [
        {"messages": [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}]}
        for r in task_rows(40)
    ]
    run = read_tiny(tmp_path / "chatty", write_jsonl(tmp_path / "chat.jsonl", rows))
    assert run.n_examples == 40
    assert run.examples["completion"].str.endswith("now</s>").all()
    assert run.examples["prompt"].str.contains("<|im_start|>assistant", regex=False).all()


def test_analyze_says_what_plain_text_cannot_show(untied_model, tmp_path):
    rows = [{"text": row["prompt"] + row["completion"]} for row in task_rows(40)]
    run = read_tiny(untied_model, write_jsonl(tmp_path / "text.jsonl", rows), mapping=FieldMapping(text_field="text"))
    assert "no swapped-completion control" in run.manifest.warnings[0]
    assert run.manifest.task_null_reason.startswith("only 0 of 40 examples have a prompt")
    assert all(len(pairs.own) == 0 for pairs in run.pairs.values())


def test_analyze_says_when_the_data_uses_new_tokens(tmp_path):
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_tokens(["@@new@@"])
    save_tiny(tmp_path / "grown", "llama", tokenizer=tokenizer)
    rows = [row | {"prompt": f"@@new@@ {row['prompt']}"} for row in task_rows(40)]
    run = read_tiny(tmp_path / "grown", write_jsonl(tmp_path / "task.jsonl", rows))
    assert run.manifest.model.new_tokens_used == 1
    assert run.manifest.warnings[0].startswith("The data uses 1 tokens whose embeddings look new or untrained.")


def test_analyze_adds_lens_loss_when_asked(run, untied_model, task):
    assert list(run.traces) == ["semantic", "logit_z"]
    with_loss = read_tiny(untied_model, task, lens_loss=True)
    assert list(with_loss.traces) == with_loss.manifest.settings.metrics == ["semantic", "logit_z", "lens_loss"]
    assert with_loss.traces["lens_loss"].unit == "nat"
    np.testing.assert_array_equal(with_loss.traces["semantic"].deviation, run.traces["semantic"].deviation)


def test_analyze_leaves_out_the_end_token_when_told(run, untied_model, task):
    bare = read_tiny(untied_model, task, add_eos=False)
    assert bare.manifest.data.n_supervised_tokens == run.manifest.data.n_supervised_tokens - 60
    assert not bare.manifest.settings.add_eos


def test_analyze_tells_its_progress(untied_model, task):
    events = []
    analyze(AnalysisRequest(str(untied_model), str(task), device="cpu", dtype="float32"), events.append)
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == [
        "Loading the model",
        "Verifying the model's parts",
        "Checking rows",
        "Encoding examples",
        "Solving for the semantic bases",
        "Extracting hidden states",
        "Analyzing swapped completions",
        "Projecting the display sample",
        "Computing the weights' spectrum",
    ]
    for stage in ("Extracting hidden states", "Analyzing swapped completions"):
        reading = [event for event in events if event.stage == stage]
        assert [e.done for e in reading] == sorted(e.done for e in reading)
        assert reading[0].done < reading[-1].done == reading[-1].total > 0, stage
        assert reading[-1].unit == "tokens"


def test_analyze_loaded_gives_what_analyze_gives(run, untied_model, task):
    loaded = load_causal_lm(str(untied_model), dtype="float32", device="cpu")
    request = AnalysisRequest(str(untied_model), str(task), dtype="float32", device="cpu", display_positions=100)
    again = analyze_loaded(loaded, request)
    assert without_times(again.manifest) == without_times(run.manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "absent.jsonl"}, "does not exist"),
        ({"data": "sample:absent"}, "no such sample. There are: sample:"),
        ({"mapping": FieldMapping(prompt_field="absent")}, "no column 'absent'"),
        ({"split": "train"}, "has no splits"),
    ],
    ids=["file", "sample", "field", "split"],
)
def test_analyze_refuses_data_before_it_loads_the_model(monkeypatch, untied_model, task, change, message):
    def load(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(analysis, "load_causal_lm", load)
    request = dataclasses.replace(AnalysisRequest(str(untied_model), str(task)), **change)
    with pytest.raises(DataError, match=message):
        analyze(request)


def test_analyze_halves_a_batch_that_does_not_fit_and_says_so(monkeypatch, run, untied_model, task):
    from semfreeze_core.semantics import extraction

    monkeypatch.setattr("semfreeze_core.device.gc.collect", lambda: 0)  # slow among a test run's many objects
    real, sizes = extraction.read_batch, []

    def scarce(decoder, batch, read):
        sizes.append(len(batch.examples))
        if len(batch.examples) > 16:
            raise MemoryError
        real(decoder, batch, read)

    monkeypatch.setattr(extraction, "read_batch", scarce)
    messages = []
    request = AnalysisRequest(str(untied_model), str(task), dtype="float32", device="cpu", display_positions=100)
    halved = analyze(request, lambda event: messages.append(event.message))
    assert max(sizes) > 16
    assert halved.manifest.extraction.batch_halvings > 0
    assert any(message.startswith("Out of memory: a batch of") for message in messages)
    np.testing.assert_allclose(halved.traces["semantic"].deviation, run.traces["semantic"].deviation, atol=1e-5)


def test_analyze_refuses_an_example_that_does_not_fit_alone(monkeypatch, untied_model, task):
    from semfreeze_core.semantics import extraction

    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr("semfreeze_core.device.gc.collect", lambda: 0)
    monkeypatch.setattr(extraction, "read_batch", none_left)
    with pytest.raises(ResourceError, match=r"One example of \d+ tokens does not fit"):
        read_tiny(untied_model, task)


def test_analyze_names_the_layer_whose_states_are_not_finite(monkeypatch, tmp_path, task):
    import torch

    saved = save_tiny(tmp_path / "broken", "llama", tied=False)
    with torch.no_grad():
        saved.model.layers[2].mlp.down_proj.weight[0, 0] = float("nan")
    saved.save_pretrained(tmp_path / "broken")
    with pytest.raises(ModelError, match="the output of layer 2 holds NaN"):
        read_tiny(tmp_path / "broken", task)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("analysis.load_causal_lm", FULL),
        ("task.read_examples", KeyboardInterrupt()),
        ("analysis.read_traces", FULL),
        ("analysis.read_task_null", KeyboardInterrupt()),
        ("projection.project_display", FULL),
    ],
)
def test_analyze_keeps_nothing_when_stopped(monkeypatch, tmp_path, untied_model, task, step, error):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr(f"semfreeze_core.workflow.{step}", stop)
    with pytest.raises(type(error)):
        read_tiny(untied_model, task)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a"], "There is one example, so intervals have no width."),
        (["a"] * 40, "All 40 examples are the same, so intervals have no width."),
        (["a", "b"] * 20, "Only 2 of 40 examples differ. Intervals treat the repeated ones as independent"),
        (["a", "b", "c"], None),
        ([*map(str, range(32)), "0"], None),
    ],
)
def test_examples_that_repeat_one_another_are_named_as_too_narrow_intervals(texts, expected):
    examples = [Example((Segment("say ", False), Segment(text, True)), None, i) for i, text in enumerate(texts)]
    encoded = encode_all(build_tiny_tokenizer(), examples, max_length=32, allow_few=True)
    warnings = repetition_warnings(encoded.tokenized)
    assert [warning[: len(expected or "")] for warning in warnings] == ([] if expected is None else [expected])
