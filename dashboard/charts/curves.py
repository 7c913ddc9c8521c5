"""Curves over latent spaces and layers: deviation with its nulls, gains, and gain coverage with every score."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from semfreeze_core.plan.depth_spread import DepthSpread
from semfreeze_core.records.gain import Band, GainCurve
from semfreeze_core.records.scores import SCORE_NAMES
from semfreeze_core.wording.rules import method_name

from .bands import add_band, error_bars
from .theme import AXIS_TITLE, FROZEN, GRAY, INK, OTHERS, TRAINED, faded, mark_depth, new_figure

SPACE = "hidden state (0: embeddings)"
LAYER = "layer (input side to output side)"
_LAW, _LAW_NAME = OTHERS[3], "scaling law"
_SCORE_COLORS = tuple(color for color in OTHERS if color != _LAW)
_SCORE_DASHES = ("dash", "longdash", "longdashdot")
_BESIDE = 440  # height of the deviations and of the gains, which stand side by side


def draw_deviation(curve: GainCurve, depth: int | None) -> go.Figure:
    """The deviation and the random-label baseline by hidden state, and below them their distance, the advantage."""
    figure = new_figure("", f"{curve.metric} deviation", height=_BESIDE)
    figure.set_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    add_band(figure, "random-label baseline", curve.null, GRAY)
    add_band(figure, "deviation", curve.deviation, INK)
    add_band(figure, "advantage (baseline - deviation)", curve.advantage, OTHERS[1], row=2)
    figure.add_scatter(
        x=np.arange(curve.n_layers + 1),
        y=curve.isotonic,
        mode="lines",
        row=2,
        col=1,
        name="its rising fit",
        line={"color": OTHERS[1], "dash": "dot"},
    )
    figure.update_yaxes(title=_title("advantage"), row=2, col=1)
    figure.update_xaxes(title=_title(SPACE), row=2, col=1)
    mark_depth(figure, depth, curve.n_layers, ("", "2"))
    return figure


def draw_task_null(matched: Band, swapped: Band, metric: str, depth: int | None) -> go.Figure:
    """Deviations of the same prompts with their own completions and with those of other examples."""
    figure = new_figure(SPACE, f"{metric} deviation (1 - cosine)")
    mark_depth(figure, depth, len(matched.mean) - 1)
    add_band(figure, "swapped completions", swapped, GRAY)
    add_band(figure, "own completions", matched, INK)
    return figure


def draw_first_and_later(first: Band, later: Band, metric: str, depth: int | None) -> go.Figure:
    """Advantage at the first supervised token, which only the prompt tells, and at the later ones."""
    figure = new_figure(SPACE, f"{metric} advantage")
    mark_depth(figure, depth, len(first.mean) - 1)
    add_band(figure, "first token of the completion", first, OTHERS[0])
    if np.isfinite(later.mean).any():
        add_band(figure, "later tokens", later, OTHERS[1], dash="dash")
    return figure


def draw_law(curve: GainCurve, depth: int | None) -> go.Figure:
    """The scaling law on the advantage it is fitted to, with its turning depth as a line and that one's interval."""
    law = curve.law
    figure = new_figure(SPACE, f"{curve.metric} advantage", height=360)
    mark_depth(figure, depth, curve.n_layers)
    turning = law.turning_depth
    if turning.high > turning.low:
        figure.add_vrect(x0=turning.low, x1=turning.high, fillcolor=faded(_LAW, 0.2), line_width=0, layer="below")
    figure.add_vline(
        x=turning.estimate,
        line={"color": _LAW, "width": 1.5, "dash": "dash"},
        annotation={"text": f"turning depth {turning.estimate:.0f}", "font": {"color": _LAW}, "xanchor": "right"},
    )
    add_band(figure, "advantage", curve.advantage, INK)
    figure.add_scatter(
        x=np.arange(curve.n_layers + 1), y=law.fitted, mode="lines", name=_LAW_NAME, line={"color": _LAW, "width": 3}
    )
    return figure


def draw_law_residuals(curve: GainCurve, depth: int | None) -> go.Figure:
    """What the scaling law leaves over at each space."""
    figure = new_figure(SPACE, "residual", height=240)
    mark_depth(figure, depth, curve.n_layers)
    spaces = np.arange(curve.start, curve.n_layers + 1)
    figure.add_bar(x=spaces, y=curve.law.residuals[curve.start :], name="measured - fitted", marker_color=_LAW)
    return figure


def draw_gains(curve: GainCurve, depth: int | None) -> go.Figure:
    """Signed gains of every layer from the advantage, the paper's raw gains beside them."""
    figure = new_figure(LAYER, "layer contribution", height=_BESIDE)
    layers = np.arange(curve.n_layers)
    known = np.isfinite(curve.gain.mean)
    for name, color, chosen in (
        ("contribution, layer frozen", FROZEN, known & (layers < (depth or 0))),
        ("contribution, layer trained", TRAINED, known & (layers >= (depth or 0))),
    ):
        if chosen.any():
            figure.add_bar(
                x=layers[chosen],
                y=curve.gain.mean[chosen],
                name=name,
                marker_color=color,
                error_y=error_bars(curve.gain, chosen),
            )
    if not known.all():
        figure.add_scatter(
            x=layers[~known],
            y=np.zeros((~known).sum()),
            mode="markers",
            name="not measured",
            marker={"color": GRAY, "symbol": "x", "size": 9},
        )
    figure.add_scatter(
        x=layers[curve.start :],
        y=curve.raw_gain.mean[curve.start :],
        mode="markers",
        name="raw contribution (as in the paper)",
        marker={"color": INK, "size": 6, "symbol": "circle-open"},
    )
    if not curve.law.reason:
        figure.add_scatter(
            x=layers[curve.start :],
            y=curve.law.gain[curve.start :],
            mode="lines",
            name=f"contribution by the {_LAW_NAME}",
            line={"color": _LAW, "dash": "dash"},
        )
    return figure


def draw_coverage(curve: GainCurve, scores: Mapping[str, Band], depth: int | None) -> go.Figure:
    """R(k), the share of the gain in layers k and above, with the R(k) of every other score."""
    figure = new_figure("freeze depth k", "share in layers k and above, R(k)", height=380)
    mark_depth(figure, depth, curve.n_layers)
    for name, band in scores.items():
        if name == "depth_prior":
            add_band(figure, "depth prior (L - k)/L", band, GRAY, dash="dot")
        elif np.isfinite(band.mean).any():
            color, dash = _score_look(name)
            add_band(figure, method_name(name), band, color, dash=dash)
    if not curve.law.reason:
        add_band(figure, f"by the {_LAW_NAME}", curve.law.coverage, _LAW, dash="dashdot")
    add_band(figure, f"coverage ({curve.metric})", curve.coverage, INK, width=3)
    figure.update_yaxes(range=[-0.02, 1.04])
    return figure


def _score_look(name: str) -> tuple[str, str]:
    """Color and dash of a score: the same in every run, whichever scores it has, and no other's."""
    names: Sequence[str] = SCORE_NAMES
    row, column = divmod(names.index(name), len(_SCORE_COLORS))
    return _SCORE_COLORS[column], _SCORE_DASHES[row % len(_SCORE_DASHES)]


def _title(text: str) -> dict[str, object]:
    """The title of a second row's axis, which does not take its size from the first's."""
    return {"text": text, "font": {"size": AXIS_TITLE}}


def draw_depth_counts(spread: DepthSpread, depth: int | None) -> go.Figure:
    """How many examples pick each freeze depth by the paper's rule."""
    figure = new_figure("freeze depth k", "examples that pick it")
    mark_depth(figure, depth, spread.n_layers)
    figure.add_bar(
        x=np.arange(spread.n_layers + 1),
        y=spread.counts,
        name="examples",
        marker={"color": OTHERS[0]},
        hovertemplate="%{y} of " + f"{len(spread.depths):,} examples<extra></extra>",
    )
    return figure
