"""The data of a finetune: how it was read is reported, and what cannot be read is counted."""

import json

import pytest

from semfreeze_core.finetune.model.task_data import read_task_data
from semfreeze_core.records.fields import FieldMapping
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
