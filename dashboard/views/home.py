"""Home: which runs there are and what the open one says, or a new one."""

import streamlit as st

from semfreeze_dashboard.charts.moving_stack import moving_stack_html
from semfreeze_dashboard.data import compute, run_choice
from semfreeze_dashboard.data.run_folder import server_catalog
from semfreeze_dashboard.panels import page
from semfreeze_dashboard.panels.recent_runs import recent_runs
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import page_text


def open_runs() -> None:
    """The open run's conclusion and what to do next, then the newest runs."""
    ctx = page.page_context(chooses_metric=False)
    comparison = compute.comparison(ctx.opened, ctx.metric, None, None)
    depth = comparison.rules["coverage"].freeze_depth
    page.header(ctx, depth, page_text.start_sentence(ctx.opened.name, comparison), drawing=moving_stack(ctx, depth))
    next_steps()
    recent_runs(ctx.opened)


def moving_stack(ctx: page.PageContext, depth: int | None) -> str | None:
    """The stack as it freezes to the depth, with what that saves; None where no depth is recommended."""
    costs = page.depth_costs(ctx.opened)
    if depth is None or costs is None:
        return None
    table, speed = costs
    meters = page_text.start_meters(table, depth, speed.rates)
    described = page_text.moving_stack_sentence(ctx.n_layers, depth, meters)
    html: str = moving_stack_html(ctx.n_layers, depth, meters, page_text.meters_note(speed), described)
    return html


def next_steps() -> None:
    """Where to go from here: one link before others, and the other ways to begin."""
    with st.container(horizontal=True, vertical_alignment="center"):
        page.next_step("See why, layer by layer", "analyze")
        page.other_step("Choose how deep, on my GPU", "decide")
        if server_catalog().folder is not None:
            page.other_step("Analyze my model and data", "data", do=run_choice.NEW_ANALYSIS)
        page.other_step("Just estimate a model", "estimate")


draw = guarded(open_runs)
