"""The examples of a run: a row each, and the one that is clicked with its prompt, completion and target tokens."""

import streamlit as st

from semfreeze_core.wording.escaping import terminal_text

from ..charts.token_strip import token_strip_html
from ..data.position_table import read_out_positions
from ..data.run_folder import OpenRun
from ..text import data_text

ROWS = "examples of the run"
_HEIGHT = 300


def examples_panel(opened: OpenRun) -> None:
    """All analyzed examples, and one in full: the one clicked, else the first whose tokens were kept."""
    examples = opened.run.examples
    st.markdown("**Analyzed examples: click a row to see it in full**")
    table = st.dataframe(
        data_text.example_rows(examples), key=f"{ROWS} {opened.name}", hide_index=True, height=_HEIGHT,
        on_select="rerun", selection_mode="single-row", alt="Every analyzed example",
    )  # fmt: skip
    rows = table["selection"]["rows"]
    display = opened.run.display
    first = int(display.example[0]) if len(display.read_top) else 0
    chosen = rows[0] if rows and rows[0] < len(examples) else first
    example = examples.iloc[chosen]
    left, right = st.columns(2)
    left.caption("Prompt")
    left.code(terminal_text(example["prompt"]), language=None, wrap_lines=True)
    right.caption("Completion, which training makes more likely")
    right.code(terminal_text(example["completion"]), language=None, wrap_lines=True)
    positions = read_out_positions(display, chosen)
    if len(positions):
        st.html(token_strip_html(display, positions.tolist()))
        st.caption(data_text.strip_caption(len(positions), opened.run.shape.n_layers))
