"""From a file to the examples drawn from it."""

import hashlib
import json
import tracemalloc
from collections import Counter

import pytest

from semfreeze_core.errors import DataError
from semfreeze_core.records.defaults import MIN_SLICE
from semfreeze_core.records.examples import RowCounts, SkippedRow
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data import usable_rows
from semfreeze_core.sources.data.examples import (
    LONGEST_GROUP_VALUE,
    MAX_GROUP_COLUMNS,
    MAX_GROUP_VALUES,
    group_columns,
    read_examples,
)
from semfreeze_core.sources.data.sampling import sample_rows
from tests.core.tiny_tokenizer import CHATML, EOS, build_tiny_tokenizer


def write(tmp_path, rows, name="tasks.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def pairs(n, **more):
    return [{"prompt": f"question {i}\n", "completion": f"answer {i}", **more} for i in range(n)]


def read(source, mapping=None, *, n=None, seed=0, **options):
    return read_examples(source, mapping=mapping or FieldMapping(), n=n, seed=seed, **options)


def refusal(source, mapping=None, **options):
    with pytest.raises(DataError) as caught:
        read(source, mapping, **options)
    return str(caught.value)


def test_read_examples_draws_by_label_in_seeded_order(tmp_path):
    rows = [row | {"label": "ab"[i % 4 == 0]} for i, row in enumerate(pairs(100))]
    source = write(tmp_path, rows)
    example_set = read(source, n=20)
    assert (len(example_set.examples), example_set.n_rows, example_set.n_usable) == (20, 100, 100)
    assert Counter(example.label for example in example_set.examples) == {"a": 15, "b": 5}
    order = [example.row for example in example_set.examples]
    assert order != sorted(order)
    assert max(order) > 50
    assert all(example.prompt == rows[example.row]["prompt"] for example in example_set.examples)
    assert example_set == read(source, n=20)
    assert example_set.examples != read(source, n=20, seed=1).examples


def test_read_examples_records_what_it_read(tmp_path):
    source = write(tmp_path, pairs(3))
    example_set = read(source)
    assert example_set.mapping == FieldMapping("prompt", "completion")
    assert example_set.source == source
    with open(source, "rb") as file:
        assert example_set.file_digest == hashlib.sha256(file.read()).hexdigest()
    assert len(example_set.notes) == 1
    assert example_set.notes[0].startswith("Read as prompt and completion: the prompt from 'prompt'")


def test_read_examples_counts_rows_without_anything_supervised(tmp_path):
    rows = pairs(5)
    rows[1]["completion"], rows[3]["completion"] = None, ""
    example_set = read(write(tmp_path, rows))
    assert (example_set.n_rows, example_set.n_usable) == (5, 3)
    assert sorted(example.row for example in example_set.examples) == [0, 2, 4]
    assert "2 of 5 rows are left out: no text in 'completion'." in example_set.notes


def test_read_examples_refuses_a_source_without_anything_supervised(tmp_path):
    source = write(tmp_path, [row | {"completion": " "} for row in pairs(3)])
    assert refusal(source) == f"{source}: nothing supervised. All 3 rows have no text in 'completion'."
    source = write(tmp_path, [{"messages": [{"role": "user", "content": "x"}]}])
    message = refusal(source, tokenizer=build_tiny_tokenizer(chat_template=CHATML))
    assert "nothing supervised. All 1 rows have no answer of an assistant in 'messages'." in message


def test_read_examples_skips_a_row_that_cannot_be_read_and_lists_why(tmp_path):
    rows = pairs(50)
    rows[17]["completion"] = 4
    rows[30] = {"prompt": "a", "complection": "b"}
    source = write(tmp_path, rows)
    for seed in range(3):
        example_set = read(source, n=1, seed=seed)
        assert (example_set.n_rows, example_set.n_usable, example_set.n_skipped) == (50, 48, 2)
        reasons = [
            "field 'completion' is a number (int 4), expected text",
            "field 'completion' is missing; the row has 'prompt', 'complection'",
        ]
        assert example_set.skipped == (SkippedRow(17, source, 18, reasons[0]), SkippedRow(30, source, 31, reasons[1]))
        assert example_set.notes[-1] == f"2 of 50 rows are skipped: line 18: {reasons[0]}; line 31: {reasons[1]}."
        assert example_set.examples[0].row not in (17, 30)


def test_read_examples_skips_lines_that_are_no_json_like_other_rows(tmp_path):
    lines = [json.dumps(row) for row in pairs(40)]
    source = tmp_path / "tasks.jsonl"
    source.write_text("\n".join([lines[0], "# a remark", *lines[1:], lines[0][:-4]]), encoding="utf-8")
    example_set = read(str(source))
    assert (example_set.n_rows, example_set.n_usable, example_set.n_skipped) == (42, 40, 2)
    assert [(row.row, row.line) for row in example_set.skipped] == [(1, 2), (41, 42)]
    assert example_set.skipped_note.startswith(
        "2 of 42 rows are skipped: line 2: not JSON (Expecting value at character 1)"
    )
    assert {example.prompt for example in example_set.examples} == {row["prompt"] for row in pairs(40)}


def test_read_examples_names_the_first_of_many_skipped_rows(tmp_path, monkeypatch):
    rows = [row | {"completion": None if i == 0 else i} if i < 8 else row for i, row in enumerate(pairs(20))]
    monkeypatch.setattr(usable_rows, "MOST_SKIPPED", 5)
    example_set = read(write(tmp_path, rows))
    assert (example_set.n_usable, example_set.n_skipped, len(example_set.skipped)) == (12, 7, 5)
    assert "and 4 more, which `semfreeze preview --skipped FILE` lists." in example_set.skipped_note
    assert example_set.counts.n_rows == 20
    assert example_set.counts.causes[0] == "1 left out: no text in 'completion'"
    assert example_set.counts.causes[1].startswith("7 skipped: line 2: field 'completion' is a number (int 1)")
    assert read(write(tmp_path, rows), n=3).counts == RowCounts(3)


def test_read_examples_refuses_a_source_whose_rows_all_are_skipped(tmp_path):
    source = write(tmp_path, [row | {"completion": 4} for row in pairs(3)] + [{"prompt": "a", "completion": ""}])
    assert refusal(source) == (
        f"{source}: none of 4 rows can be used. 3 cannot be read, the first of them: line 1: field 'completion' is a "
        "number (int 4), expected text. 1 have no text in 'completion'."
    )


@pytest.mark.parametrize("label", [0.5, ["a"], {"a": 1}])
def test_a_guessed_label_that_is_no_class_is_left_out(tmp_path, label):
    rows = [row | {"label": "a"} for row in pairs(5)]
    rows[3]["label"] = label
    source = write(tmp_path, rows)
    example_set = read(source)
    assert (example_set.n_usable, example_set.mapping.label_field) == (5, None)
    assert {example.label for example in example_set.examples} == {None}
    assert any(
        note.startswith("The labels in 'label' are left out (line 4: field 'label' is") for note in example_set.notes
    )
    assert example_set.notes[0].endswith("the completion from 'completion' (--completion-field)."), "no label is read"
    named = read(source, FieldMapping(label_field="label"))
    assert (named.n_usable, named.n_skipped, named.mapping.label_field) == (4, 1, "label")


def test_read_examples_passes_on_what_rows_and_fields_refuse(tmp_path):
    assert "does not exist" in refusal(str(tmp_path / "none.jsonl"))
    assert "Columns found: a, b." in refusal(write(tmp_path, [{"a": "x", "b": "y"}]))
    assert refusal(write(tmp_path, pairs(1)), n=0) == "0 examples were asked for: at least 1 is needed."


def test_read_examples_renders_chat_with_the_tokenizer(tmp_path):
    messages = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    source = write(tmp_path, [{"conversations": messages}, {"conversations": messages[:1]}])
    example_set = read(source, tokenizer=build_tiny_tokenizer(chat_template=CHATML))
    (example,) = example_set.examples
    assert example.complete
    assert example.completion == f"hello{EOS}"
    assert (example_set.n_rows, example_set.n_usable) == (2, 1)
    assert refusal(source).startswith("Chat messages need the model's tokenizer")
    assert refusal(source, tokenizer=build_tiny_tokenizer()).startswith("The model has no chat template")


def test_read_examples_warns_when_prompt_and_completion_touch(tmp_path):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a ", "completion": "b"}, {"prompt": "", "completion": "b"}]
    notes = read(write(tmp_path, rows)).notes
    assert (
        sum("In 1 of 3 examples the completion follows the prompt without white space" in note for note in notes) == 1
    )


@pytest.mark.parametrize("rows_left", [4, 6])
def test_read_examples_notices_a_file_that_changes_meanwhile(tmp_path, monkeypatch, rows_left):
    source = write(tmp_path, pairs(5))

    def write_and_draw(labels, n, seed):
        write(tmp_path, pairs(rows_left))
        return sample_rows(labels, n, seed)

    monkeypatch.setattr("semfreeze_core.sources.data.examples.sample_rows", write_and_draw)
    assert "changed while it was read" in refusal(source)


def test_read_examples_reports_progress(tmp_path):
    events = []
    read(write(tmp_path, pairs(2500)), n=5, progress=events.append)
    assert [(event.done, event.total) for event in events] == [(1000, None), (2000, None), (2500, 2500)]


def test_read_examples_says_that_a_hub_dataset_has_no_digest(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(pairs(3)).save_to_disk(tmp_path / "saved")
    example_set = read(f"hf:{tmp_path / 'saved'}")
    assert example_set.file_digest is None
    assert example_set.notes[-1].startswith("A hub dataset has no single file")


@pytest.mark.quick_cases(0)
def test_read_examples_keeps_memory_flat(tmp_path):
    path = tmp_path / "large.csv"
    row = f"{'question ' * 40},answer,{{}}\n"
    path.write_text("prompt,completion,label\n" + "".join(row.format(i % 7) for i in range(20_000)))
    tracemalloc.start()
    try:
        assert len(read(str(path), n=20).examples) == 20
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**21 < path.stat().st_size / 3


def column(values):
    return [{"prompt": f"p{i}", "x": value} for i, value in enumerate(values)]


def test_words_whole_numbers_and_truth_values_make_groups():
    for values in (["a", "b"] * 4, [1, 2] * 4, [True, False] * 4):
        assert group_columns(column(values), {"prompt"}, 3) == {"x": tuple(map(str, values))}


def test_a_row_without_a_value_has_no_group():
    rows = [*column(["a", "b"] * 4), {"prompt": "q"}, {"prompt": "r", "x": None}, {"prompt": "s", "x": " "}]
    assert group_columns(rows, {"prompt"}, 3)["x"] == (*"ab" * 4, None, None, None)


@pytest.mark.parametrize(
    "values",
    [
        ["a"] * 8,
        ["a"] * 8 + ["b"] * 2,
        [0.5, 1.5] * 4,
        [["a"], ["b"]] * 4,
        ["a", "b" * (LONGEST_GROUP_VALUE + 1)] * 4,
        [str(i) for i in range(MAX_GROUP_VALUES + 1)] * 4,
        [None] * 8,
    ],
    ids=["one value", "one large group", "fractions", "lists", "long", "too many values", "nothing"],
)
def test_what_makes_no_groups_is_left_out(values):
    assert group_columns(column(values), {"prompt"}, 3) == {}


def test_taken_columns_and_more_than_the_most_are_left_out():
    rows = [{f"c{j}": "ab"[i % 2] for j in range(MAX_GROUP_COLUMNS + 3)} for i in range(8)]
    assert list(group_columns(rows, {"c0"}, 3)) == [f"c{j}" for j in range(1, MAX_GROUP_COLUMNS + 1)]


def test_examples_bring_their_groups_in_their_own_order(tmp_path):
    rows = [
        {
            "prompt": f"say {i}",
            "completion": "yes" if i % 3 else "no",
            "source": "mail" if i % 2 else "chat",
            "id": f"{i}",
        }
        for i in range(3 * MIN_SLICE)
    ]
    example_set = read(write(tmp_path, rows), n=40, seed=1)
    assert list(example_set.groups) == ["source"]  # "completion" is the completion, "id" differs in every row
    assert example_set.groups["source"] == tuple(rows[example.row]["source"] for example in example_set.examples)


def test_the_parts_of_a_folder_are_one_source(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "README.md").write_text("not data")
    rows = pairs(6)
    rows[4]["completion"] = 4
    write(folder, rows[3:], "train-00001-of-00002.jsonl")
    write(folder, rows[:3], "train-00000-of-00002.jsonl")
    example_set = read(str(folder))
    assert [example_set.n_rows, example_set.n_usable] == [6, 5]
    assert sorted(example.row for example in example_set.examples) == [0, 1, 2, 3, 5]
    assert (example_set.skipped[0].file, example_set.skipped[0].line) == ("train-00001-of-00002.jsonl", 2)
    whole = b"".join(path.read_bytes() for path in sorted(folder.glob("*.jsonl")))
    assert example_set.file_digest == hashlib.sha256(whole).hexdigest()
