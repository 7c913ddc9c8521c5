"""Task data as rows that any trainer takes."""

import json

import pytest

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data.encode import encode
from semfreeze_core.sources.data.examples import read_examples
from semfreeze_core.sources.data.fields import FieldMapping
from semfreeze_core.sources.data.training_rows import training_rows
from tests.core.tiny_tokenizer import build_tiny_tokenizer

TOKENIZER = build_tiny_tokenizer()
MAPPING = FieldMapping(prompt_field="ask", completion_field="say")


def test_training_rows_label_the_target_tokens_of_every_example(tmp_path):
    file = tmp_path / "task.jsonl"
    file.write_text("".join(json.dumps({"ask": f"question {i}", "say": f"answer {i}"}) + "\n" for i in range(3)))
    rows = training_rows(str(file), TOKENIZER, mapping=MAPPING, max_length=64)
    examples = read_examples(str(file), mapping=MAPPING, n=None, seed=0, tokenizer=TOKENIZER).examples
    assert len(rows) == len(examples) == 3
    for row, example in zip(rows, examples, strict=True):
        encoded = encode(TOKENIZER, example, max_length=64)
        assert row["input_ids"] == encoded.input_ids.tolist()
        targets = encoded.supervised.tolist()
        assert [label != -100 for label in row["labels"]] == targets
        assert 0 < sum(targets) < len(targets)
        assert all(label in (-100, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))


def test_training_rows_take_a_sample_by_its_name():
    assert len(training_rows("sample:sentence_to_json_train", TOKENIZER, max_length=512)) > 100


def test_training_rows_refuse_a_sample_that_does_not_exist():
    with pytest.raises(DataError, match="no such sample"):
        training_rows("sample:none", TOKENIZER, max_length=64)
