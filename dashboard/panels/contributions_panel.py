"""What each layer contributes, against both controls, and how much of it stays trained at a depth."""

import streamlit as st

from semfreeze_core.plan.slices import groupings, kept_columns
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.wording.numbers import CI
from semfreeze_core.wording.rules import depth_spread_sentence, slices_sentence, slices_table
from semfreeze_core.wording.runs import scaling_law_sentence

from ..charts import curves, frontier
from ..data import compute, link
from ..data.run_folder import OpenRun
from ..text import page_text
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from . import page
from .parts_panel import scores_to_come


def contributions(ctx: page.PageContext, depth: int) -> None:
    """Each layer's contribution, and under it the share that stays trained at every depth.

    Of the selected examples alone where some are selected, and enough.
    """
    rows = page.selected_examples(ctx.opened)
    chosen = compute.chosen_examples(ctx.opened, ctx.metric, rows) if rows else None
    curve, scores = (ctx.curve, compute.scores(ctx.opened)) if chosen is None else (chosen.curve, {})
    whose = "" if chosen is None else ", selected examples"
    page.selection_line(ctx, depth)
    figure = curves.draw_gains(curve, depth)
    caption = f"{_sampling(curve)} Circles: without the random-label baseline, as in the paper."
    page.chart("gains", f"What each layer adds{whose}", caption, figure, "gain")
    figure = curves.draw_coverage(curve, scores, depth)
    caption = f"{_sampling(curve)} The other scores contradict each other: only a finetune decides."
    caption = caption if scores else _sampling(curve)
    title = f"Coverage: the share of the layer contributions that stays trained{whose}"
    page.chart("coverage", title, caption, figure, "gain coverage")
    for name, score in ctx.opened.run.scores.items():
        if score.reason:
            st.caption(escaped(f"{name.replace('_', ' ')} is not measured: {score.reason}."))
    scores_to_come(ctx.opened)


def controls(ctx: page.PageContext, depth: int) -> None:
    """The distance to the target with its random-label baseline, swapped completions, first and later tokens."""
    left, right = st.columns(2)
    with left:
        figure = curves.draw_deviation(ctx.curve, depth)
        caption = f"{_sampling(ctx.curve)} Below, the distance between the two lines, which gains come from."
        title = "Deviation from the target token, and the random-label baseline"
        page.chart("deviation", title, caption, figure, "deviation")
    with right:
        _swapped_completions(ctx, depth)
    figure = curves.draw_first_and_later(*compute.first_and_later(ctx.opened, ctx.metric), ctx.metric, depth)
    caption = f"{_sampling(ctx.curve)} Later tokens can be told from earlier ones, whatever the prompt."
    page.chart("first-later", "Advantage at first and at later tokens", caption, figure, "advantage")


def _swapped_completions(ctx: page.PageContext, depth: int) -> None:
    bands = compute.task_null(ctx.opened, ctx.metric)
    if bands is None:
        reason = ctx.opened.run.pairs[ctx.metric].reason
        st.info(escaped(f"The swapped-completion control is not measured: {reason}."))
        return
    n = ctx.curve.evidence.n_pairs
    caption = f"{n} prompts, each with its own and another completion; {CI}, bootstrap over prompts."
    figure = curves.draw_task_null(*bands, ctx.metric, depth)
    page.chart("task-null", "Does the prompt matter? Completions swapped", caption, figure, "task null")


def scaling_law(curve: GainCurve, depth: int) -> None:
    """The scaling law with its turning depth, and what it leaves over; its sentence alone where none fits."""
    sentence = scaling_law_sentence(curve)
    if curve.law.reason:
        st.info(escaped(sentence))
        return
    page.chart("law", "Scaling law of the lift over random labels", sentence, curves.draw_law(curve, depth), "law")
    caption = f"Mean lift minus the law at each hidden state, {curve.n_examples} examples."
    page.chart(
        "law-residuals", "What the scaling law leaves over", caption, curves.draw_law_residuals(curve, depth), "law"
    )


def groups(ctx: page.PageContext, depth: int) -> None:
    """Whether one depth fits all examples, and groups of them."""
    spread = compute.depth_spread(ctx.opened, ctx.metric)
    if spread is None:
        st.info(escaped(depth_spread_sentence(spread)))
    else:
        figure = curves.draw_depth_counts(spread, depth)
        page.chart("picks", "Does one depth fit all examples?", depth_spread_sentence(spread), figure, "picks")
    by = str(st.selectbox("Groups by", groupings(ctx.opened.run), width=320, **link.in_link("by")))
    if not kept_columns(ctx.opened.run):
        st.caption(page_text.NO_COLUMNS)
    groups_shown, left_out = compute.slices(ctx.opened, ctx.metric, by)
    st.markdown(f"**{escaped(slices_sentence(groups_shown, depth, left_out))}**", help=TOOLTIPS["slices"])
    if groups_shown:
        figure = frontier.draw_slices({group.name: group.curve.coverage for group in groups_shown}, depth)
        caption = "Each group by itself, without a swapped-completion control. Bootstrap intervals are in the table."
        page.chart("slices", f"Coverage by {by}", caption, figure, "slices")
        rows = slices_table(groups_shown, "group", depth).dicts()
        st.dataframe(rows, hide_index=True, alt="Groups of examples at this depth")


def keep_choices(opened: OpenRun) -> None:
    """Hold on to the panel's widgets in the link."""
    link.keep_option("by", groupings(opened.run))


def _sampling(curve: GainCurve) -> str:
    return f"Means over {curve.n_examples} examples; {CI}, bootstrap over examples."
