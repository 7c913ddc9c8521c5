"""The data of a finetune: how it was read is reported, and what cannot be read is counted."""

import json

import pytest

from semfreeze_core.errors import DataError
from semfreeze_core.finetune.model.task_data import read_task_data
from semfreeze_core.records.defaults import HELD_OUT_DATA
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.held_out import hold_out
from tests.core.tiny_tokenizer import build_tiny_tokenizer


@pytest.fixture
def files(tmp_path):
    """A training set with a column that is not read and a row that cannot be, and an eval set without either."""
    rows = [{"prompt": f"a {i}", "completion": "b", "history": [["c", "d"]]} for i in range(6)]
    rows[2]["completion"] = 7
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "eval.jsonl").write_text('{"question": "e", "answer": "f"}\n')
    return str(tmp_path / "train.jsonl"), str(tmp_path / "eval.jsonl")


def test_how_both_sets_were_read_is_reported(files):
    events = []
    data = read_task_data(
        *files,
        build_tiny_tokenizer(),
        mapping=FieldMapping(),
        n_train=None,
        n_eval=None,
        max_length=32,
        progress=events.append,
    )
    assert data.train_notes[0].startswith("Read as prompt and completion: ")
    assert data.train_notes[1].startswith("Not read: the column 'history'")
    reported = [event.message for event in events if event.message]
    assert [message for message in reported if message.startswith("The training set: ")] == [
        f"The training set: {note}" for note in data.train_notes
    ]
    assert any(message.startswith("The eval set: Read as question and answer: ") for message in reported)
    (skipped,) = data.skipped
    assert skipped.startswith("The training set: 1 of 6 rows is skipped: line 3: field 'completion' is")
    assert data.warnings == (skipped,)


def test_held_out_eval_examples_are_those_that_a_split_of_the_file_holds_out(tmp_path):
    rows = [{"prompt": f"a {i // 2}", "completion": f"b {i}", "label": "xy"[i % 2]} for i in range(200)]
    source = tmp_path / "all.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    split = hold_out(str(source), FieldMapping(), tmp_path / "split")
    events = []

    def read(train, evaluation, **numbers):
        both = {"n_train": None, "n_eval": None} | numbers
        return read_task_data(
            str(train), str(evaluation), build_tiny_tokenizer(), mapping=FieldMapping(), max_length=32,
            progress=events.append, **both,
        )  # fmt: skip

    def texts(part):
        return sorted(example.input_ids.tobytes() for example in part.tokenized)

    held_out, files = read(source, HELD_OUT_DATA), read(split.train, split.evaluation)
    assert texts(held_out.train) == texts(files.train)
    assert texts(held_out.evaluation) == texts(files.evaluation)
    assert held_out.overlap == ()
    assert any(event.message == f"{split.n_eval} of 200 rows are held out for evaluation." for event in events)
    fewer = read(source, HELD_OUT_DATA, n_train=20, n_eval=10)
    assert [len(part.tokenized) for part in (fewer.train, fewer.evaluation)] == [20, 10]
    assert set(texts(fewer.train)) <= set(texts(held_out.train)), "what is trained on is never held out"
    assert set(texts(fewer.evaluation)) <= set(texts(held_out.evaluation))


def test_too_few_rows_to_hold_any_out_are_refused_with_the_way_out(files):
    with pytest.raises(DataError, match="too few to hold any out for evaluation"):
        read_task_data(
            files[0], HELD_OUT_DATA, build_tiny_tokenizer(), mapping=FieldMapping(), n_train=None, n_eval=None,
            max_length=32,
        )  # fmt: skip
