"""Use: how to run the plan: with semfreeze, in a script of one's own, in another trainer; and its documents."""

import streamlit as st

from semfreeze_core.wording.plan import schedule_summary
from semfreeze_dashboard.data import link
from semfreeze_dashboard.data.run_folder import OpenRun
from semfreeze_dashboard.panels import export_panel, page
from semfreeze_dashboard.panels.plan_basis import plan_basis, selection
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.tooltips import TOOLTIPS

SHOWS_DEPTH = True


def body() -> None:
    """The plan's files, then the trainer that is chosen."""
    ctx = page.page_context(chooses_metric=False)
    basis = plan_basis(ctx)
    depth = page.depth_slider(ctx, basis.last_depth)
    chosen = selection(ctx, basis, depth)
    sentences = [*schedule_summary(depth, chosen.switch, ctx.n_layers, None), page_text.USE_CONCLUSION]
    opinion = basis.opinion
    if opinion is not None and opinion.freeze_depth is None:
        sentences.insert(0, page_text.MANUAL_DEPTH_NOTE)
    page.header(ctx, depth, " ".join(sentences), readouts=page.depth_readouts(ctx))
    export_panel.downloads(ctx, chosen)
    export_panel.instructions(chosen, trainer_choice())
    export_panel.same_as_code(chosen)


def trainer_choice() -> str:
    """What trains the plan."""
    return str(
        st.segmented_control(
            "Train it with", export_panel.TRAINERS, default=export_panel.TRAINERS[0], required=True,
            help=TOOLTIPS["trainer"], **link.in_link("trainer"),
        )
    )  # fmt: skip


def link_choices(opened: OpenRun) -> None:
    """This page's widgets of the link, for pages that only keep them there."""
    link.keep_choice("trainer", export_panel.TRAINERS)


draw = page.as_fragment(body)
