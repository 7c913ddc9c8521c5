"""Eval loss of a validation's arms as they train: along steps, or along seconds as a race that can be played again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil, exp, floor, isfinite, log, log10
from statistics import mean
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from semfreeze_core.records.defaults import VARIANTS
from semfreeze_core.records.validation import ArmRun, LiveArm, ValidationReport

from .finetunes import arm_label
from .theme import BELOW_AXIS, GRAY, INK, OTHERS, TRAINED, faded, new_figure

Along = Literal["steps", "seconds"]
_DASHED = [name for name in VARIANTS if name not in ("full", "planned")]  # whose lines have looks of their own
_DASHES = dict(zip(_DASHED, cycle(("dash", "dot", "dashdot", "longdash", "longdashdot")), strict=False))
_FRAMES = 48
_ROOM, _LEAST_ROOM = 0.06, 1.005  # beside the losses: a share of their factor, and a factor at least
_FINE_POWERS = 3  # powers of ten on an axis that shows 2 and 5 between them


@dataclass(frozen=True)
class Line:
    """One arm's curve.

    Attributes:
        arm: its name.
        title: what it is called.
        x: steps, or seconds of training from the very start, the cache pass flat at the loss before.
        y: loss in nats per token.
        training: whether it has not ended yet.
    """

    arm: str
    title: str
    x: list[float]
    y: list[float]
    training: bool = False


def lines(report: ValidationReport, live: Sequence[LiveArm], along: Along) -> list[Line]:
    """Every arm with a reading: finished seeds as their mean, else the one that is training."""
    before, lines = report.baseline.loss, []
    for name in dict.fromkeys([*report.arms, *(arm.arm for arm in live)]):
        runs = [run for run in report.runs if run.arm == name and run.status == "done"]
        if runs:
            x, y = _means(runs, along)
            cached = mean(run.cache_seconds for run in runs)
            lines.append(Line(name, arm_label(report, name), *_from_start(x, y, before, cached, along)))
    for arm in live:
        if not any(line.arm == arm.arm for line in lines):
            x = [float(p.step) if along == "steps" else p.seconds for p in arm.points]
            y = [p.curve_loss for p in arm.points]
            title = f"{arm.arm}, training"
            lines.append(Line(arm.arm, title, *_from_start(x, y, before, arm.cache_seconds, along), training=True))
    return lines


def draw_losses(report: ValidationReport, along: Along, live: Sequence[LiveArm] = ()) -> go.Figure:
    """Every arm's loss; the planned arm in the color of training, arms that still train with an open end."""
    title = "optimizer steps" if along == "steps" else "seconds of training, cache pass included"
    figure = new_figure(title, "eval loss, nats per token", height=400)
    drawn = lines(report, live, along)
    for i, line in enumerate(drawn):
        figure.add_scatter(
            x=line.x, y=line.y, mode="lines+markers", name=line.title, line=_style(line, i),
            marker={"symbol": "circle-open" if line.training else "circle", "size": 7},
        )  # fmt: skip
    _losses_axis(figure, report.baseline.loss, [loss for line in drawn for loss in line.y])
    end = max((line.x[-1] for line in drawn), default=0.0)
    # Left to itself an axis makes room for its marks on both sides, and before the start there is no time.
    figure.update_xaxes(range=[0, 1.02 * end if end > 0 else 1])
    if along == "seconds" and end > 0 and not live:
        _add_race(figure, drawn, end)
    return figure


def until(line: Line, end: float) -> tuple[list[float], list[float]]:
    """A curve up to a moment, its last point between two readings on the straight line of the logarithmic axis."""
    x = [value for value in line.x if value <= end]
    y = line.y[: len(x)]
    if x and len(x) < len(line.x) and end > x[-1]:
        share = (end - x[-1]) / (line.x[len(x)] - x[-1])
        y = [*y, exp((1 - share) * log(y[-1]) + share * log(line.y[len(x)]))]
        x = [*x, end]
    return x, y


def _add_race(figure: go.Figure, drawn: Sequence[Line], end: float) -> None:
    """Play the seconds again: every arm as far as it was by then."""
    marks = np.linspace(0, end, _FRAMES + 1)
    figure.frames = [
        go.Frame(name=str(i), data=[{"x": x, "y": y} for x, y in (until(line, float(mark)) for line in drawn)])
        for i, mark in enumerate(marks)  # names that differ, however short the race is
    ]
    play = {"frame": {"duration": 120, "redraw": False}, "transition": {"duration": 0}, "mode": "immediate"}
    stop = {"frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}, "mode": "immediate"}
    buttons = [
        {"label": "▶ play the race", "method": "animate", "args": [None, play]},
        {"label": "❚❚ stop", "method": "animate", "args": [[None], stop]},
    ]
    layout = {"x": 0, "y": 0, "xanchor": "left", "yanchor": "top", "direction": "right", "showactive": False}
    layout["pad"] = {"t": BELOW_AXIS}
    look = {"bgcolor": faded(GRAY, 0.25), "bordercolor": faded(GRAY, 0.6)}
    figure.update_layout(
        updatemenus=[{"type": "buttons", "buttons": buttons, **layout, **look}], margin={"b": BELOW_AXIS + 52}
    )


def _losses_axis(figure: go.Figure, before: float, losses: Sequence[float]) -> None:
    """Losses fall by factors: on a linear axis late differences would vanish."""
    ends = _axis_ends([before, *losses])
    figure.update_yaxes(type="log", range=[log10(end) for end in ends])
    if ends[1] >= 10 * ends[0]:  # below that Plotly writes whole numbers at even steps; here its 0.5 would be a 5
        values = [
            digit * 10.0**power
            for power in range(floor(log10(ends[0])), ceil(log10(ends[1])) + 1)
            for digit in ((1, 2, 5) if ends[1] <= 10**_FINE_POWERS * ends[0] else (1,))
        ]
        figure.update_yaxes(tickvals=values, ticktext=[f"{value:g}" for value in values])
    figure.add_hline(y=before, line={"color": GRAY, "dash": "dot"})
    figure.add_annotation(
        text=f"before: {before:.2f}",
        showarrow=False,
        x=1,
        xref="x domain",
        xanchor="right",
        y=log10(before),  # unlike a line, words on a logarithmic axis are placed by the logarithm
        yanchor="top",
    )


def _axis_ends(losses: Sequence[float]) -> tuple[float, float]:
    """Where an axis of these losses begins and ends, some room beside them; a flat line has room as well."""
    known = [loss for loss in losses if isfinite(loss) and loss > 0] or [1.0]
    low, high = min(known), max(known)
    room = max((high / low) ** _ROOM, _LEAST_ROOM)
    return low / room, high * room


def _style(line: Line, index: int) -> dict[str, object]:
    planned = line.arm == "planned"
    return {
        "color": TRAINED if planned else INK if line.arm == "full" else OTHERS[index % len(OTHERS)],
        "dash": _DASHES.get(line.arm, "solid"),
        "width": 4 if planned else 2,
    }


def _from_start(
    x: list[float], y: list[float], before: float, cached: float, along: Along
) -> tuple[list[float], list[float]]:
    """The curve from the very start: before training, and where a cache was filled, until that was done."""
    flat = [0.0, cached] if along == "seconds" and cached > 0 else [0.0]
    return [*flat, *x], [*(before for _ in flat), *y]


def _means(runs: Sequence[ArmRun], along: Along) -> tuple[list[float], list[float]]:
    """Mean over seeds of each reading, at the readings that all seeds have."""
    steps = [point.step for point in runs[0].points]
    by_step = {step: [point for run in runs for point in run.points if point.step == step] for step in steps}
    whole = {step: points for step, points in by_step.items() if len(points) == len(runs)}
    x = [float(step) if along == "steps" else mean(p.seconds for p in points) for step, points in whole.items()]
    return x, [mean(p.curve_loss for p in points) for points in whole.values()]
