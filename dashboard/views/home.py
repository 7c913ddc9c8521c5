"""Home: which runs there are and what the open one says, or a new one."""

import streamlit as st

from semfreeze_core.records.defaults import RULE
from semfreeze_core.records.usual_depths import quarter_depth, two_thirds_depth
from semfreeze_dashboard.charts.moving_stack import moving_stack_html
from semfreeze_dashboard.data import compute, depth_choice, run_choice
from semfreeze_dashboard.data.run_folder import server_catalog
from semfreeze_dashboard.forms.validation_form import start_depth
from semfreeze_dashboard.panels import page
from semfreeze_dashboard.panels.recent_runs import recent_runs
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.tooltips import TOOLTIPS
from semfreeze_dashboard.text.visitor_text import error_text


def open_runs() -> None:
    """The open run's conclusion and what to do next, then the newest runs."""
    ctx = page.page_context(chooses_metric=False)
    comparison = compute.comparison(ctx.opened, ctx.metric, None, None)
    depth = comparison.rules[RULE].freeze_depth
    if depth is None:
        page.header(ctx, None, page_text.UNDECIDED.format(name=ctx.opened.name))
        st.markdown(error_text(" ".join(comparison.rules[RULE].reasons)))
        undecided_steps(ctx)
    else:
        sentence = page_text.start_sentence(ctx.opened.name, comparison)
        page.header(ctx, depth, sentence, drawing=moving_stack(ctx, depth))
        next_steps()
    recent_runs(ctx.opened)


def moving_stack(ctx: page.PageContext, depth: int) -> str | None:
    """The stack as it freezes to the depth, with what that saves; None in a setup that contradicts itself."""
    costs = page.depth_costs(ctx.opened)
    if costs is None:
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
        begin_steps()


def begin_steps() -> None:
    """The ways to begin with something else than the open run."""
    if server_catalog().folder is not None:
        page.other_step("Analyze my model and data", "data", do=run_choice.NEW_ANALYSIS)
    page.other_step("Just estimate a model", "estimate")


def undecided_steps(ctx: page.PageContext) -> None:
    """Where to go from a run without a recommendation: the careful depth, or a finetune that decides."""
    quarter, two_thirds = quarter_depth(ctx.n_layers), two_thirds_depth(ctx.n_layers)
    st.markdown("**What you can do without a recommendation**", help=TOOLTIPS["undecided"])
    with st.container(horizontal=True, vertical_alignment="center"):
        page.next_step(f"Freeze a quarter, {quarter}, to be careful", "decide", depth=str(quarter))
        page.other_step(
            f"Test freezing two thirds, {two_thirds}, by a real finetune",
            "prove",
            **depth_choice.link_to_finetune_form(two_thirds, start_depth(ctx.opened)),
        )
        page.other_step("See why, layer by layer", "analyze")
        begin_steps()


draw = guarded(open_runs)
