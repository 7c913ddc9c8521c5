"""Groups of examples, each read by itself with the rule's own formula."""

from dataclasses import replace

import pandas as pd
import pytest

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.rules import decide_by_coverage
from semfreeze_core.plan.slices import groupings, kept_columns, slices
from semfreeze_core.records.defaults import MIN_SLICE
from semfreeze_core.records.run import GROUP_PREFIX
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run


@pytest.fixture(scope="module")
def run():
    return read_run(example_run())


def test_slices_are_the_runs_labels_each_with_the_rules_own_answer(run):
    groups, left_out = slices(run, "semantic")
    counts = run.examples["label"].value_counts()
    assert [s.name for s in groups] == [str(name) for name in counts.index]
    assert [s.curve.n_examples for s in groups] == counts.tolist()
    assert left_out == 0
    for s in groups:
        assert s.decision == decide_by_coverage(s.curve)
        assert s.contradicts(s.pick[1] + 1)
        assert not s.contradicts(s.pick[1])


def test_slices_of_a_run_without_labels_are_none(run):
    unlabeled = replace(run, examples=run.examples.assign(label=None))
    assert slices(unlabeled, "semantic") == ([], 0)
    assert groupings(unlabeled) == ["prompt length", "completion length"]


def test_slices_group_by_another_column_that_the_run_kept(run):
    half = run.n_examples // 2
    sources = ["mail"] * half + ["chat"] * (run.n_examples - half - 1) + [None]
    grown = replace(run, examples=run.examples.assign(**{GROUP_PREFIX + "source": pd.Series(sources, dtype="string")}))
    assert groupings(grown) == ["label", "source", "prompt length", "completion length"]
    assert (kept_columns(grown), kept_columns(run)) == (["source"], [])
    groups, left_out = slices(grown, "semantic", "source")
    assert {s.name: s.curve.n_examples for s in groups} == {"mail": half, "chat": run.n_examples - half - 1}
    assert left_out == 0
    with pytest.raises(PlanError, match=r"cannot be grouped by 'sauce'\. Available groups: label, source, prompt"):
        slices(grown, "semantic", "sauce")


@pytest.mark.parametrize("by", ["prompt length", "completion length"])
def test_slices_by_length_are_thirds_named_by_their_range(run, by):
    supervised = run.examples["n_supervised"]
    lengths = supervised if by == "completion length" else run.examples["n_tokens"] - supervised
    groups, _ = slices(run, "semantic", by)
    ranges = [tuple(map(int, s.name.removesuffix(" tokens").split(" to "))) for s in groups]
    assert len(ranges) == 3
    assert ranges == sorted(ranges)
    assert sum(s.curve.n_examples for s in groups) == run.n_examples
    assert (ranges[0][0], ranges[-1][-1]) == (lengths.min(), lengths.max())
    for s in groups:
        low, *_, high = (*map(int, s.name.removesuffix(" tokens").split(" to ")),) * 2
        assert s.curve.n_examples == lengths.between(low, high).sum()


def test_slices_of_examples_of_one_length_are_one_group(run):
    alike = replace(run, examples=run.examples.assign(n_supervised=3))
    assert [s.name for s in slices(alike, "semantic", "completion length")[0]] == ["3 tokens"]


def test_slices_leave_out_groups_too_small_to_read(run):
    labels = ["large"] * (run.n_examples - MIN_SLICE + 1) + ["small"] * (MIN_SLICE - 1)
    groups, left_out = slices(replace(run, examples=run.examples.assign(label=labels)), "semantic")
    assert [s.name for s in groups] == ["large"]
    assert left_out == 1
