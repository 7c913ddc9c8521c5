"""What every freeze depth costs, by part: stacked memory and FLOP."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.wording.numbers import flops, gib

from .theme import INK, OTHERS, faded, new_figure

_GIB = 2**30
_NAME_ROWS = 0.3  # above the first bar, for its name, which would else stand in the legend
BYTES = (
    ("weights", INK),
    ("gradients", OTHERS[0]),
    ("optimizer", OTHERS[1]),
    ("activations", OTHERS[2]),
    ("logits", OTHERS[3]),
)
_FLOP = (
    ("forward", INK),
    ("recompute", OTHERS[0]),
    ("activation_gradient", OTHERS[1]),
    ("weight_gradient", OTHERS[2]),
)


def draw_memory(
    rows: Sequence[DepthCost], depth: int | None, gpu: Gpu | None = None, marked: str = "plan"
) -> go.Figure:
    """Projected device memory by freeze depth, with a line at what a GPU holds; parts not known are left out.

    Args:
        rows: every freeze depth, from 0 on.
        depth: to mark, or None.
        gpu: whose memory to mark, or None.
        marked: what the depth is called.
    """
    figure = _stacked("GiB", "projected memory, GiB")
    for part, color in BYTES:
        values = [getattr(row.bytes, part) for row in rows]
        if None not in values:
            _add_part(figure, rows, part, [value / _GIB for value in values], color, "%{y:.2f} GiB")
    _point_at(figure, depth, marked)
    if gpu is not None:
        line, position = {"color": INK, "width": 1.5}, "top right"
        figure.add_hline(y=gpu.memory_bytes / _GIB, line=line, annotation_text=gpu.name, annotation_position=position)
    return figure


def draw_flop(rows: Sequence[DepthCost], depth: int | None) -> go.Figure:
    """FLOP of the first training step by freeze depth, in TFLOP or GFLOP."""
    unit, name = _flop_unit(rows)
    figure = _stacked(name, f"first step, {name}")
    for part, color in _FLOP:
        values = [getattr(row.step_flop, part) / unit for row in rows]
        if any(values):
            _add_part(figure, rows, part.replace("_", " "), values, color, f"%{{y:.2f}} {name}")
    _point_at(figure, depth)
    return figure


def draw_memory_beside(named: Mapping[str, DepthCost]) -> go.Figure:
    """Projected device memory of a few alternatives, by part; parts that are not known are left out."""
    totals = [gib(cost.bytes.total) for cost in named.values()]
    figure = _stacked_beside("projected memory, GiB", list(named), totals)
    for part, color in BYTES:
        values = [getattr(cost.bytes, part) for cost in named.values()]
        if None not in values:
            _add_row_part(figure, list(named), part, [v / _GIB for v in values], color, "%{x:.2f} GiB")
    return figure


def draw_flop_beside(named: Mapping[str, DepthCost]) -> go.Figure:
    """FLOP of the first training step of a few alternatives, by what they are spent on."""
    unit, name = _flop_unit(list(named.values()))
    largest = max(cost.step_flop.total for cost in named.values())
    totals = [flops(cost.step_flop.total, largest) for cost in named.values()]
    figure = _stacked_beside(f"first step, {name}", list(named), totals)
    for part, color in _FLOP:
        values = [getattr(cost.step_flop, part) / unit for cost in named.values()]
        if any(values):
            shown = f"%{{x:.2f}} {name}"
            _add_row_part(figure, list(named), part.replace("_", " "), values, color, shown)
    return figure


def _flop_unit(rows: Sequence[DepthCost]) -> tuple[float, str]:
    return (1e12, "TFLOPs") if max(row.step_flop.total for row in rows) >= 1e12 else (1e9, "GFLOPs")


def _stacked_beside(x_title: str, names: Sequence[str], totals: Sequence[str]) -> go.Figure:
    """Bars below each other; names and totals stand above them, where neither a bar nor the edge is in their way."""
    figure = new_figure(x_title, "", height=124 + 44 * len(names))
    figure.update_layout(barmode="stack", bargap=0.64, hovermode="closest", margin={"l": 4, "r": 8})
    figure.update_layout(legend={"traceorder": "normal"})
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False, range=[len(names) - 0.5, -0.5 - _NAME_ROWS], showticklabels=False)
    position = {"x": 0, "xref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 9, "showarrow": False}
    for name, total in zip(names, totals, strict=True):
        figure.add_annotation(text=f"{name}: {total}", y=name, yref="y", **position)
    return figure


def _add_row_part(
    figure: go.Figure, names: Sequence[str], part: str, values: Sequence[float], color: str, shown: str
) -> None:
    """One part of every row; an outline, as all of it is projected."""
    figure.add_bar(
        y=names,
        x=values,
        name=part,
        orientation="h",
        marker={"color": faded(color, 0.35), "line": {"color": color, "width": 1.2}},
        hovertemplate=f"%{{y}}<br>{part}: {shown}<extra></extra>",
    )


def _stacked(unit: str, y_title: str) -> go.Figure:
    figure = new_figure("freeze depth k (0: full finetuning)", y_title)
    figure.update_layout(barmode="stack", bargap=0.15)
    return figure


def _point_at(figure: go.Figure, depth: int | None, marked: str = "plan") -> None:
    """A line through the plan's bar; nothing when the plan abstains."""
    if depth is not None:
        line = {"color": INK, "width": 1.5, "dash": "dot"}
        figure.add_vline(x=depth, line=line, annotation_text=f"{marked}: {depth}", annotation_position="top right")


def _add_part(
    figure: go.Figure, rows: Sequence[DepthCost], name: str, values: Sequence[float], color: str, shown: str
) -> None:
    """One part of every bar; an outline, as all of it is projected."""
    figure.add_bar(
        x=[row.freeze_depth for row in rows],
        y=values,
        name=name,
        marker={"color": faded(color, 0.35), "line": {"color": color, "width": 1.2}},
        hovertemplate=shown,
    )
