"""Gains: what each layer adds, against both controls, and how much of it stays trained at a depth."""

import streamlit as st

from semfreeze_core.plan.slices import groupings, kept_columns
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.wording.numbers import CI
from semfreeze_core.wording.rules import picks_sentence, slices_sentence, slices_table
from semfreeze_core.wording.runs import contribution_sentence, scaling_law_sentence
from semfreeze_dashboard.charts import curves, frontier
from semfreeze_dashboard.data import compute, state
from semfreeze_dashboard.data.run_folder import OpenRun
from semfreeze_dashboard.panels import page
from semfreeze_dashboard.panels.scores_panel import scores_to_come
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped
from semfreeze_dashboard.text.tooltips import TOOLTIPS

SHOWS_DEPTH = True


def body() -> None:
    """Deviation, controls, gains, coverage, law, picks, groups; one line for the depth through all."""
    ctx = page.page_context()
    depth = page.depth_slider(ctx)
    opened, metric, curve = ctx.opened, ctx.metric, ctx.curve
    page.header(ctx, depth, contribution_sentence(curve, depth), readouts=page.depth_readouts(ctx))
    sampling = f"Means over {curve.n_examples} examples; {CI}, bootstrap over examples."

    figure = curves.draw_coverage(curve, compute.scores(opened), depth)
    caption = f"{sampling} The other scores contradict each other: only a finetune decides."
    page.chart(
        "coverage",
        "Coverage: the share of the layer contributions that stays trained",
        caption,
        figure,
        "gain coverage",
    )

    left, right = st.columns(2)
    with left:
        figure = curves.draw_deviation(curve, depth)
        caption = f"{sampling} Below, the distance between the two lines, which gains come from."
        page.chart(
            "deviation", "Deviation from the target token, and the random-label baseline", caption, figure, "deviation"
        )
    with right:
        figure = curves.draw_gains(curve, depth)
        caption = f"{sampling} Circles: the raw fall of the deviation, the paper's gain."
        page.chart("gains", "What each layer adds", caption, figure, "gain")

    left, right = st.columns(2)
    with left:
        bands = compute.task_null(opened, metric)
        if bands is None:
            st.info(escaped(f"The swapped-completion control is not measured: {opened.run.pairs[metric].reason}."))
        else:
            n = curve.evidence.n_pairs
            caption = f"{n} prompts, each with its own and another completion; {CI}, bootstrap over prompts."
            figure = curves.draw_task_null(*bands, metric, depth)
            page.chart("task-null", "Does the prompt matter? Completions swapped", caption, figure, "task null")
    with right:
        figure = curves.draw_first_and_later(*compute.first_and_later(opened, metric), metric, depth)
        caption = f"{sampling} Later tokens can be told from earlier ones, whatever the prompt."
        page.chart("first-later", "Advantage at first and at later tokens", caption, figure, "advantage")

    _law(curve, depth)

    picks = compute.example_picks(opened, metric)
    if picks is None:
        st.info(escaped(picks_sentence(picks)))
    else:
        figure = curves.draw_picks(picks, depth)
        page.chart("picks", "Does one depth fit all examples?", picks_sentence(picks), figure, "picks")

    by = grouping_choice(opened)
    if not kept_columns(opened.run):
        st.caption(page_text.NO_COLUMNS)
    groups, left_out = compute.slices(opened, metric, by)
    st.markdown(f"**{escaped(slices_sentence(groups, depth, left_out))}**", help=TOOLTIPS["slices"])
    if groups:
        figure = frontier.draw_slices({g.name: g.curve.coverage for g in groups}, depth)
        caption = "Each group by itself, without a swapped-completion control. Bootstrap intervals are in the table."
        page.chart("slices", f"Coverage by {by}", caption, figure, "slices")
        rows = slices_table(groups, "group", depth).dicts()
        st.dataframe(rows, hide_index=True, alt="Groups of examples at this depth")
    for name, score in opened.run.scores.items():
        if score.reason:
            st.caption(escaped(f"{name.replace('_', ' ')} is not measured: {score.reason}."))
    scores_to_come(opened)
    page.next_step("Choose how deep, on my GPU", "plan")


def _law(curve: GainCurve, depth: int) -> None:
    """The scaling law with its turning depth, and what it leaves over; its sentence alone where none fits."""
    sentence = scaling_law_sentence(curve)
    if curve.law.reason:
        st.info(escaped(sentence))
        return
    page.chart("law", "Scaling law of the lift over random labels", sentence, curves.draw_law(curve, depth), "law")
    with st.expander("Residuals of the scaling law"):
        caption = f"Mean lift minus the law at each hidden state, {curve.n_examples} examples."
        figure = curves.draw_law_residuals(curve, depth)
        page.chart("law-residuals", "What the scaling law leaves over", caption, figure, "law")


def grouping_choice(opened: OpenRun) -> str:
    """What the groups of examples have in common."""
    return str(st.selectbox("Groups by", groupings(opened.run), width=320, **state.in_link("by")))


def link_choices(opened: OpenRun) -> None:
    """This page's widgets of the link, for pages that only keep them there."""
    state.keep_option("by", groupings(opened.run))


draw = page.as_fragment(body)
