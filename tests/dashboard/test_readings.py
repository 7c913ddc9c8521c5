"""What pages ask of a run is the core's own number on the rows they chose."""

import numpy as np
import pytest

from semfreeze_core.plan.rules import decide_by_coverage
from semfreeze_dashboard import readings


def test_selection_bands_have_the_mean_of_each_side(example):
    display = example.run.display
    chosen = np.array([3, 5, 8, 400])
    selected, rest = readings.selection_bands(display, "semantic", chosen)
    values = display.deviation[0].astype(np.float64)
    np.testing.assert_allclose(selected.mean, values[chosen].mean(axis=0))
    np.testing.assert_allclose(rest.mean, np.delete(values, chosen, axis=0).mean(axis=0))
    assert (selected.low <= selected.mean).all()
    assert (selected.mean <= selected.high).all()


def test_selection_bands_draw_examples_not_positions(example):
    display = example.run.display
    example_of = int(display.example[0])
    own = np.flatnonzero(display.example == example_of)
    selected, _ = readings.selection_bands(display, "semantic", own)
    np.testing.assert_allclose(selected.low, selected.high, err_msg="one example drawn again is itself")


def test_selection_bands_of_everything_have_no_rest(example):
    display = example.run.display
    assert readings.selection_bands(display, "logit_z", np.arange(len(display.example)))[1] is None


def test_slices_are_the_runs_labels_each_with_the_rules_own_answer(example):
    found, left_out = readings.slices(example.run, "semantic")
    counts = example.run.examples["label"].value_counts()
    assert [s.name for s in found] == [str(name) for name in counts.index]
    assert [s.curve.n_examples for s in found] == counts.tolist()
    assert left_out == 0
    for s in found:
        assert s.decision == decide_by_coverage(s.curve)
        assert s.contradicts(s.pick[1] + 1)
        assert not s.contradicts(s.pick[1])


def test_slices_of_a_run_without_labels_are_none(example):
    from dataclasses import replace

    run = replace(example.run, examples=example.run.examples.assign(label=None))
    assert readings.slices(run, "semantic") == ([], 0)


def test_read_positions_are_one_examples_in_the_order_of_its_text(example):
    display = example.run.display
    positions = readings.read_positions(display, int(display.example[0]))
    assert set(display.example[positions]) == {display.example[0]}
    assert (np.diff(display.order[positions]) > 0).all()
    assert positions.max() < len(display.read_top)


def test_position_rows_tell_truth_and_prediction(example):
    rows = readings.position_rows(example.run, "semantic", [0, 999])
    display = example.run.display
    assert rows["right"].tolist() == display.right[[0, 999]].tolist()
    assert rows["truth"].tolist() == [display.token_text[int(t)] for t in display.label_ids[[0, 999]]]
    assert rows["last deviation"].tolist() == pytest.approx(display.deviation[0][[0, 999], -1].tolist())
    assert rows["prompt"][0] == example.run.examples["prompt"].iloc[display.example[0]]
