"""What every freeze depth costs, by part: stacked memory and FLOP."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from semfreeze_core.records.cost import DepthCost

from .theme import INK, OTHERS, faded, new_figure

_GIB = 2**30
_BYTES = (
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
    unit, name = _flop_unit(rows)
    figure = _stacked(name, f"first step, {name}")
    for part, colour in _FLOP:
        values = [getattr(row.step_flop, part) / unit for row in rows]
        if any(values):
            _add_part(figure, rows, part.replace("_", " "), values, colour, f"%{{y:.2f}} {name}")
    _point_at(figure, depth)
    return figure


def draw_memory_beside(named: Mapping[str, DepthCost]) -> go.Figure:
    """Projected device memory of a few alternatives, by part; parts that are not known are left out."""
    figure = _stacked_beside("projected memory, GiB", len(named))
    for part, colour in _BYTES:
        values = [getattr(cost.bytes, part) for cost in named.values()]
        if None not in values:
            _add_row_part(figure, list(named), part, [v / _GIB for v in values], colour, "%{x:.2f} GiB")
    totals = [cost.bytes.total for cost in named.values()]
    if None not in totals:
        _add_totals(figure, list(named), [total / _GIB for total in totals if total is not None], "GiB")
    return figure


def draw_flop_beside(named: Mapping[str, DepthCost]) -> go.Figure:
    """FLOP of the first training step of a few alternatives, by what they are spent on."""
    unit, name = _flop_unit(list(named.values()))
    figure = _stacked_beside(f"first step, {name}", len(named))
    for part, colour in _FLOP:
        values = [getattr(cost.step_flop, part) / unit for cost in named.values()]
        if any(values):
            shown = f"%{{x:.2f}} {name}"
            _add_row_part(figure, list(named), part.replace("_", " "), values, colour, shown)
    _add_totals(figure, list(named), [cost.step_flop.total / unit for cost in named.values()], name)
    return figure


def _flop_unit(rows: Sequence[DepthCost]) -> tuple[float, str]:
    return (1e12, "TFLOP") if max(row.step_flop.total for row in rows) >= 1e12 else (1e9, "GFLOP")


def _stacked_beside(x_title: str, n: int) -> go.Figure:
    figure = new_figure(x_title, "", height=120 + 44 * n)
    figure.update_layout(barmode="stack", bargap=0.3, hovermode="closest", margin={"l": 8, "r": 64})
    figure.update_yaxes(autorange="reversed", automargin=True, ticks="", ticklabelstandoff=6)
    figure.update_layout(legend={"traceorder": "normal"})
    return figure


def _add_row_part(
    figure: go.Figure, names: Sequence[str], part: str, values: Sequence[float], colour: str, shown: str
) -> None:
    """One part of every row; an outline, as all of it is projected."""
    figure.add_bar(
        y=names,
        x=values,
        name=part,
        orientation="h",
        marker={"color": faded(colour, 0.35), "line": {"color": colour, "width": 1.2}},
        hovertemplate=f"%{{y}}<br>{part}: {shown}<extra></extra>",
    )


def _add_totals(figure: go.Figure, names: Sequence[str], totals: Sequence[float], unit: str) -> None:
    for name, total in zip(names, totals, strict=True):
        figure.add_annotation(
            x=total, y=name, text=f"{total:.2f} {unit}", showarrow=False, xanchor="left", xshift=6, font={"size": 12}
        )


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
