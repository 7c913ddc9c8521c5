"""One look for all charts: two colors for frozen and trained, gray for controls and what is not measured."""

import json
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

FROZEN, TRAINED, GRAY, INK = "#8ec4e8", "#e1812c", "#9aa0a6", "#1f2933"
# For everything else; told apart in the common kinds of color blindness.
OTHERS = ("#6a4c93", "#00856f", "#b5179e", "#7d5a00", "#37474f")
# The same on a dark page, as light there as they are dark here.
_ON_DARK = {
    INK: "#e6eaee",
    OTHERS[0]: "#b79ce0",
    OTHERS[1]: "#3ecfb2",
    OTHERS[2]: "#f17fdd",
    OTHERS[3]: "#dcb650",
    OTHERS[4]: "#b0bec5",
}
AXIS_TITLE = 13  # pixels
# Pixels below a plot that its axis takes; what is placed by shares of the plot's height meets the title of a low one.
BELOW_AXIS = 58
_TOOLS = 26  # pixels that the tools of a chart take at its top right
_CLEAR = "rgba(0,0,0,0)"

_FONT = "'Source Sans', system-ui, -apple-system, 'Segoe UI', sans-serif"


def new_figure(x_title: str, y_title: str, height: int = 340) -> go.Figure:
    """An empty figure in the house style, for a page; `figure_html` gives a file's figure a ground and lines."""
    # A page needs no template, and with one Plotly takes seven times as long to make the figure.
    figure = go.Figure(layout={"template": "none"})
    figure.update_layout(
        height=height,
        margin={"l": 64, "r": 16, "t": 16, "b": 48},
        font={"family": _FONT, "size": 13, "color": INK},
        # At the top of the figure and not of the plot: above that, it lies on the plot when a window is made narrower.
        legend={"orientation": "h", "yref": "container", "yanchor": "top", "y": 1, "x": 0, "font": {"size": 12}},
        hovermode="x unified",
        xaxis={"title": {"text": x_title, "font": {"size": AXIS_TITLE}}, "zeroline": False},
        yaxis={"title": {"text": y_title, "font": {"size": AXIS_TITLE}}, "zeroline": False},
    )
    return figure


def figure_html(figure: go.Figure, **options: Any) -> str:
    """A figure as HTML for a file, on white; the figure itself stays as it is.

    Args:
        figure: as drawn for a page.
        options: as `plotly.graph_objects.Figure.to_html` takes them.
    """
    html: str = go.Figure(figure).update_layout(template="plotly_white").to_html(**options)
    return html


def faded(color: str, opacity: float) -> str:
    """A hex color as rgba with the given opacity."""
    return f"rgba({_channels(color)},{opacity})"


def ink(dark: bool) -> str:
    """The color of lines and words on a page."""
    return _ON_DARK[INK] if dark else INK


def on_page(figure: go.Figure, dark: bool, *, tools: bool = True) -> dict[str, Any]:
    """A figure as Plotly's JSON for a page of a theme: clear of a ground of its own, its inks light on a dark one.

    Args:
        figure: as drawn.
        dark: whether the theme is.
        tools: whether the chart has tools at its top right; a legend is below them then, at every width.
    """
    text = figure.to_json()
    if dark:
        for color, lighter in _ON_DARK.items():
            text = text.replace(color, lighter).replace(f"rgba({_channels(color)},", f"rgba({_channels(lighter)},")
    drawn: dict[str, Any] = json.loads(text)
    line = "rgba(255,255,255,0.12)" if dark else "rgba(31,41,51,0.10)"
    for name, axis in drawn["layout"].items():
        if name.startswith(("xaxis", "yaxis")):
            axis.update(gridcolor=line, linecolor=line)
    drawn["layout"].pop("template", None)  # the page's own ground shows through
    drawn["layout"].update(paper_bgcolor=_CLEAR, plot_bgcolor=_CLEAR)
    drawn["layout"]["modebar"] = {"bgcolor": _CLEAR, "color": GRAY, "activecolor": ink(dark)}
    if tools and _has_legend(drawn):
        _below_tools(drawn["layout"])
    drawn["layout"].setdefault("hoverlabel", {}).update(bgcolor="#1e242b" if dark else "#ffffff")
    return drawn


def _has_legend(drawn: dict[str, Any]) -> bool:
    """Whether Plotly draws a legend: that of several traces, or of one that asks for it."""
    if drawn["layout"].get("showlegend") is False:
        return False
    asked = [trace.get("showlegend") for trace in drawn["data"]]
    return asked.count(False) < len(asked) - 1 or True in asked


def _below_tools(layout: dict[str, Any]) -> None:
    """Make room for a chart's tools above its legend, which a narrow window makes as wide as the chart."""
    layout["height"] += _TOOLS
    layout["margin"]["t"] += _TOOLS
    layout["legend"]["y"] = 1 - _TOOLS / layout["height"]


def mark_depth(figure: go.Figure, depth: int | None, n_layers: int, subplots: Sequence[str] = ("",)) -> None:
    """Tint what is frozen and what is trained, with a line at the freeze depth; nothing when there is no depth.

    Args:
        figure: whose x axis counts latent spaces or freeze depths.
        depth: k, or None.
        n_layers: L.
        subplots: numbers of their axes as Plotly counts them, "" for the first.
    """
    if depth is None:
        return
    marks: list[dict[str, Any]] = []
    for start, end, color in ((0, depth, FROZEN), (depth, n_layers, TRAINED)):
        if end > start:
            tint = faded(color, 0.13)
            area = {"type": "rect", "x0": start, "x1": end, "fillcolor": tint, "line": {"width": 0}, "layer": "below"}
            marks.append(area)
    if depth > 0:
        line = {"color": INK, "width": 1.5, "dash": "dot"}
        marks.append({"type": "line", "x0": depth, "x1": depth, "line": line})
    # All at once: Plotly's add_vrect and add_vline look through the whole figure for each, and take most of its time.
    figure.layout.shapes = [
        *figure.layout.shapes,
        *(
            mark | {"xref": f"x{number}", "yref": f"y{number} domain", "y0": 0, "y1": 1}
            for mark in marks
            for number in subplots
        ),
    ]


def _channels(color: str) -> str:
    return ",".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))
