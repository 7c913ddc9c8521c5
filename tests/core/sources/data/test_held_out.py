"""Rows held out of a task file: a fifth, by label, and no prompt on both sides."""

import json
from collections import Counter

import pytest

from semfreeze_core.errors import DataError
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.held_out import hold_out


def write(tmp_path, rows):
    path = tmp_path / "task.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def pairs(n, **more):
    return [{"prompt": f"question {i}\n", "completion": f"answer {i}", **more} for i in range(n)]


def test_a_fifth_is_held_out_and_nothing_is_lost(tmp_path):
    rows = [row | {"day": i} for i, row in enumerate(pairs(100))]
    held_out = hold_out(write(tmp_path, rows), FieldMapping(), tmp_path / "split")
    train, evaluation = rows_of(held_out.train), rows_of(held_out.evaluation)
    assert (held_out.n_train, held_out.n_eval) == (len(train), len(evaluation)) == (80, 20)
    assert sorted(train + evaluation, key=lambda row: row["day"]) == rows
    assert evaluation != rows[:20], "drawn"
    again = hold_out(write(tmp_path, rows), FieldMapping(), tmp_path / "again")
    assert again.evaluation.read_bytes() == held_out.evaluation.read_bytes()
    assert again.train.read_bytes() == held_out.train.read_bytes()


def test_no_prompt_stands_on_both_sides(tmp_path):
    rows = pairs(40) + pairs(30) + [{"prompt": "the usual\n", "completion": f"answer {i}"} for i in range(60)]
    held_out = hold_out(write(tmp_path, rows), FieldMapping(), tmp_path)
    train, evaluation = ({row["prompt"] for row in rows_of(path)} for path in (held_out.train, held_out.evaluation))
    assert not train & evaluation
    assert "the usual\n" in train, "more rows than are to be held out"
    assert held_out.n_eval in (25, 26)
    assert held_out.n_train + held_out.n_eval == 130


def test_each_label_has_its_share(tmp_path):
    rows = [row | {"label": "abc"[i % 3 if i < 90 else 2]} for i, row in enumerate(pairs(150))]
    held_out = hold_out(write(tmp_path, rows), FieldMapping(), tmp_path)
    assert Counter(row["label"] for row in rows_of(held_out.evaluation)) == {"a": 6, "b": 6, "c": 18}


def test_texts_without_prompts_are_held_out_by_text(tmp_path):
    rows = [{"text": f"text {i % 60}"} for i in range(120)]
    held_out = hold_out(write(tmp_path, rows), FieldMapping(), tmp_path)
    train, evaluation = ({row["text"] for row in rows_of(path)} for path in (held_out.train, held_out.evaluation))
    assert not train & evaluation
    assert held_out.n_eval == 24


def test_few_rows_hold_out_the_least(tmp_path):
    held_out = hold_out(write(tmp_path, pairs(48)), FieldMapping(), tmp_path)
    assert (held_out.n_train, held_out.n_eval) == (32, 16)


def test_too_few_rows_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(DataError, match=r"has 47 usable rows, too few .* at least 48 are needed\. Add rows, .*--eval"):
        hold_out(write(tmp_path, pairs(47)), FieldMapping(), tmp_path)


def test_one_prompt_for_all_is_refused_with_the_way_out(tmp_path):
    rows = [{"prompt": "the usual\n", "completion": f"answer {i}"} for i in range(100)]
    with pytest.raises(DataError, match=r"too few different prompts .* Give eval examples with --eval"):
        hold_out(write(tmp_path, rows), FieldMapping(), tmp_path)
