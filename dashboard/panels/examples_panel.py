"""The examples of a run: a row each, and the one that is clicked as the model gets it, with its target tokens."""

import streamlit as st

from ..charts.token_strip import settled_spaces, token_strip_html
from ..data import selections
from ..data.position_table import read_out_positions
from ..data.run_folder import OpenRun
from ..text import data_text
from ..text.analysis_text import rendered_example, run_example
from . import page, parts_panel

ROWS = "examples of the run"
_HEIGHT = 300


def choose_example(opened: OpenRun) -> int:
    """All analyzed examples, or the selected ones; returns the one clicked, else the first whose tokens were kept."""
    selected = page.selected_examples(opened)
    rows_shown = list(selected) or list(range(len(opened.run.examples)))
    examples = opened.run.examples.iloc[rows_shown]
    with st.container(horizontal=True, vertical_alignment="center"):
        which = "Selected" if selected else "Analyzed"
        st.markdown(f"**{which} examples: click a row to see it in full**", width="content")
        if selected:
            st.button("Clear selection", on_click=selections.keep_selection, args=(None,))
    display, last = opened.run.display, opened.run.shape.n_layers
    strips = None
    if display is not None:
        strips = [settled_spaces(display, read_out_positions(display, row).tolist()) for row in rows_shown]
    table = st.dataframe(
        data_text.example_rows(examples, strips), key=f"{ROWS} {opened.name} {selections.selections_made()}",
        hide_index=True, height=_HEIGHT, on_select="rerun", selection_mode="single-row", alt="Every analyzed example",
        column_config={
            data_text.STRIP: st.column_config.BarChartColumn(
                help=data_text.STRIP_HELP, y_min=0, y_max=last, width=120
            )
        },
    )  # fmt: skip
    parts_panel.projection_to_come(opened, data_text.STRIPS_ON_THEIR_WAY)
    rows = table["selection"]["rows"]
    with_tokens = set() if display is None else {int(row) for row in display.example[: len(display.read_top)]}
    first = next((row for row in rows_shown if row in with_tokens), rows_shown[0])
    return int(rows_shown[rows[0]] if rows and rows[0] < len(rows_shown) else first)


def show_example(opened: OpenRun, chosen: int) -> None:
    """One example with its target tokens marked, and from which layer on the model predicts each of them."""
    display = opened.run.display
    with st.container(border=True):
        st.markdown(rendered_example(run_example(opened.run.examples.iloc[chosen])))
        if display is None:
            return
        positions = read_out_positions(display, chosen)
        if len(positions):
            st.html(token_strip_html(display, positions.tolist()))
            st.caption(data_text.strip_caption(len(positions), opened.run.shape.n_layers))
