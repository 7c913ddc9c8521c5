"""Bands of parts of a reading are means over the rows that were chosen."""

import numpy as np
import pytest

from semfreeze_core.gains.bands import first_and_later, selection_bands, task_null
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run


@pytest.fixture(scope="module")
def run():
    return read_run(example_run())


def test_selection_bands_have_the_mean_of_each_side(run):
    display = run.display
    chosen = np.array([3, 5, 8, 400])
    selected, rest = selection_bands(display, "semantic", chosen)
    values = display.deviation[0].astype(np.float64)
    np.testing.assert_allclose(selected.mean, values[chosen].mean(axis=0))
    np.testing.assert_allclose(rest.mean, np.delete(values, chosen, axis=0).mean(axis=0))
    assert (selected.low <= selected.mean).all()
    assert (selected.mean <= selected.high).all()


def test_selection_bands_draw_examples_not_positions(run):
    display = run.display
    example_of = int(display.example[0])
    positions = np.flatnonzero(display.example == example_of)
    selected, _ = selection_bands(display, "semantic", positions)
    np.testing.assert_allclose(selected.low, selected.high, err_msg="one example drawn again is itself")


def test_selection_bands_of_everything_have_no_rest(run):
    display = run.display
    assert selection_bands(display, "logit_z", np.arange(len(display.example)))[1] is None


def test_first_and_later_are_null_less_deviation(run):
    trace = run.traces["semantic"]
    first, later = first_and_later(run, "semantic")
    np.testing.assert_allclose(first.mean, np.nanmean(trace.first_null - trace.first_deviation, axis=0), rtol=1e-6)
    assert later.mean.shape == first.mean.shape == (run.shape.n_layers + 1,)


def test_task_null_is_that_of_the_kept_pairs(run):
    matched, swapped = task_null(run, "semantic")
    np.testing.assert_allclose(matched.mean, run.pairs["semantic"].own.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(swapped.mean, run.pairs["semantic"].swapped.mean(axis=0), rtol=1e-6)
