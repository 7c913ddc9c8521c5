"""What each freeze depth saves against what share of the gain it is predicted to keep."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from semfreeze_core.plan.opinions import Opinion
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.gain import Band
from semfreeze_core.wording.escaping import chart_text
from semfreeze_core.wording.numbers import CI

from .bands import add_band
from .theme import GRAY, INK, OTHERS, mark_depth, new_figure

Saving = Literal["FLOP", "memory"]
SAVING_NAMES: dict[Saving, str] = {"FLOP": "compute", "memory": "memory"}

_SYMBOLS = ("diamond", "square", "triangle-up", "cross", "star", "hexagon", "bowtie", "pentagon")


def draw_frontier(
    depths: Sequence[DepthCost], coverage: Band, opinions: Mapping[str, Opinion], depth: int, saving: Saving
) -> go.Figure | None:
    """A point a freeze depth, which can be clicked; rules as marks. None where the saving is not known."""
    share = [row.relative_flop if saving == "FLOP" else row.relative_bytes for row in depths]
    saved = np.array([np.nan if value is None else 100 * (1 - value) for value in share])
    coverages = coverage.mean[: len(depths)]
    if not np.isfinite(saved).any() or not np.isfinite(coverages).any():
        return None
    figure = new_figure(f"{SAVING_NAMES[saving]} saved vs. full finetuning, %", "predicted coverage R(k)", height=400)
    low, high = coverage.low[: len(depths)], coverage.high[: len(depths)]
    figure.add_scatter(
        x=saved,
        y=coverages,
        customdata=[[k, low[k], high[k]] for k in range(len(depths))],
        mode="lines+markers",
        name=f"freeze depth k, with its {CI}",
        marker={"size": 9, "color": INK},
        line={"color": INK, "width": 1},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": high - coverages,
            "arrayminus": coverages - low,
            "color": GRAY,
            "width": 0,
        },
        hovertemplate="k = %{customdata[0]}: saves %{x:.0f}%, keeps %{y:.2f} "
        "[%{customdata[1]:.2f}, %{customdata[2]:.2f}]<extra></extra>",
    )
    for i, (name, opinion) in enumerate(opinions.items()):
        k = opinion.candidate_depth
        if k is None or k >= len(depths):
            continue
        abstains = opinion.freeze_depth is None
        figure.add_scatter(
            x=[saved[k]],
            y=[coverages[k]],
            customdata=[[k]],
            mode="markers",
            name=f"rule {name}: {k}{' (no recommendation)' if abstains else ''}",
            marker={
                "symbol": _SYMBOLS[i % len(_SYMBOLS)] + ("-open" if abstains else ""),
                "size": 16,
                "color": OTHERS[i % len(OTHERS)],
            },
            hovertemplate=f"rule {name}: {k}<extra></extra>",
        )
    figure.add_scatter(
        x=[saved[depth]],
        y=[coverages[depth]],
        customdata=[[depth]],
        mode="markers",
        name=f"the current depth: {depth}",
        marker={"symbol": "circle-open", "size": 22, "color": INK, "line": {"width": 2}},
        hoverinfo="skip",
    )
    figure.add_vline(x=saved[depth], line={"color": INK, "width": 1.5, "dash": "dot"})
    figure.update_layout(hovermode="closest", clickmode="event+select")
    figure.update_yaxes(range=[-0.03, 1.06])
    return figure


def draw_slices(curves: Mapping[str, Band], depth: int) -> go.Figure:
    """Gain coverage of each group of examples; no intervals, which the table has."""
    figure = new_figure("freeze depth k", "coverage R(k) of the group", height=380)
    mark_depth(figure, depth, len(next(iter(curves.values())).mean) - 1)
    dashes = ("solid", "dash", "dot", "dashdot")
    for i, (name, band) in enumerate(curves.items()):
        bare = Band(band.mean, np.full_like(band.mean, np.nan), np.full_like(band.mean, np.nan))
        add_band(figure, chart_text(name), bare, OTHERS[i % len(OTHERS)], dash=dashes[i // len(OTHERS) % len(dashes)])
    figure.update_yaxes(range=[-0.02, 1.04])
    return figure


def draw_selection(selected: Band, rest: Band | None, metric: str, depth: int) -> go.Figure:
    """Deviation of the selected positions against all others shown."""
    figure = new_figure("hidden state (0: embeddings)", "distance to target", height=320)
    mark_depth(figure, depth, len(selected.mean) - 1)
    if rest is not None:
        add_band(figure, "all others shown", rest, INK)
    add_band(figure, "selected", selected, OTHERS[2])
    return figure
