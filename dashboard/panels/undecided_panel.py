"""What to do where a rule recommends no depth: freezing nothing is one of several answers."""

import streamlit as st

from semfreeze_core.records.usual_depths import quarter_depth, two_thirds_depth

from ..data import depth_choice, run_choice
from ..data.run_folder import server_catalog
from ..forms.validation_form import start_depth
from ..text.tooltips import TOOLTIPS
from . import page


def undecided_panel(ctx: page.PageContext) -> None:
    """The safe quarter, two thirds with a finetune that judges it, more examples, or every layer."""
    quarter, two_thirds = quarter_depth(ctx.n_layers), two_thirds_depth(ctx.n_layers)
    st.markdown("**What you can do without a recommendation**", help=TOOLTIPS["undecided"])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(f"Freeze a quarter, {quarter}", on_click=depth_choice.set_depth, args=(quarter,))
        st.button("Train every layer", on_click=depth_choice.set_depth, args=(0,))
        if server_catalog().folder is not None:
            page.other_step("Analyze more examples", "data", do=run_choice.NEW_ANALYSIS)
        page.other_step(
            f"Test freezing two thirds, {two_thirds}, by a real finetune",
            "prove",
            **depth_choice.link_to_finetune_form(two_thirds, start_depth(ctx.opened)),
        )
