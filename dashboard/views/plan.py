"""Plan: what a freeze depth saves and keeps under a training setup, and the plan to take away."""

import streamlit as st

from semfreeze_core.cost import run_seconds
from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.cost.speed import training_speed
from semfreeze_core.plan.make import warnings_of
from semfreeze_core.records.training import LoraSetup
from semfreeze_core.wording.costs import flop_status_word, setup_line
from semfreeze_core.wording.numbers import CI, duration, flops, flops_per_second, gib, number, percent
from semfreeze_core.wording.plan import depth_summary, no_recommendation
from semfreeze_core.wording.rules import opinion_table, recommendation_sentence
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
    sentences = depth_summary(depth, seen.n_layers, price)
    if asked is not None and asked.freeze_depth is None:
        sentences.insert(0, no_recommendation(rule, asked.candidate_depth))
    page.head(seen, depth, " ".join(sentences))
    if asked is None:
        st.info("Set a limit: GPU, memory, or compute.")
    elif asked.freeze_depth is None:
        st.warning(recommendation_sentence(comparison.rules, rule, depth))
    else:
        st.markdown(recommendation_sentence(comparison.rules, rule, depth))
    for warning in warnings_of(run, depth):
        st.warning(escaped(warning))

    speed = training_speed(None, None, run, setup)
    full = table.full
    time = duration(run_seconds(price.flop, speed.flop_per_second))
    rate = "no throughput was measured in this precision"
    if speed.flop_per_second is not None:
        rate = f"at the analysis throughput, {flops_per_second(speed.flop_per_second)}"
    range_of_coverage = f"{CI} {number(coverage.low, 2)} to {number(coverage.high, 2)}"
    for column, (title, value, delta, term) in zip(
        st.columns(4),
        (
            ("FLOP of full", percent(price.relative_flop), flops(price.flop, full.flop), "flop"),
            ("Memory of full", percent(price.relative_bytes), gib(price.bytes.total), "memory"),
            ("Gain coverage", number(coverage.estimate, 2), range_of_coverage, "gain coverage"),
            ("Time of the run", time, rate, "time"),
        ),
        strict=True,
    ):
        column.metric(title, value, delta, "off", help=page_text.HELP[term], delta_arrow="off")

    named = {f"freeze {depth}": price, "full finetuning": table.full, f"freeze half, {half}": table.depths[half]}
    named[f"LoRA, rank {flags.lora_rank}"] = table.lora
    left, right = st.columns(2)
    caption = f"{table.bytes_status.capitalize()}: {setup_line(setup)}."
    with left:
        page.chart("memory", "Device memory by part", caption, costs.draw_memory_beside(named), "memory")
    with right:
        caption = f"{flop_status_word(table.flop_status)}: {setup_line(setup)}."
        page.chart("flop", "FLOPs of a step, by operation", caption, costs.draw_flop_beside(named), "flop")

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
    st.table(opinion_table(comparison).dicts())
    st.markdown("**Cards it fits on**", help=page_text.HELP["cards"])
    st.dataframe(tables.card_rows(named, table.depths), hide_index=True, alt="Headroom on each card")

    st.page_link(
        "views/validate.py", label="**Test this depth by a real finetune**", help=page_text.HELP["test depth"],
        query_params=state.link_to_proof(depth),
    )  # fmt: skip
    take_panel(seen, exports.chosen(seen, asked, rule, depth, budget, flags, setup))


draw = page.as_fragment(body)
