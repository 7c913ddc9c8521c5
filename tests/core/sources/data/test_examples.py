"""From a file to the examples drawn from it."""

import hashlib
import json
import tracemalloc
from collections import Counter

import pytest

from semfreeze_core.errors import DataError
from semfreeze_core.records.defaults import MIN_SLICE
from semfreeze_core.records.fields import FieldMapping
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
    found = read(source, n=20)
    assert (len(found.examples), found.n_rows, found.n_usable) == (20, 100, 100)
    assert Counter(example.label for example in found.examples) == {"a": 15, "b": 5}
    order = [example.row for example in found.examples]
    assert order != sorted(order)
    assert max(order) > 50
    assert all(example.prompt == rows[example.row]["prompt"] for example in found.examples)
    assert found == read(source, n=20)
    assert found.examples != read(source, n=20, seed=1).examples


def test_read_examples_records_what_it_read(tmp_path):
    source = write(tmp_path, pairs(3))
    found = read(source)
    assert found.mapping == FieldMapping("prompt", "completion")
    assert found.source == source
    with open(source, "rb") as file:
        assert found.file_digest == hashlib.sha256(file.read()).hexdigest()
    assert len(found.notes) == 1
    assert found.notes[0].startswith("Read as prompt and completion: the prompt from 'prompt'")


def test_read_examples_counts_rows_without_anything_supervised(tmp_path):
    rows = pairs(5)
    rows[1]["completion"], rows[3]["completion"] = None, ""
    found = read(write(tmp_path, rows))
    assert (found.n_rows, found.n_usable) == (5, 3)
    assert sorted(example.row for example in found.examples) == [0, 2, 4]
    assert "2 of 5 rows are left out: no text in 'completion'." in found.notes


def test_read_examples_refuses_a_source_without_anything_supervised(tmp_path):
    source = write(tmp_path, [row | {"completion": " "} for row in pairs(3)])
    assert refusal(source) == f"{source}: nothing supervised. All 3 rows have no text in 'completion'."
    source = write(tmp_path, [{"messages": [{"role": "user", "content": "x"}]}])
    message = refusal(source, tokenizer=build_tiny_tokenizer(chat_template=CHATML))
    assert "nothing supervised. All 1 rows have no answer of an assistant in 'messages'." in message


def test_read_examples_finds_a_broken_row_outside_the_sample(tmp_path):
    rows = pairs(50)
    rows[17]["completion"] = 4
    source = write(tmp_path, rows)
    expected = f"{source}, line 18, row 17: field 'completion' is a number (int 4), expected text."
    assert all(refusal(source, n=1, seed=seed) == expected for seed in range(3))


def test_read_examples_names_the_keys_of_a_row_without_the_field(tmp_path):
    source = write(tmp_path, [*pairs(2), {"prompt": "a", "complection": "b"}])
    expected = f"{source}, line 3, row 2: field 'completion' is missing; the row has 'prompt', 'complection'."
    assert refusal(source) == expected


def test_read_examples_passes_on_what_rows_and_fields_refuse(tmp_path):
    assert "does not exist" in refusal(str(tmp_path / "none.jsonl"))
    assert "Columns found: a, b." in refusal(write(tmp_path, [{"a": "x", "b": "y"}]))
    assert refusal(write(tmp_path, pairs(1)), n=0) == "0 examples were asked for: at least 1 is needed."


def test_read_examples_renders_chat_with_the_tokenizer(tmp_path):
    messages = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    source = write(tmp_path, [{"conversations": messages}, {"conversations": messages[:1]}])
    found = read(source, tokenizer=build_tiny_tokenizer(chat_template=CHATML))
    (example,) = found.examples
    assert example.complete
    assert example.completion == f"hello{EOS}"
    assert (found.n_rows, found.n_usable) == (2, 1)
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
    found = read(f"hf:{tmp_path / 'saved'}")
    assert found.file_digest is None
    assert found.notes[-1].startswith("A hub dataset has no single file")


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
    found = read(write(tmp_path, rows), n=40, seed=1)
    assert list(found.groups) == ["source"]  # "completion" is the completion, "id" differs in every row
    assert found.groups["source"] == tuple(rows[example.row]["source"] for example in found.examples)
