"""Prompts that stand in training and eval examples."""

import pytest

from semfreeze_core.errors import DataError
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.shared_prompts import SharedPrompts, count_shared_prompts
from tests.core.runs.tiny_run import write_jsonl

TRAIN = [{"prompt": f"Question {i}", "completion": f" answer {i}"} for i in range(4)]


def counted(tmp_path, train, evaluation):
    files = write_jsonl(tmp_path / "train.jsonl", train), write_jsonl(tmp_path / "eval.jsonl", evaluation)
    return count_shared_prompts(*map(str, files), FieldMapping())


def test_a_prompt_counts_whatever_its_completion(tmp_path):
    evaluation = [{**TRAIN[0], "completion": " another"}, TRAIN[1], TRAIN[1], {"prompt": "New", "completion": " a"}]
    assert counted(tmp_path, TRAIN, evaluation) == SharedPrompts(3, 4)


def test_a_completion_that_is_the_same_does_not_count(tmp_path):
    assert counted(tmp_path, TRAIN, [{**TRAIN[2], "prompt": "New"}]) == SharedPrompts(0, 1)


def test_plain_text_is_compared_whole(tmp_path):
    texts = [{"text": f"Text {i}"} for i in range(3)]
    assert counted(tmp_path, texts, [texts[0], {"text": "Other"}]) == SharedPrompts(1, 2)


def test_data_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(DataError):
        counted(tmp_path, TRAIN, [])
