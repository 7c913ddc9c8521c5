"""The latent spaces in one joint projection, played over the layers in the browser."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from semfreeze_core.records.display import DisplaySample
from semfreeze_core.wording.escaping import chart_text

from ..data.projections import ProjectedPoints
from .layer_by_layer import Companion
from .theme import BELOW_AXIS, GRAY, INK, OTHERS, faded, new_figure
from .token_strip import visible_token

Coloring = Literal["label", "outcome", "deviation"]

MOST_LABELS = 9
_SYMBOLS = ("circle", "square", "diamond", "cross", "x")
_MARGIN, _FAINT = 0.06, 0.12
# Pixels of the buttons above the slider: next to them, it would begin below them in a narrow window.
_PLAYER_HEIGHT = 34


@dataclass(frozen=True)
class _Group:
    """Points that look the same; `shaded` are those whose color is their deviation, `faint` those not selected."""

    name: str
    positions: npt.NDArray[np.int64]
    marker: dict[str, Any]
    shaded: bool = False
    faint: bool = False


def draw_projection(
    display: DisplaySample,
    points: ProjectedPoints,
    labels: pd.Series,
    coloring: Coloring,
    metric: str,
    paths: Sequence[int],
    selected: Sequence[int],
    space: int,
    companions: Sequence[Companion] = (),
) -> go.Figure:
    """Positions as points, one frame a latent space, and the bases of their labels as stars that stay.

    Args:
        display: the display sample.
        points: which of its positions are drawn, and where.
        labels: label of each example of the run, by its row.
        coloring: what colors tell.
        metric: deviation that colors tell, when they do.
        paths: those of its positions whose trajectory is drawn as a line.
        selected: positions that stand out, the others being faint; none when it is empty. Plotly's own selection would
            hold on to a region instead, and fails while frames play.
        space: the latent space shown first.
        companions: what else moves with the points.
    """
    dimensions = points.dimensions
    deviation = display.deviation[display.metrics.index(metric)].astype(np.float32)
    groups = _groups(display, labels, points.positions, coloring, deviation)
    if selected:
        groups = [part for group in groups for part in _apart(group, np.asarray(selected))]
    figure = new_figure("", "", height=640 + _PLAYER_HEIGHT)
    for group in groups:
        figure.add_trace(
            _points(group, points.trajectories(group.positions)[space], deviation[:, space], display, labels)
        )
    for companion in companions:
        figure.add_trace(companion.shown)
    n_moving = len(groups) + len(companions)
    for path in paths:
        trajectory = points.trajectories(np.array([path]))[:, 0]
        line = {"color": faded(INK, points.trajectory_opacity), "width": 1.2 if dimensions == 2 else 3}
        hover = f"trajectory of {_quoted(display, int(display.label_ids[path]))}"
        figure.add_trace(_trace(trajectory, mode="lines", line=line, showlegend=False, hoverinfo="text", text=hover))
    figure.add_trace(
        _trace(
            points.target_directions,
            mode="markers",
            name="direction of a target token",
            marker={"symbol": "star" if dimensions == 2 else "diamond-open", "size": 11 if dimensions == 2 else 5,
                    "color": INK, "line": {"width": 0}},
            text=[f"direction of {_quoted(display, int(token))}" for token in display.basis_ids],
            hoverinfo="text",
        )
    )  # fmt: skip
    trajectories = [points.trajectories(group.positions) for group in groups]
    figure.frames = [
        go.Frame(
            name=str(s),
            traces=list(range(n_moving)),
            data=[
                _moved(group, trajectory[s], deviation[:, s])
                for group, trajectory in zip(groups, trajectories, strict=True)
            ]
            + [companion.moved[s] for companion in companions],
        )
        for s in range(len(points.coordinates))
    ]
    _set_axes(figure, points)
    _add_player(figure, len(points.coordinates), space)
    return figure


def _groups(
    display: DisplaySample,
    labels: pd.Series,
    positions: npt.NDArray[np.int64],
    coloring: Coloring,
    deviation: npt.NDArray[np.float32],
) -> list[_Group]:
    if coloring == "deviation":
        low, high = float(deviation.min()), float(deviation.max())
        bar = {"title": {"text": "deviation", "side": "right"}, "thickness": 12, "len": 0.8}
        marker = {"size": 6, "colorscale": "Cividis", "cmin": low, "cmax": high, "colorbar": bar, "reversescale": True}
        marker["line"] = {"color": GRAY, "width": 0.5}  # the scale's dark end would vanish on a dark page
        return [_Group("positions", positions, marker, shaded=True)]
    if coloring == "outcome":
        right = display.right[positions]
        return [
            _Group("the model says the token", positions[right], _marker(OTHERS[1], "circle")),
            _Group("the model says another", positions[~right], _marker(OTHERS[2], "x")),
        ]
    everybody = np.arange(len(display.example))  # so that a label looks the same in every projection
    names = pd.Series(_label_names(labels, display, everybody)).value_counts().index.tolist()
    names_here = _label_names(labels, display, positions)
    shown = names if len(names) <= MOST_LABELS + 1 else names[:MOST_LABELS]
    groups = [_Group(str(name), positions[names_here == name], _label_marker(i)) for i, name in enumerate(shown)]
    if len(shown) < len(names):
        others = ~np.isin(names_here, shown)
        groups.append(_Group(f"{len(names) - len(shown)} other labels", positions[others], _marker(GRAY, "circle")))
    return groups


def _apart(group: _Group, selected: npt.NDArray[np.int64]) -> tuple[_Group, _Group]:
    """The selected part of a group, and the others, faint."""
    inside = np.isin(group.positions, selected)
    others = {**group.marker, "opacity": _FAINT}
    return (
        replace(group, positions=group.positions[inside]),
        replace(group, positions=group.positions[~inside], marker=others, faint=True),
    )


def _label_names(
    labels: pd.Series, display: DisplaySample, positions: npt.NDArray[np.int64]
) -> npt.NDArray[np.object_]:
    """The label of each position's example, in words."""
    names: npt.NDArray[np.object_] = (
        labels.iloc[display.example[positions]].astype("string").fillna("hidden state, no label").to_numpy(dtype=object)
    )
    return names


def _label_marker(rank: int) -> dict[str, Any]:
    """A color and symbol that no other label shown has: where colors begin again, symbols are one further."""
    lap, color = divmod(rank, len(OTHERS))
    return _marker(OTHERS[color], _SYMBOLS[(color + lap) % len(_SYMBOLS)])


def _marker(color: str, symbol: str) -> dict[str, Any]:
    return {"color": color, "symbol": symbol, "size": 6, "opacity": 0.8}


def _points(
    group: _Group,
    xyz: npt.NDArray[np.float32],
    deviation: npt.NDArray[np.float32],
    display: DisplaySample,
    labels: pd.Series,
) -> Any:
    p = group.positions
    label_names = _label_names(labels, display, p)
    hover = [
        f"example {display.example[i]} ({chart_text(label_names[j])}), token {display.order[i] + 1}<br>"
        f"truth {_quoted(display, int(display.label_ids[i]))}, "
        f"model says {_quoted(display, int(display.predicted_ids[i]))}"
        for j, i in enumerate(p)
    ]
    marker = dict(group.marker)
    if group.shaded:
        marker["color"] = deviation[p]
    if xyz.shape[1] == 3:
        marker |= {"size": 3}
    return _trace(
        xyz,
        mode="markers",
        name=chart_text(group.name),
        legendgroup=chart_text(group.name),
        showlegend=not group.faint,
        marker=marker,
        text=hover,
        hoverinfo="text",
        customdata=p[:, None].tolist(),
    )


def _moved(group: _Group, xyz: npt.NDArray[np.float32], deviation: npt.NDArray[np.float32]) -> Any:
    """The same points at another space: only what changes."""
    return _trace(xyz, **({"marker": {"color": deviation[group.positions]}} if group.shaded else {}))


def _trace(xyz: npt.NDArray[np.float32], **look: Any) -> Any:
    if xyz.shape[1] == 2:
        return go.Scatter(x=xyz[:, 0], y=xyz[:, 1], **look)
    return go.Scatter3d(x=xyz[:, 0], y=xyz[:, 1], z=xyz[:, 2], **look)


def _set_axes(figure: go.Figure, points: ProjectedPoints) -> None:
    """Axes that hold still while the points move."""
    dimensions = points.dimensions
    everything = np.concatenate([points.coordinates.reshape(-1, dimensions), points.target_directions])
    low, high = everything.min(axis=0), everything.max(axis=0)
    pad = _MARGIN * (high - low)
    axes = [
        {
            "title": {"text": title, "font": {"size": 13}},
            "range": [float(low[i] - pad[i]), float(high[i] + pad[i])],
            "zeroline": False,
        }
        for i, title in enumerate(points.axes)
    ]
    figure.update_layout(
        hovermode="closest", dragmode="lasso" if dimensions == 2 else "orbit", margin={"t": 8, "b": 8, "l": 64, "r": 8}
    )
    if dimensions == 2:
        figure.update_layout(xaxis=axes[0], yaxis=axes[1])
    else:
        quiet = {"showbackground": False, "gridcolor": GRAY, "gridwidth": 1}
        scene = {name: axis | quiet for name, axis in zip(("xaxis", "yaxis", "zaxis"), axes, strict=True)}
        camera = {"eye": {"x": 1.7, "y": 1.7, "z": 1.0}}
        figure.update_layout(scene=scene | {"aspectmode": "cube", "camera": camera})


def _add_player(figure: go.Figure, n_spaces: int, space: int) -> None:
    """A play button, and a slider to drag through the spaces; drawn anew for each, else no lasso works afterwards."""
    play = {"frame": {"duration": 160, "redraw": True}, "transition": {"duration": 0}, "fromcurrent": True}
    still = {"frame": {"duration": 0, "redraw": True}, "mode": "immediate", "transition": {"duration": 0}}
    figure.update_layout(
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "showactive": False,
                "x": 0,
                "y": 0,
                "xanchor": "left",
                "yanchor": "top",
                "pad": {"t": BELOW_AXIS + 4, "r": 12},
                "bgcolor": faded(GRAY, 0.25),
                "bordercolor": faded(GRAY, 0.6),
                "buttons": [
                    {"label": "▶ play", "method": "animate", "args": [None, play]},
                    {"label": "❚❚ stop", "method": "animate", "args": [[None], still]},
                ],
            }
        ],
        sliders=[
            {
                "active": space,
                "x": 0,
                "y": 0,
                "len": 1,
                "yanchor": "top",
                "currentvalue": {"prefix": "hidden state ", "xanchor": "right"},
                "pad": {"t": BELOW_AXIS + _PLAYER_HEIGHT},
                "steps": [{"label": str(s), "method": "animate", "args": [[str(s)], still]} for s in range(n_spaces)],
            }
        ],
        margin={"b": 150 + _PLAYER_HEIGHT},
    )


def _quoted(display: DisplaySample, token: int) -> str:
    return chart_text(visible_token(display.token_text[token]))
