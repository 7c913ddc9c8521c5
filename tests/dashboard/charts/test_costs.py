"""Bars of prices add up to the table's own totals."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import cost_table
from semfreeze_core.records.training import TrainingSetup
from semfreeze_dashboard.charts.costs import draw_flop, draw_flop_beside, draw_memory, draw_memory_beside
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


def test_totals_of_alternatives_stand_above_their_bars_with_no_grid_behind_them():
    named = {"freeze 2": ROWS[2], "full": ROWS[0]}
    for figure, totals in (
        (draw_memory_beside(named), [f"{row.bytes.total / 2**30:.2f} GiB" for row in named.values()]),
        (
            draw_flop_beside(named),
            [f"{ROWS[2].step_flop.total / 1e9:.1f} GFLOPs", f"{ROWS[0].step_flop.total / 1e9:.0f} GFLOPs"],
        ),
    ):
        annotations = figure.layout.annotations
        assert [word.text for word in annotations] == [
            f"{name}: {total}" for name, total in zip(named, totals, strict=True)
        ]
        assert [word.y for word in annotations] == list(named)
        assert {word.yanchor for word in annotations} == {"bottom"}
        assert figure.layout.xaxis.showgrid is figure.layout.yaxis.showgrid is False


def test_memory_of_alternatives_says_where_it_is_not_known():
    unknown = replace(ROWS[2], bytes=replace(ROWS[2].bytes, activations=None))
    (word,) = draw_memory_beside({"freeze 2": unknown}).layout.annotations
    assert word.text == "freeze 2: unknown"
