"""Rows that pages show are the run's own."""

import numpy as np
import pytest

from semfreeze_dashboard.data import position_table


def test_read_out_positions_are_one_examples_in_the_order_of_its_text(example):
    display = example.run.display
    positions = position_table.read_out_positions(display, int(display.example[0]))
    assert set(display.example[positions]) == {display.example[0]}
    assert (np.diff(display.order[positions]) > 0).all()
    assert positions.max() < len(display.read_top)


def test_position_rows_tell_truth_and_prediction(example):
    rows = position_table.position_rows(example.run, "semantic", [0, 999])
    display = example.run.display
    assert rows["right"].tolist() == display.right[[0, 999]].tolist()
    assert rows["truth"].tolist() == [display.token_text[int(t)] for t in display.label_ids[[0, 999]]]
    assert rows["last distance"].tolist() == pytest.approx(display.deviation[0][[0, 999], -1].tolist())
    assert rows["prompt"][0] == example.run.examples["prompt"].iloc[display.example[0]]
