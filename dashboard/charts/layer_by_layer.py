"""What moves along with the projection, layer by layer: the place among the layers' contributions, and one token.

Both are drawn into the projection's figure, so that its player moves all at once, in the browser alone.
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

from ..data.projections import ProjectedPoints
from .theme import AXIS_TITLE, BELOW_AXIS, FROZEN, INK, TRAINED
from .token_strip import settled_space, visible_token

_BARS_TOP, _STATES_BOTTOM = 0.17, 0.33  # shares of the plot's height
_ABOVE_PLAYER = 16  # pixels between the bars, whose axis has no numbers, and the player's buttons
_LETTERS = 4
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


def add_layer_bars(figure: go.Figure, curve: GainCurve, depth: int) -> None:
    """What each layer adds, as bars between the hidden states before and after it, above the player's slider.

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
    low, high = _ends(curve)
    title = {"text": "layer adds", "font": {"size": AXIS_TITLE}}
    figure.update_layout(
        xaxis2={"range": [-_EDGE, curve.n_layers + _EDGE], "anchor": "y2", "showticklabels": False, "zeroline": False,
                "showgrid": False, "fixedrange": True},
        yaxis2={"domain": [0, _BARS_TOP], "anchor": "x2", "range": [low, high], "nticks": 3, "title": title,
                "zeroline": True, "fixedrange": True},
    )  # fmt: skip
    saved = BELOW_AXIS + 4 - _ABOVE_PLAYER
    figure.layout.updatemenus[0].pad.t -= saved
    figure.layout.sliders[0].pad.t -= saved
    figure.update_layout(margin={"b": figure.layout.margin.b - saved}, height=figure.layout.height - saved)
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
