"""Columns of a task file that make groups, and those that do not."""

import pytest

from semfreeze_core.records.defaults import MIN_SLICE
from semfreeze_core.sources.data.examples import read_examples
from semfreeze_core.sources.data.fields import FieldMapping
from semfreeze_core.sources.data.groups import LONGEST_VALUE, MOST_COLUMNS, MOST_VALUES, group_columns
from tests.core.runs.tiny_run import write_jsonl


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
        ["a", "b" * (LONGEST_VALUE + 1)] * 4,
        [str(i) for i in range(MOST_VALUES + 1)] * 4,
        [None] * 8,
    ],
    ids=["one value", "one large group", "fractions", "lists", "long", "too many values", "nothing"],
)
def test_what_makes_no_groups_is_left_out(values):
    assert group_columns(column(values), {"prompt"}, 3) == {}


def test_taken_columns_and_more_than_the_most_are_left_out():
    rows = [{f"c{j}": "ab"[i % 2] for j in range(MOST_COLUMNS + 3)} for i in range(8)]
    assert list(group_columns(rows, {"c0"}, 3)) == [f"c{j}" for j in range(1, MOST_COLUMNS + 1)]


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
    found = read_examples(str(write_jsonl(tmp_path / "t.jsonl", rows)), mapping=FieldMapping(), n=40, seed=1)
    assert list(found.groups) == ["source"]  # "completion" is the completion, "id" differs in every row
    assert found.groups["source"] == tuple(rows[example.row]["source"] for example in found.examples)
