"""Analyze: where the task happens: hidden states on their way to the target, and what each layer adds."""

import streamlit as st

from semfreeze_core.wording.runs import contribution_sentence, distance_sentence
from semfreeze_dashboard.data.run_folder import OpenRun
from semfreeze_dashboard.panels import contributions_panel, page, trajectories_panel
from semfreeze_dashboard.text.analysis_text import escaped

SHOWS_DEPTH = True


def body() -> None:
    """The projected states and the layers' contributions; controls, law and groups when they are opened."""
    ctx = page.page_context()
    depth = page.depth_slider(ctx)
    page.header(ctx, depth, contribution_sentence(ctx.curve, depth), readouts=page.depth_readouts(ctx))
    st.caption(escaped(distance_sentence(ctx.opened.run.display, ctx.curve, depth)))
    trajectories_panel.projection_chart(ctx, depth)
    contributions_panel.contributions(ctx, depth)
    trajectories_panel.selection(ctx, depth)
    page.details(
        "controls", "Controls: random labels, swapped completions, first tokens",
        lambda: contributions_panel.controls(ctx, depth),
    )  # fmt: skip
    page.details("law", "Scaling law of the layers", lambda: contributions_panel.scaling_law(ctx.curve, depth))
    if not page.details("groups", "Groups of examples", lambda: contributions_panel.groups(ctx, depth)):
        with page.hidden("groups"):
            contributions_panel.keep_choices(ctx.opened)
    page.next_step("Choose how deep, on my GPU", "decide")


def link_choices(opened: OpenRun) -> None:
    """This page's widgets of the link, for pages that only keep them there."""
    trajectories_panel.keep_choices()
    contributions_panel.keep_choices(opened)


draw = page.as_fragment(body)
