"""Plan: what a freeze depth saves and keeps under a training setup, and the plan to take away."""

import streamlit as st

from semfreeze_core.cost import run_seconds
from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.plan.make import warnings_of
from semfreeze_core.plan.speed import training_speed
from semfreeze_core.records.training import LoraSetup
from semfreeze_core.wording.numbers import duration, flop, gib, percent, setup_words
from semfreeze_dashboard.charts import costs, frontier
from semfreeze_dashboard.data import compute, exports, state
from semfreeze_dashboard.forms.setup_form import budget_asked, setup_options
from semfreeze_dashboard.panels import page, tables
from semfreeze_dashboard.panels.export_panel import take_panel
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped

FRONTIER = "frontier"
RULES = ("coverage", "paper", "compute", "budget")


def go_to_clicked_depth() -> None:
    """Move the depth to the point that was clicked."""
    for point in state.clicked(page.chart_key(FRONTIER)):
        state.set_depth(int(point["customdata"][0]))


def body() -> None:
    """Rule, setup, depth; then the conclusion and the charts it is drawn from."""
    seen = page.reading()
    opened, run = seen.opened, seen.opened.run
    with seen.choices:
        rule = st.segmented_control(
            "Ask a rule", RULES, default="coverage", required=True, help=page_text.HELP["rule"], **state.in_link("rule")
        )
        with st.popover("Training setup"):
            flags = setup_options(run)
    budget = budget_asked() if rule == "budget" else None
    setup = setup_from_options(run.shape, run, flags, with_reference=True)
    table = compute.prices(opened, setup, LoraSetup(flags.lora_rank))
    comparison = compute.comparison(seen.opened, seen.metric, setup, budget)
    asked = comparison.rules.get(rule)
    state.follow(opened.name, (rule, budget), asked.freeze_depth if asked else None)
    depth = page.depth_slider(seen, len(table.depths) - 1)
    coverage = seen.curve.coverage.at(depth)
    price, half = table.depths[depth], seen.n_layers // 2
    page.head(seen, depth, page_text.plan_sentence(depth, seen.n_layers, price, seen.curve, rule, asked))
    if asked is None:
        st.info("Say what the finetune may take: a card, memory, or a share of the FLOP.")
    elif asked.freeze_depth is None:
        st.warning(page_text.advice(comparison, rule, depth))
    else:
        st.markdown(page_text.advice(comparison, rule, depth))
    for warning in warnings_of(run, depth):
        st.warning(escaped(warning))

    speed = training_speed(None, None, run, setup)
    full = table.full
    told_time = duration(run_seconds(price.flop, speed.flop_per_second))
    for column, (title, value, delta, term) in zip(
        st.columns(4),
        (
            ("FLOP of full", percent(price.relative_flop), flop(price.flop, full.flop), "flop"),
            ("Memory of full", percent(price.relative_bytes), gib(price.bytes.total), "memory"),
            ("Gain coverage", page_text.two_digits(coverage.estimate), page_text.bounds(coverage), "gain coverage"),
            ("Time of the run", told_time, page_text.speed_words(speed), "time"),
        ),
        strict=True,
    ):
        column.metric(title, value, delta, "off", help=page_text.HELP[term], delta_arrow="off")

    named = {f"freeze {depth}": price, "full finetuning": table.full, f"freeze half, {half}": table.depths[half]}
    named[f"LoRA, rank {flags.lora_rank}"] = table.lora
    left, right = st.columns(2)
    told = f"{table.bytes_status.capitalize()}: {setup_words(setup)}."
    with left:
        page.chart("memory", "Device memory by part", told, costs.draw_memory_beside(named), "memory")
    with right:
        known = "Exact" if table.flop_status == "exact" else "An upper bound"
        page.chart("flop", "FLOP of a step, by what for", f"{known}: {setup_words(setup)}.",
                   costs.draw_flop_beside(named), "flop")  # fmt: skip

    saving = st.segmented_control(
        "Saving", ("FLOP", "memory"), default="FLOP", required=True, **state.in_link("saving")
    )
    marks = {name: opinion for name, opinion in comparison.rules.items() if name != "manual"}
    figure = frontier.draw_frontier(table.depths, seen.curve.coverage, marks, depth, saving)
    if figure is None:
        st.info(f"The saving of {saving}, or the gain coverage, is not known for this run, so it cannot be drawn.")
    else:
        page.chart(FRONTIER, "Savings against gain coverage: click a depth",
                   f"{len(table.depths)} freeze depths; {seen.curve.n_examples} examples. "
                   f"{comparison.agreement.summary}",
                   figure, "frontier", on_select=go_to_clicked_depth, selection_mode="points")  # fmt: skip

    st.markdown("**What each rule says, and why**", help=page_text.HELP["rule"])
    st.table(page_text.opinion_rows(comparison.rules | comparison.scores))
    st.markdown("**Cards it fits on**", help=page_text.HELP["cards"])
    st.dataframe(tables.card_rows(named, table.depths), hide_index=True, alt="Headroom on each card")

    st.page_link(
        "views/validate.py", label="**Test this depth by a real finetune**", help=page_text.HELP["test depth"],
        query_params=state.link_to_proof(depth),
    )  # fmt: skip
    take_panel(seen, exports.chosen(seen, asked, rule, depth, budget, flags, setup))


draw = page.as_fragment(body)
