"""One example's tokens through the latent spaces: how far each is, and what the head reads there."""

import altair as alt
import numpy as np
import numpy.typing as npt
import pandas as pd

from semfreeze_core.records.display import DisplaySample

from .theme import FROZEN, TRAINED, ink
from .token_strip import visible_token

CELL = "cell"


def token_table(display: DisplaySample, positions: npt.NDArray[np.int64], metric: str) -> pd.DataFrame:
    """One row a token and space: deviation and the tokens the head reads, likeliest first."""
    deviation = display.deviation[display.metrics.index(metric)]
    names = {token: visible_token(text) for token, text in display.token_text.items()}
    rows = []
    for p in positions:
        truth = names[int(display.label_ids[p])]
        for space in range(len(display.coordinates)):
            read = [names[int(token)] for token in display.read_top[p, space]]
            rows.append(
                {
                    "token": f"{display.order[p] + 1}: {truth}",
                    "space": space,
                    "deviation": float(deviation[p, space]),
                    "truth": truth,
                    "first read": read[0],
                    "read": "  ".join(read),
                    "truth among them": truth in read,
                }
            )
    return pd.DataFrame(rows)


def draw_tokens(table: pd.DataFrame, depth: int, metric: str, dark: bool) -> alt.LayerChart:
    """A cell a token and space, colored by deviation, which can be clicked; a line where freezing ends.

    Spaces below the depth have their numbers in ice blue, the others in the trained color. The line is in the ink of
    the page, between edges in the other theme's, as cells are both dark and bright.
    """
    cell = alt.selection_point(name=CELL, fields=["token", "space"], on="click", empty=False)
    numbers = alt.Axis(
        labelAngle=0,
        labelFontWeight="bold",
        labelColor=alt.condition(f"datum.value < {depth}", alt.value(FROZEN), alt.value(TRAINED)),
    )
    tokens = table["token"].drop_duplicates().tolist()
    cells = (
        alt.Chart(table, height=34 * len(tokens) + 60)
        .mark_rect(cursor="pointer")
        .encode(
            x=alt.X("space:O", title="hidden state (blue: below the freeze depth)", axis=numbers),
            y=alt.Y("token:N", sort=tokens, title="token of the completion"),
            color=alt.Color(
                "deviation:Q",
                title="distance to target",
                scale=alt.Scale(scheme="cividis", reverse=True),
                legend=alt.Legend(orient="top"),  # beside the cells it would take a third of a narrow window
            ),
            stroke=alt.condition(cell, alt.value(TRAINED), alt.value(None)),
            strokeWidth=alt.condition(cell, alt.value(3), alt.value(0)),
            tooltip=[
                "token",
                "space",
                alt.Tooltip("deviation:Q", format=".3f"),
                alt.Tooltip("read", title="head reads"),
            ],
        )
        .add_params(cell)
    )
    shown = [depth] if depth else []
    boundary = alt.Chart(pd.DataFrame({"space": pd.Series(shown, dtype="int64")})).encode(
        x=alt.X("space:O", bandPosition=0)
    )
    edges = boundary.mark_rule(color=ink(not dark), strokeWidth=7)
    line = boundary.mark_rule(color=ink(dark), strokeWidth=3)
    chart: alt.LayerChart = (cells + edges + line).properties(padding={"right": 12})  # the last number stands out
    return chart
