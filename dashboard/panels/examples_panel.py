"""The examples of a run: a row each, and the one that is clicked with its prompt, completion and target tokens."""

import streamlit as st

from semfreeze_core.wording.escaping import terminal_text

from ..charts.token_strip import token_strip_html
from ..data import selections
from ..data.position_table import read_out_positions
from ..data.run_folder import OpenRun
from ..text import data_text
from . import page

ROWS = "examples of the run"
_HEIGHT = 300


def examples_panel(opened: OpenRun) -> None:
    """All analyzed examples, and one in full: the one clicked, else the first whose tokens were kept."""
    selected = page.selected_examples(opened)
    kept = list(selected) or list(range(len(opened.run.examples)))
    examples = opened.run.examples.iloc[kept]
    with st.container(horizontal=True, vertical_alignment="center"):
        which = "Selected" if selected else "Analyzed"
        st.markdown(f"**{which} examples: click a row to see it in full**", width="content")
        if selected:
            st.button("Clear selection", on_click=selections.keep_selection, args=(None,))
    table = st.dataframe(
        data_text.example_rows(examples), key=f"{ROWS} {opened.name} {selections.selections_made()}",
        hide_index=True, height=_HEIGHT, on_select="rerun", selection_mode="single-row", alt="Every analyzed example",
    )  # fmt: skip
    rows = table["selection"]["rows"]
    display = opened.run.display
    with_tokens = {int(row) for row in display.example[: len(display.read_top)]}
    first = next((row for row in kept if row in with_tokens), kept[0])
    chosen = kept[rows[0]] if rows and rows[0] < len(kept) else first
    example = opened.run.examples.iloc[chosen]
    left, right = st.columns(2)
    left.caption("Prompt")
    left.code(terminal_text(example["prompt"]), language=None, wrap_lines=True)
    right.caption("Completion, which training makes more likely")
    right.code(terminal_text(example["completion"]), language=None, wrap_lines=True)
    positions = read_out_positions(display, chosen)
    if len(positions):
        st.html(token_strip_html(display, positions.tolist()))
        st.caption(data_text.strip_caption(len(positions), opened.run.shape.n_layers))
