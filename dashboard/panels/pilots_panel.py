"""What pilots of a run decided, on a page: the depth in a sentence, every round, and the way to its plan."""

import streamlit as st

from semfreeze_core.wording.pilots import pilots_sentence, pilots_table

from ..data import depth_choice, finetune_results
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from . import page


def pilots_panel(ctx: page.PageContext) -> None:
    """The newest measurement; nothing when the run has none."""
    reports = finetune_results.measurements(ctx.opened)
    if not reports:
        return
    measured = list(reports.values())[-1]
    st.markdown(f"### {escaped(pilots_sentence(measured))}", help=TOOLTIPS["pilots"])
    for reason in measured.reasons:
        st.markdown(escaped(reason))
    st.dataframe(pilots_table(measured).dicts(), hide_index=True, alt="Every pilot of every round")
    if measured.freeze_depth is not None:
        st.button(
            f"Take depth {measured.freeze_depth} to Decide",
            on_click=depth_choice.set_depth,
            args=(measured.freeze_depth,),
        )
