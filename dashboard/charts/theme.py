"""One look for all charts: two colours for frozen and trained, grey for controls and what is not measured."""

from typing import Any

import plotly.graph_objects as go

FROZEN, TRAINED, GREY, INK = "#8ec4e8", "#e1812c", "#9aa0a6", "#1f2933"
# For everything else; told apart in the common kinds of colour blindness.
OTHERS = ("#6a4c93", "#00856f", "#b5179e", "#7d5a00", "#37474f")

_FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"


def new_figure(x_title: str, y_title: str, height: int = 340) -> go.Figure:
    """An empty figure in the house style."""
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 64, "r": 16, "t": 16, "b": 48},
        font={"family": _FONT, "size": 13, "color": INK},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        hovermode="x unified",
        xaxis={"title": x_title, "zeroline": False},
        yaxis={"title": y_title, "zeroline": False},
    )
    return figure


def faded(colour: str, opacity: float) -> str:
    """A hex colour as rgba with the given opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def mark_depth(figure: go.Figure, depth: int | None, n_layers: int, **place: Any) -> None:
    """Tint what is frozen and what is trained, with a line at the freeze depth; nothing when there is no depth.

    Args:
        figure: whose x axis counts latent spaces or freeze depths.
        depth: k, or None.
        n_layers: L.
        place: row and col of a subplot.
    """
    if depth is None:
        return
    for start, end, colour in ((0, depth, FROZEN), (depth, n_layers, TRAINED)):
        if end > start:
            tint = faded(colour, 0.13)
            figure.add_vrect(x0=start, x1=end, fillcolor=tint, line_width=0, layer="below", **place)
    if depth > 0:
        figure.add_vline(x=depth, line={"color": INK, "width": 1.5, "dash": "dot"}, **place)
