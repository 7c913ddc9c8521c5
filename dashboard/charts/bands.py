"""An estimate with its interval, as a line with a shade or as bars with whiskers."""

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from semfreeze_core.records.gain import Band

from .theme import INK, faded


def add_band(
    figure: go.Figure,
    name: str,
    band: Band,
    color: str,
    dash: str = "solid",
    width: float = 2,
    row: int = 1,
    at: npt.NDArray[np.float64] | None = None,
) -> None:
    """A line with its interval shaded; without an interval, the line alone. Over 0, 1, 2, ... by default."""
    x = np.arange(len(band.mean), dtype=np.float64) if at is None else at
    subplot = {"row": row, "col": 1} if row > 1 else {}
    known = np.isfinite(band.low)
    if known.any():
        around = np.concatenate([band.high[known], band.low[known][::-1]])
        figure.add_scatter(
            x=np.concatenate([x[known], x[known][::-1]]),
            y=around,
            fill="toself",
            hoverinfo="skip",
            fillcolor=faded(color, 0.18),
            line={"width": 0},
            legendgroup=name,
            showlegend=False,
            **subplot,
        )
    interval = " [%{customdata[0]:.3f}, %{customdata[1]:.3f}]" if known.any() else ""
    figure.add_scatter(
        x=x,
        y=band.mean,
        customdata=np.column_stack([band.low, band.high]) if known.any() else None,
        name=name,
        legendgroup=name,
        mode="lines",
        line={"color": color, "dash": dash, "width": width},
        hovertemplate="%{y:.3f}" + interval,
        **subplot,
    )


def error_bars(band: Band, chosen: npt.NDArray[np.bool_]) -> dict[str, object]:
    """Plotly's error bars of the chosen entries."""
    return {
        "type": "data",
        "symmetric": False,
        "array": (band.high - band.mean)[chosen],
        "arrayminus": (band.mean - band.low)[chosen],
        "color": INK,
        "thickness": 1,
        "width": 2,
    }
