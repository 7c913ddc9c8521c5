"""What a few alternatives need and what common GPUs hold, on one ruler of memory."""

from collections.abc import Mapping
from math import log10

import plotly.graph_objects as go

from semfreeze_core.cost.hardware import GPUS, Gpu
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.wording.numbers import gib

from .theme import INK, OTHERS, faded, new_figure

_GIB = 2**30
_LEAST, _MOST = 8, 192  # GiB that the ruler shows in any case
_TICKS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096)
_GPU_ROW = "GPUs"


def draw_gpu_ruler(named: Mapping[str, DepthCost], gpu: Gpu | None) -> go.Figure | None:
    """A line for each alternative, as long as what it needs, under the GPUs; None where no memory is known.

    Args:
        named: the alternatives, by what they are called.
        gpu: that was chosen, or None.
    """
    needed = {name: cost.bytes.total for name, cost in named.items() if cost.bytes.total is not None}
    if not needed:
        return None
    gpus = [*([] if gpu is None or gpu in GPUS else [gpu]), *GPUS]
    sizes = [*needed.values(), *(card.memory_bytes for card in gpus)]
    low = min(_LEAST, 0.8 * min(sizes) / _GIB)
    high = max(_MOST, 1.15 * max(sizes) / _GIB)
    figure = new_figure("device memory, GiB", "", height=110 + 34 * len(needed))
    figure.update_layout(hovermode="closest", showlegend=False, margin={"l": 4, "r": 12})
    for name, total in needed.items():
        fits = gpu is None or total <= gpu.memory_bytes
        figure.add_scatter(
            x=[low, total / _GIB], y=[name, name], mode="lines+markers", name=name,
            line={"color": faded(OTHERS[0], 0.5), "width": 7, "dash": "solid" if fits else "dot"},
            marker={"color": OTHERS[0], "size": [0, 11], "opacity": [0, 1]},
            hovertemplate=f"{name}: {gib(total)}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[card.memory_bytes / _GIB for card in gpus],
        y=[_GPU_ROW] * len(gpus),
        mode="markers",
        name=_GPU_ROW,
        text=[f"{card.name}: {gib(card.memory_bytes)}" for card in gpus],
        hovertemplate="%{text}<extra></extra>",
        marker={"color": INK, "symbol": "line-ns-open", "size": 14, "line": {"width": 2}},
    )
    if gpu is not None:
        size = gpu.memory_bytes / _GIB
        # Faint and below: on a narrow page it goes through the words.
        figure.add_vline(x=size, line={"color": faded(INK, 0.4), "width": 2}, layer="below")
        figure.add_annotation(  # unlike a line, words on a logarithmic axis are placed by the logarithm
            text=gpu.name, x=log10(size), y=1, yref="paper", yanchor="bottom", showarrow=False
        )
    label = {"xref": "paper", "x": 0, "xanchor": "left", "yanchor": "bottom", "yshift": 4, "showarrow": False}
    for name, total in needed.items():
        figure.add_annotation(text=f"{name}: {gib(total)}", y=name, **label)
    figure.add_annotation(text="what GPUs hold", y=_GPU_ROW, **(label | {"yshift": 9}))  # clear of the marks
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    figure.update_xaxes(type="log", range=[log10(low), log10(high)], tickvals=ticks, ticktext=list(map(str, ticks)))
    figure.update_yaxes(
        showticklabels=False, showgrid=False, categoryorder="array", categoryarray=[*reversed(needed), _GPU_ROW],
        range=[-0.5, len(needed) + 0.7],
    )  # fmt: skip
    return figure
