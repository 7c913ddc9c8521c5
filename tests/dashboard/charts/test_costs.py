"""Bars of prices add up to the table's own totals."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import cost_table
from semfreeze_core.records.training import TrainingSetup
from semfreeze_dashboard.charts.costs import draw_flop, draw_memory
from tests.core.shapes import shape_of_layers

SHAPE = shape_of_layers(
    (10**6,) * 4,
    (10**6,) * 4,
    n_heads=8,
    n_kv_heads=8,
    head_dim=16,
    mlp_width=512,
    layer_kind="gated-rmsnorm",
    d_model=128,
    vocab_rows=1000,
    tied=False,
    embedding_parameters=128_000,
    final_norm_parameters=128,
    head_parameters=128_000,
    head_linear_weights=128_000,
    max_positions=None,
)
ROWS = cost_table(SHAPE, TrainingSetup())


def bars(figure):
    return {trace.name: trace.y for trace in figure.data if trace.type == "bar"}


@pytest.mark.parametrize("depth", [None, 2])
def test_draw_memory_stacks_up_to_the_total(depth):
    drawn = bars(draw_memory(ROWS, depth))
    assert set(drawn) == {"weights", "gradients", "optimizer", "activations", "logits"}
    assert [sum(column) for column in zip(*drawn.values(), strict=True)] == pytest.approx(
        [row.bytes.total / 2**30 for row in ROWS]
    )


def test_draw_memory_leaves_out_what_is_not_known():
    rows = [replace(row, bytes=replace(row.bytes, activations=None)) for row in ROWS]
    assert "activations" not in bars(draw_memory(rows, 2))


def test_draw_flop_stacks_up_to_the_first_step():
    figure = draw_flop(ROWS, 2)
    drawn = bars(figure)
    assert set(drawn) == {"forward", "activation gradient", "weight gradient"}, "no recompute without checkpointing"
    unit = 1e12 if "TFLOP" in figure.layout.yaxis.title.text else 1e9
    assert [sum(column) for column in zip(*drawn.values(), strict=True)] == pytest.approx(
        [row.step_flop.total / unit for row in ROWS]
    )


def test_draw_flop_and_memory_point_at_the_plans_bar():
    for draw in (draw_flop, draw_memory):
        (line,) = draw(ROWS, 2).layout.shapes
        assert (line.x0, line.x1) == (2, 2)
        assert not draw(ROWS, None).layout.shapes
