"""What moves along with the projection, layer by layer: the place among the layers' contributions and on their
coverage, and one token.

All are drawn into the projection's figure, so that its player moves all at once, in the browser alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.wording.escaping import chart_text
from semfreeze_core.wording.numbers import number

from ..data.projections import ProjectedPoints
from .theme import AXIS_TITLE, BELOW_AXIS, FROZEN, INK, TRAINED
from .token_strip import settled_space, visible_token

# Shares of the plot's height, from below: coverage, the bars, the states.
_COVERAGE_TOP, _BARS, _STATES_BOTTOM = 0.14, (0.2, 0.35), 0.47
_TALLER = 130  # pixels, for the coverage
_ABOVE_PLAYER = 16  # pixels between the bars, whose axis has no numbers, and the player's buttons
_LETTERS = 4
_SHARE = (-0.12, 1.3)  # of an axis from 0 to 1
_EDGE = 0.4  # layers left of the first space and right of the last


@dataclass(frozen=True)
class Companion:
    """A trace that the player moves along with the points.

    Attributes:
        shown: as it is at the space shown first.
        moved: as it is at each space; only what changes.
    """

    shown: Any
    moved: Sequence[Any]


def place_among_layers(curve: GainCurve, space: int) -> Companion:
    """A line through the bars of `add_layer_bars`, at the hidden state that is shown."""
    low, high = _ends(curve)
    moved = [go.Scatter(x=[s, s], y=[low, high]) for s in range(curve.n_layers + 1)]
    shown = go.Scatter(
        x=[space, space], y=[low, high], mode="lines", line={"color": INK, "width": 3},
        showlegend=False, hoverinfo="skip", xaxis="x2", yaxis="y2",
    )  # fmt: skip
    return Companion(shown, moved)


def place_on_coverage(curve: GainCurve, space: int) -> Companion:
    """A point on the curve of `add_layer_bars`, with R(k) of freezing as many layers as the hidden state is above."""
    coverage = curve.coverage.mean
    moved = [
        go.Scatter(x=[s], y=[value], text=[f"<b>{number(value, 2)}</b>" if np.isfinite(value) else ""])
        for s, value in enumerate(coverage.tolist())
    ]
    shown = go.Scatter(
        x=moved[space].x, y=moved[space].y, text=moved[space].text, mode="markers+text",
        textposition="top right", textfont={"size": 13, "color": INK}, cliponaxis=False,
        marker={"size": 11, "color": INK}, showlegend=False, hoverinfo="skip", xaxis="x3", yaxis="y3",
    )  # fmt: skip
    return Companion(shown, moved)


def add_layer_bars(figure: go.Figure, curve: GainCurve, depth: int) -> None:
    """What each layer adds, as bars between the hidden states before and after it, and under them R(k) at every depth.

    Both stand above the player's slider, over the same layers.

    Args:
        figure: the projection with its player; the states move up to make room.
        curve: of the same run.
        depth: k; bars below it are in the color of frozen layers.
    """
    layers = np.arange(curve.n_layers)
    known = np.isfinite(curve.gain.mean)
    figure.add_bar(
        x=layers[known] + 0.5, y=curve.gain.mean[known], width=0.8, name="layer contribution", showlegend=False,
        marker={"color": [FROZEN if layer < depth else TRAINED for layer in layers[known]]},
        customdata=[[f"layer {layer}"] for layer in layers[known]],
        hovertemplate="%{customdata[0]}: %{y:.4f}<extra></extra>", xaxis="x2", yaxis="y2",
    )  # fmt: skip
    figure.add_scatter(
        x=np.arange(curve.n_layers + 1), y=curve.coverage.mean, mode="lines", name="coverage R(k)", showlegend=False,
        line={"color": INK, "width": 2}, hovertemplate="freeze %{x}: %{y:.2f}<extra></extra>", xaxis="x3", yaxis="y3",
    )  # fmt: skip
    low, high = _ends(curve)
    across = {"range": [-_EDGE, curve.n_layers + _EDGE], "showticklabels": False, "zeroline": False, "showgrid": False,
              "fixedrange": True}  # fmt: skip
    up = {"nticks": 3, "zeroline": True, "fixedrange": True}
    figure.update_layout(
        xaxis2=across | {"anchor": "y2"},
        yaxis2=up | {"domain": _BARS, "anchor": "x2", "range": [low, high], "title": _title("layer adds")},
        xaxis3=across | {"anchor": "y3"},
        yaxis3=up | {"domain": [0, _COVERAGE_TOP], "anchor": "x3", "range": _SHARE, "title": _title("coverage")},
    )
    saved = BELOW_AXIS + 4 - _ABOVE_PLAYER
    figure.layout.updatemenus[0].pad.t -= saved
    figure.layout.sliders[0].pad.t -= saved
    height = figure.layout.height - saved + _TALLER
    figure.update_layout(margin={"b": figure.layout.margin.b - saved}, height=height)
    if figure.layout.scene.aspectmode is None:
        figure.update_layout(yaxis={"domain": [_STATES_BOTTOM, 1]}, xaxis={"anchor": "y", "title": {"standoff": 2}})
    else:
        figure.update_layout(scene={"domain": {"y": [_STATES_BOTTOM, 1]}})


def followed_position(display: DisplaySample, among: npt.NDArray[np.int64]) -> int | None:
    """The position whose best guess is the target token in the end, and on whose way there is most to see.

    Args:
        display: of the run.
        among: positions that may be taken; those of which no guesses were kept are passed over.

    Returns:
        one of them; None where none of them ends at its target token.
    """
    candidates = among[among < len(display.read_top)]
    settled = [int(position) for position in candidates if settled_space(display, int(position)) is not None]
    return max(settled, key=lambda position: _telling(display, position), default=None)


def followed_token(display: DisplaySample, points: ProjectedPoints, position: int, space: int) -> Companion:
    """A ring that goes with one token in 2-D, and beside it the model's best guess at each hidden state."""
    way = points.trajectories(np.array([position]))[:, 0]
    guesses = [visible_token(display.token_text[int(token)]) for token in display.read_top[position, :, 0]]
    right = display.read_top[position, :, 0] == display.label_ids[position]
    labels = [f"<b>{chart_text(guess)}</b>{' ✓' if hit else ''}" for guess, hit in zip(guesses, right, strict=True)]
    moved = [go.Scatter(x=[x], y=[y], text=[word]) for (x, y), word in zip(way[:, :2], labels, strict=True)]
    target = visible_token(display.token_text[int(display.label_ids[position])])
    shown = go.Scatter(
        x=moved[space].x, y=moved[space].y, text=moved[space].text, mode="markers+text",
        textposition="top center", textfont={"size": 15, "color": INK}, name=f"followed token: {chart_text(target)}",
        marker={"symbol": "circle-open", "size": 17, "color": INK, "line": {"width": 3}}, hoverinfo="text",
    )  # fmt: skip
    return Companion(shown, moved)


def _title(text: str) -> dict[str, object]:
    return {"text": text, "font": {"size": AXIS_TITLE}}


def _is_word(text: str) -> bool:
    """Whether a token is one that people read: several letters, and no punctuation."""
    return text.strip().isalpha() and len(text.strip()) >= _LETTERS


def _telling(display: DisplaySample, position: int) -> tuple[bool, int, int]:
    """How much there is to see on a token's way: a word as target, words among its guesses, and changes of them."""
    guesses = display.read_top[position, :, 0]
    n_words = sum(_is_word(display.token_text[int(token)]) for token in set(guesses.tolist()))
    target = display.token_text[int(display.label_ids[position])]
    return _is_word(target), n_words, int((guesses[1:] != guesses[:-1]).sum())


def _ends(curve: GainCurve) -> tuple[float, float]:
    known = curve.gain.mean[np.isfinite(curve.gain.mean)]
    low, high = min(float(known.min(initial=0.0)), 0.0), max(float(known.max(initial=0.0)), 0.0)
    room = 0.08 * (high - low) or 1.0
    return low - room, high + room
