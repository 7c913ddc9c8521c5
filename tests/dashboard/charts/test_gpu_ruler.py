"""The ruler of GPUs shows the totals of the table, and where a GPU's memory ends."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import cost_table
from semfreeze_core.cost.hardware import GPUS, Gpu
from semfreeze_core.records.training import TrainingSetup
from semfreeze_dashboard.charts.gpu_ruler import draw_gpu_ruler
from tests.dashboard.charts.test_costs import SHAPE

ROWS = cost_table(SHAPE, TrainingSetup())
NAMED = {"freeze 2": ROWS[2], "full finetuning": ROWS[0]}
GIB = 2**30


def ends(figure):
    return {trace.name: trace.x[-1] for trace in figure.data if trace.name in NAMED}


def test_draw_gpu_ruler_ends_each_line_at_the_total():
    drawn = ends(draw_gpu_ruler(NAMED, None))
    assert drawn == pytest.approx({name: cost.bytes.total / GIB for name, cost in NAMED.items()})


def test_draw_gpu_ruler_has_every_gpu_and_the_one_that_was_typed():
    typed = Gpu("1 GiB GPU", GIB, None, None, None, "")
    for gpu, sizes in ((None, [card.memory_bytes / GIB for card in GPUS]), (typed, [1.0, GPUS[0].memory_bytes / GIB])):
        figure = draw_gpu_ruler(NAMED, gpu)
        (marks,) = [trace for trace in figure.data if trace.name == "GPUs"]
        assert list(marks.x)[: len(sizes)] == sizes
        low, high = (10**end for end in figure.layout.xaxis.range)
        assert all(low < x < high for x in (*marks.x, *ends(figure).values()))
    (name,) = [note for note in figure.layout.annotations if note.text == typed.name]
    assert name.x == 0, "words on a logarithmic axis are placed by the logarithm"


def test_draw_gpu_ruler_dots_what_does_not_fit():
    tight = Gpu("tight", int((ROWS[2].bytes.total + ROWS[0].bytes.total) / 2), None, None, None, "")
    dashes = {trace.name: trace.line.dash for trace in draw_gpu_ruler(NAMED, tight).data if trace.name in NAMED}
    assert dashes == {"freeze 2": "solid", "full finetuning": "dot"}


def test_draw_gpu_ruler_without_any_known_memory_draws_nothing():
    unknown = replace(ROWS[2], bytes=replace(ROWS[2].bytes, activations=None))
    assert unknown.bytes.total is None
    assert draw_gpu_ruler({"freeze 2": unknown}, None) is None
