"""The numbers behind a figure as a table: what is drawn, and nothing else."""

import html
from typing import Any

import pandas as pd
import plotly.graph_objects as go


def numbers_of(figure: go.Figure) -> pd.DataFrame:
    """One row a point of every named trace: series, its two coordinates, and its interval's bounds where it has one.

    Long form, as the traces of one figure need not share their x. In an animated figure the points are those shown
    first.
    """
    rows: list[dict[str, Any]] = []
    for trace in figure.data:
        if not trace.name or trace.x is None or trace.y is None:
            continue
        bounds = _bounds(trace)
        for i, (x, y) in enumerate(zip(trace.x, trace.y, strict=True)):
            low, high = (None, None) if bounds is None else bounds[i]
            z = trace.z[i] if trace.type == "scatter3d" else None
            rows.append({"series": html.unescape(trace.name), "x": x, "y": y, "z": z, "low": low, "high": high})
    table = pd.DataFrame(rows, columns=["series", "x", "y", "z", "low", "high"])
    mixed = [name for name in ("x", "y") if table[name].map(lambda value: isinstance(value, str)).any()]
    table[mixed] = table[mixed].astype(str)  # a column of a table in a browser has one type
    titles = {name: _title(figure, name) for name in ("x", "y")}
    return table.dropna(axis="columns", how="all").rename(columns=titles)


def _title(figure: go.Figure, name: str) -> str:
    """The one title that a figure's axes of a direction have; else the direction, as series have their own."""
    titles = {axis.title.text for axis in figure.select_xaxes() if name == "x"}
    titles |= {axis.title.text for axis in figure.select_yaxes() if name == "y"}
    titles -= {None, ""}
    return str(titles.pop()) if len(titles) == 1 else name


def _bounds(trace: Any) -> list[tuple[float, float]] | None:
    """Lower and upper bounds: the last two numbers that come with each point, or the whiskers of a bar."""
    if trace.error_y.array is not None:
        steps = zip(trace.y, trace.error_y.arrayminus, trace.error_y.array, strict=True)
        return [(y - down, y + up) for y, down, up in steps]
    extra = trace.customdata
    if trace.type == "scatter" and extra is not None and len(extra) and len(extra[0]) == 2:
        return [(float(low), float(high)) for low, high in extra]
    return None
