"""What every freeze depth costs, by part: stacked memory and FLOP."""

from collections.abc import Sequence

import plotly.graph_objects as go

from semfreeze_core.records.cost import DepthCost

from .theme import GREY, INK, OTHERS, faded, new_figure

_GIB = 2**30
_BYTES = (
    ("weights", INK),
    ("gradients", OTHERS[0]),
    ("optimizer", OTHERS[1]),
    ("activations", OTHERS[2]),
    ("logits", GREY),
)
_FLOP = (
    ("forward", INK),
    ("recompute", OTHERS[3]),
    ("activation_gradient", OTHERS[1]),
    ("weight_gradient", OTHERS[2]),
)


def draw_memory(rows: Sequence[DepthCost], depth: int | None) -> go.Figure:
    """Projected device memory by freeze depth; parts that are not known are left out."""
    figure = _stacked("GiB", "projected memory, GiB")
    for part, colour in _BYTES:
        values = [getattr(row.bytes, part) for row in rows]
        if None not in values:
            _add_part(figure, rows, part, [value / _GIB for value in values], colour, "%{y:.2f} GiB")
    _point_at(figure, depth)
    return figure


def draw_flop(rows: Sequence[DepthCost], depth: int | None) -> go.Figure:
    """FLOP of the first training step by freeze depth, in TFLOP or GFLOP."""
    largest = max(row.step_flop.total for row in rows)
    unit, name = (1e12, "TFLOP") if largest >= 1e12 else (1e9, "GFLOP")
    figure = _stacked(name, f"first step, {name}")
    for part, colour in _FLOP:
        values = [getattr(row.step_flop, part) / unit for row in rows]
        if any(values):
            _add_part(figure, rows, part.replace("_", " "), values, colour, f"%{{y:.2f}} {name}")
    _point_at(figure, depth)
    return figure


def _stacked(unit: str, y_title: str) -> go.Figure:
    figure = new_figure("freeze depth k (0: full finetuning)", y_title)
    figure.update_layout(barmode="stack", bargap=0.15)
    return figure


def _point_at(figure: go.Figure, depth: int | None) -> None:
    """A line through the plan's bar; nothing when the plan abstains."""
    if depth is not None:
        line = {"color": INK, "width": 1.5, "dash": "dot"}
        figure.add_vline(x=depth, line=line, annotation_text=f"plan: {depth}", annotation_position="top right")


def _add_part(
    figure: go.Figure, rows: Sequence[DepthCost], name: str, values: Sequence[float], colour: str, shown: str
) -> None:
    """One part of every bar; an outline, as all of it is projected."""
    figure.add_bar(
        x=[row.freeze_depth for row in rows],
        y=values,
        name=name,
        marker={"color": faded(colour, 0.35), "line": {"color": colour, "width": 1.2}},
        hovertemplate=shown,
    )
