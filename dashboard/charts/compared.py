"""Several runs in one chart, over relative depth: 0 the input side, 1 the output side."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from semfreeze_core.gains.difference import Difference, relative_depths
from semfreeze_core.plan.compare import RunColumn
from semfreeze_core.records.gain import Band
from semfreeze_core.records.prediction_error import PredictedMeasured
from semfreeze_core.wording.escaping import chart_text

from .bands import add_band
from .theme import GRAY, INK, OTHERS, new_figure

_LAYERS = "share of the layers below, k/L"
_COLORS = (INK, *OTHERS)  # the first run's, then the others'
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")  # told apart without color, too


def draw_coverages(columns: Sequence[RunColumn]) -> go.Figure:
    """R(k) of every run, with a mark where its plan freezes."""
    figure = new_figure(_LAYERS, "share in layers k and above, R(k)", height=400)
    for column, color, dash in zip(columns, _COLORS, _DASHES, strict=False):
        band, x = column.curve.coverage, relative_depths(column.curve.n_layers + 1)
        add_band(figure, chart_text(column.name), band, color, dash, at=x)
        depth = column.opinion.freeze_depth
        if depth is not None:
            figure.add_scatter(
                x=[x[depth]], y=[band.mean[depth]], mode="markers",
                name=chart_text(f"{column.name}: plan freezes {depth}"),
                marker={"color": color, "size": 11, "symbol": "diamond", "line": {"color": "white", "width": 1}},
                legendgroup=chart_text(column.name), showlegend=False,
            )  # fmt: skip
    figure.update_yaxes(range=[-0.02, 1.04])
    return figure


def draw_advantages(columns: Sequence[RunColumn]) -> go.Figure:
    """The advantage of every run from the space that is measured first."""
    figure = new_figure(_LAYERS, f"{columns[0].curve.metric} advantage (null - deviation)", height=400)
    for column, color, dash in zip(columns, _COLORS, _DASHES, strict=False):
        start = column.curve.start
        whole = column.curve.advantage
        band = Band(whole.mean[start:], whole.low[start:], whole.high[start:])
        add_band(
            figure, chart_text(column.name), band, color, dash, at=relative_depths(column.curve.n_layers + 1)[start:]
        )
    return figure


def draw_differences(differences: Mapping[str, Difference], quantity: str) -> go.Figure:
    """Each later run's curve less the first's, with the band that holds at all depths at once."""
    figure = new_figure(_LAYERS, f"{quantity}, less the first run's", height=360)
    figure.add_hline(y=0, line={"color": GRAY, "width": 1})
    for (name, held), color, dash in zip(differences.items(), _COLORS[1:], _DASHES[1:], strict=False):
        add_band(figure, chart_text(name), held.band, color, dash, at=held.depth)
    return figure


def draw_calibration(pairs: Sequence[PredictedMeasured]) -> go.Figure:
    """Predicted share against the measured one, for every arm of every finetune; on the line, they are the same."""
    figure = new_figure("predicted share, R(k)", "measured share of full finetuning's loss reduction", height=400)
    kinds = sorted({pair.quantity for pair in pairs})
    for kind, color, symbol in zip(kinds, OTHERS, ("circle", "diamond"), strict=False):
        chosen = [pair for pair in pairs if pair.quantity == kind]
        figure.add_scatter(
            x=[pair.predicted for pair in chosen],
            y=[pair.measured for pair in chosen],
            text=[chart_text(f"{pair.finetune}, {pair.arm}") for pair in chosen],
            mode="markers",
            name=kind.removeprefix("coverage ").replace("equal", "the same"),
            marker={"color": color, "symbol": symbol, "size": 9},
            hovertemplate="%{text}<br>predicted %{x:.2f}, measured %{y:.2f}",
        )
    low = min([0.0, *(pair.measured for pair in pairs)])
    high = max([1.0, *(pair.measured for pair in pairs)])
    line = {"color": GRAY, "dash": "dot", "width": 1}
    figure.add_scatter(x=[low, high], y=[low, high], mode="lines", name="as predicted", line=line, hoverinfo="skip")
    figure.update_layout(hovermode="closest")
    return figure
