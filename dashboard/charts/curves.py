"""Curves over latent spaces and layers: deviation with its nulls, gains, and gain coverage with every score."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from semfreeze_core.records.gain import Band, GainCurve

from .theme import FROZEN, GREY, INK, OTHERS, TRAINED, faded, mark_depth, new_figure

SPACE = "latent space (0: input of layer 0)"
LAYER = "layer (input side to output side)"


def draw_deviation(curve: GainCurve, depth: int | None) -> go.Figure:
    """The deviation by space with the label null, and below it the advantage, which is the distance of the two."""
    figure = new_figure("", f"{curve.metric} deviation", height=480)
    figure.set_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    _add_band(figure, "label null (labels at random)", curve.null, GREY)
    _add_band(figure, "deviation from the own label", curve.deviation, INK)
    _add_band(figure, "advantage (null - deviation)", curve.advantage, OTHERS[1], row=2)
    figure.add_scatter(
        x=np.arange(curve.n_layers + 1),
        y=curve.isotonic,
        mode="lines",
        row=2,
        col=1,
        name="its rising fit, which R(k) is made of",
        line={"color": OTHERS[1], "dash": "dot"},
    )
    figure.update_yaxes(title_text="advantage", row=2, col=1)
    figure.update_xaxes(title_text=SPACE, row=2, col=1)
    mark_depth(figure, depth, curve.n_layers, row="all", col=1)
    return figure


def draw_task_null(own: Band, swapped: Band, metric: str, depth: int | None) -> go.Figure:
    """Deviations of the same prompts with their own completions and with those of other examples."""
    figure = new_figure(SPACE, f"{metric} deviation (1 - cosine)")
    mark_depth(figure, depth, len(own.mean) - 1)
    _add_band(figure, "completions swapped (task null)", swapped, GREY)
    _add_band(figure, "own completions", own, INK)
    return figure


def draw_gains(curve: GainCurve, depth: int | None) -> go.Figure:
    """Signed gains of every layer from the advantage, the paper's raw gains beside them."""
    figure = new_figure(LAYER, "gain (fall of deviation over a layer)")
    layers = np.arange(curve.n_layers)
    known = np.isfinite(curve.gain.mean)
    for name, colour, chosen in (
        ("gain, layer frozen", FROZEN, known & (layers < (depth or 0))),
        ("gain, layer trained", TRAINED, known & (layers >= (depth or 0))),
    ):
        if chosen.any():
            figure.add_bar(
                x=layers[chosen],
                y=curve.gain.mean[chosen],
                name=name,
                marker_color=colour,
                error_y=_error_bars(curve.gain, chosen),
            )
    if not known.all():
        figure.add_scatter(
            x=layers[~known],
            y=np.zeros((~known).sum()),
            mode="markers",
            name="not measured",
            marker={"color": GREY, "symbol": "x", "size": 9},
        )
    figure.add_scatter(
        x=layers[curve.start :],
        y=curve.raw_gain.mean[curve.start :],
        mode="markers",
        name="raw gain (the paper's)",
        marker={"color": INK, "size": 6, "symbol": "circle-open"},
    )
    return figure


def draw_coverage(curve: GainCurve, scores: Mapping[str, Band], depth: int | None) -> go.Figure:
    """R(k), the share of the gain in layers k and above, with the R(k) of every other score."""
    figure = new_figure("freeze depth k", "share in layers k and above, R(k)", height=380)
    mark_depth(figure, depth, curve.n_layers)
    for i, (name, band) in enumerate(scores.items()):
        if name == "depth_prior":
            _add_band(figure, "depth prior (L - k)/L", band, GREY, dash="dot")
        elif np.isfinite(band.mean).any():
            _add_band(figure, name.replace("_", " "), band, OTHERS[i % len(OTHERS)], dash="dash")
    _add_band(figure, f"gain coverage ({curve.metric})", curve.coverage, INK, width=3)
    figure.update_yaxes(range=[-0.02, 1.04])
    return figure


def _add_band(
    figure: go.Figure, name: str, band: Band, colour: str, dash: str = "solid", width: float = 2, row: int = 1
) -> None:
    """A line with its 95 % interval shaded; without an interval, the line alone."""
    x = np.arange(len(band.mean))
    place = {"row": row, "col": 1} if row > 1 else {}
    known = np.isfinite(band.low)
    if known.any():
        around = np.concatenate([band.high[known], band.low[known][::-1]])
        figure.add_scatter(
            x=np.concatenate([x[known], x[known][::-1]]),
            y=around,
            fill="toself",
            hoverinfo="skip",
            fillcolor=faded(colour, 0.18),
            line={"width": 0},
            legendgroup=name,
            showlegend=False,
            **place,
        )
    figure.add_scatter(
        x=x,
        y=band.mean,
        name=name,
        legendgroup=name,
        mode="lines",
        line={"color": colour, "dash": dash, "width": width},
        hovertemplate="%{y:.3f}",
        **place,
    )


def _error_bars(band: Band, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": (band.high - band.mean)[chosen],
        "arrayminus": (band.mean - band.low)[chosen],
        "color": INK,
        "thickness": 1,
        "width": 2,
    }
