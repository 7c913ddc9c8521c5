"""The layer stack: one cell a layer, input side left, frozen ones in ice blue, trained ones warm, a line between."""

import plotly.graph_objects as go

from .theme import FROZEN, GREY, INK, TRAINED, new_figure


def draw_stack(n_layers: int, depth: int | None) -> go.Figure:
    """The stack at a freeze depth; all grey when there is none."""
    figure = new_figure("", "", height=58)
    states = ["undecided" if depth is None else "frozen" if i < depth else "trained" for i in range(n_layers)]
    colours = {"undecided": GREY, "frozen": FROZEN, "trained": TRAINED}
    figure.add_bar(
        x=list(range(n_layers)),
        y=[1] * n_layers,
        marker_color=[colours[state] for state in states],
        customdata=states,
        hovertemplate="layer %{x}: %{customdata}<extra></extra>",
        showlegend=False,
    )
    figure.update_layout(bargap=0.12, hovermode="closest", margin={"l": 0, "r": 0, "t": 2, "b": 24})
    figure.update_yaxes(visible=False, fixedrange=True)
    figure.update_xaxes(visible=False, range=[-0.5, n_layers - 0.5], fixedrange=True)
    frozen, trained = ("", "") if depth is None else (f": {depth} frozen", f"{n_layers - depth} trained, ")
    for x, anchor, text in ((0, "left", f"input side{frozen}"), (1, "right", f"{trained}output side")):
        place = {"x": x, "xref": "paper", "xanchor": anchor, "y": 0, "yref": "paper", "yanchor": "top"}
        figure.add_annotation(text=text, showarrow=False, font={"size": 12}, **place)
    if depth:
        figure.add_vline(x=depth - 0.5, line={"color": INK, "width": 3})
    return figure
