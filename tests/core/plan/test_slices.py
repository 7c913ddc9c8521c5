"""Groups of examples, each read by itself with the rule's own formula."""

from dataclasses import replace

import pytest

from semfreeze_core.plan.rules import decide_by_coverage
from semfreeze_core.plan.slices import SMALLEST_SLICE, slices
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run


@pytest.fixture(scope="module")
def run():
    return read_run(example_run())


def test_slices_are_the_runs_labels_each_with_the_rules_own_answer(run):
    found, left_out = slices(run, "semantic")
    counts = run.examples["label"].value_counts()
    assert [s.name for s in found] == [str(name) for name in counts.index]
    assert [s.curve.n_examples for s in found] == counts.tolist()
    assert left_out == 0
    for s in found:
        assert s.decision == decide_by_coverage(s.curve)
        assert s.contradicts(s.pick[1] + 1)
        assert not s.contradicts(s.pick[1])


def test_slices_of_a_run_without_labels_are_none(run):
    unlabelled = replace(run, examples=run.examples.assign(label=None))
    assert slices(unlabelled, "semantic") == ([], 0)


def test_slices_leave_out_groups_too_small_to_read(run):
    labels = ["large"] * (run.n_examples - SMALLEST_SLICE + 1) + ["small"] * (SMALLEST_SLICE - 1)
    found, left_out = slices(replace(run, examples=run.examples.assign(label=labels)), "semantic")
    assert [s.name for s in found] == ["large"]
    assert left_out == 1
