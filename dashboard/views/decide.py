"""Decide: what a freeze depth saves and keeps under a training setup, and what each rule says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite

import streamlit as st

from semfreeze_core.cost.speed import training_speed
from semfreeze_core.cost.table import parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.make import warnings_of
from semfreeze_core.plan.opinions import Comparison
from semfreeze_core.records.cost import CostTable, DepthCost, ProgressiveCost
from semfreeze_core.records.defaults import LORA_RANK
from semfreeze_core.wording.costs import depth_cost_table, lora_name
from semfreeze_core.wording.numbers import CI, duration_at, flops, gib, number, percent, rate_range
from semfreeze_core.wording.plan import depth_summary
from semfreeze_core.wording.rules import WHY, opinion_reasons, opinion_table, recommendation_sentence
from semfreeze_dashboard.charts import costs
from semfreeze_dashboard.data import compute, depth_choice, link
from semfreeze_dashboard.data.run_folder import OpenRun
from semfreeze_dashboard.forms import validation_form
from semfreeze_dashboard.forms.setup_form import LARGEST_MEMORY_GIB, limit_inputs
from semfreeze_dashboard.panels import page, tables
from semfreeze_dashboard.panels.cost_charts import cost_charts, gpu_ruler
from semfreeze_dashboard.panels.frontier_panel import frontier_panel, keep_saving, saving_choice
from semfreeze_dashboard.panels.plan_basis import BUDGET, RULES, PlanBasis, deeper_cost, plan_basis
from semfreeze_dashboard.panels.saving_panel import saving_panel
from semfreeze_dashboard.panels.scores_panel import scores_to_come
from semfreeze_dashboard.panels.undecided_panel import undecided_panel
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped
from semfreeze_dashboard.text.tooltips import TOOLTIPS
from semfreeze_dashboard.text.visitor_text import visitor_text

_MOST_STEPS, _NARROW = 10_000_000, 135
SHOWS_DEPTH = True


@dataclass(frozen=True)
class _Shown:
    """What the page's charts and tables are of: one depth among all, in one setup.

    Attributes:
        basis: rule, setup, and what every depth costs.
        depth: k.
        alternatives: the depth's cost and those it is compared with, by what they are called.
    """

    basis: PlanBasis
    depth: int
    alternatives: dict[str, DepthCost]

    @property
    def costs(self) -> CostTable:
        costs: CostTable = self.basis.costs
        return costs

    @property
    def comparison(self) -> Comparison:
        comparison: Comparison = self.basis.comparison
        return comparison

    @property
    def cost(self) -> DepthCost:
        return self.costs.depths[self.depth]


def body() -> None:
    """Rule, setup, depth; then the conclusion and the charts it is drawn from."""
    ctx = page.page_context()
    run = ctx.opened.run
    with ctx.choices:
        rule, saving = rule_choice(), saving_choice()
    with st.container() if rule == BUDGET else page.hidden("limits"):
        limit_inputs()
    basis = plan_basis(ctx)
    costs = basis.costs
    depth = page.depth_slider(ctx, basis.last_depth)
    half = ctx.n_layers // 2
    alternatives = {f"freeze {depth}": costs.depths[depth], "full finetuning": costs.full}
    alternatives |= {
        f"freeze half, {half}": costs.depths[half],
        lora_name(costs, basis.options.lora_rank or LORA_RANK): costs.lora,
    }
    shown = _Shown(basis, depth, alternatives)

    conclusion(ctx, shown)
    page.selection_line(ctx, depth)
    metrics(ctx, shown)
    cost_charts(alternatives, costs, basis.setup)
    parts = parts_at_depth(run.shape, depth, lora=basis.setup.lora is not None)
    saving_panel(run.shape, basis.setup, parts, basis.gpu, costs.depths)
    deeper = deeper_choice(ctx, shown)
    if deeper is not None:
        wide = f"freeze {deeper.switch.wide_depth}, first {deeper.steps[0]:,} steps"
        alternatives = {wide: deeper.phases[0], **alternatives}
    gpu_ruler(alternatives, basis.gpu)
    if basis.opinion is not None and basis.opinion.freeze_depth is not None:
        st.markdown(escaped(recommendation_sentence(basis.comparison.rules, rule, depth)))
    scores_to_come(ctx.opened)
    page.details("rules", "What each rule recommends, and why", lambda: rules(shown))
    page.details(
        "frontier",
        "Savings against gain coverage, every depth",
        lambda: frontier_panel(ctx, costs.depths, basis.comparison, depth, saving),
    )
    page.details("gpus", "Every GPU in a table", lambda: gpu_table(alternatives, shown))
    with st.container(horizontal=True, vertical_alignment="center"):
        page.next_step(
            "Test this depth by a real finetune",
            "prove",
            **depth_choice.link_to_finetune_form(depth, validation_form.start_depth(ctx.opened)),
        )
        page.other_step("Use this plan", "use")


def rules(shown: _Shown) -> None:
    """The depth of every rule and score, its cost, and the reasons."""
    st.dataframe(
        opinion_table(shown.comparison).without(WHY).dicts(),
        hide_index=True,
        alt="The depth of every rule and its cost",
    )
    st.markdown("\n".join(f"- {escaped(line)}" for line in opinion_reasons(shown.comparison)))


def gpu_table(alternatives: Mapping[str, DepthCost], shown: _Shown) -> None:
    """The headroom of each alternative on each GPU."""
    rows = tables.gpu_rows(alternatives, shown.costs.depths, shown.basis.gpu)
    st.dataframe(rows, hide_index=True, alt="Headroom on each GPU")


def rule_choice() -> str:
    """The rule that is asked."""
    return str(
        st.segmented_control(
            "Rule", RULES, default=RULES[0], required=True, help=TOOLTIPS["rule"], **link.in_link("rule")
        )
    )


def link_choices(opened: OpenRun) -> None:
    """This page's widgets of the link, for pages that only keep them there."""
    link.keep_choice("rule", RULES)
    link.keep_number("wide", 0, _MOST_STEPS, 0)
    link.keep_number("memory", 0.0, LARGEST_MEMORY_GIB, 0.0)
    link.keep_number("compute", 1, 100, 100)
    keep_saving()


def conclusion(ctx: page.PageContext, shown: _Shown) -> None:
    """What the depth trains and costs, and what the rule recommends."""
    rule, opinion = shown.basis.rule, shown.basis.opinion
    sentences = depth_summary(shown.depth, ctx.n_layers, shown.cost)
    if opinion is not None and opinion.freeze_depth is None:
        sentences.insert(0, page_text.MANUAL_DEPTH_NOTE)
    page.header(ctx, shown.depth, " ".join(sentences), readouts=page.depth_readouts(ctx))
    if opinion is None:
        st.info("Set a limit: GPU, memory, or compute.")
    elif opinion.freeze_depth is None:
        st.warning(escaped(recommendation_sentence(shown.comparison.rules, rule, shown.depth)))
        undecided_panel(ctx)
    for warning in warnings_of(ctx.opened.run, frozen=shown.depth > 0):
        st.warning(escaped(visitor_text(warning)))


def metrics(ctx: page.PageContext, shown: _Shown) -> None:
    """Compute, memory, coverage and time, and what the depth costs in the other kind of trainer."""
    setup, gpu = shown.basis.setup, shown.basis.gpu
    cost, coverage = shown.cost, ctx.curve.coverage.at(shown.depth)
    measured = compute.finetune_rate(ctx.opened, setup.precision)[0]
    speed = training_speed(None, None, setup, gpu=gpu, measured=measured)
    time = duration_at(cost.flop, speed.rates) if speed.rates else "needs a rate"
    rate = f"at {rate_range(speed.rates)}" if speed.rates else "name a GPU"
    share, interval = "not measured", None  # the rules' reasons say why
    if isfinite(coverage.estimate):
        share = number(coverage.estimate, 2)
        interval = f"{CI} {number(coverage.low, 2)} to {number(coverage.high, 2)}"
    for column, (title, value, delta, term) in zip(
        st.columns(4),
        (
            ("Compute vs. full", percent(cost.relative_flop), flops(cost.flop, shown.costs.full.flop), "flop"),
            ("Memory vs. full", percent(cost.relative_bytes), gib(cost.bytes.total), "memory"),
            ("Gain coverage", share, interval, "gain coverage"),
            ("Time of the run", time, rate, "time"),
        ),
        strict=True,
    ):
        source = f" {page_text.time_line(speed)}" if term == "time" and speed.rates else ""
        column.metric(title, value, delta, "off", help=TOOLTIPS[term] + source, delta_arrow="off")
    if not speed.rates:
        st.caption(escaped(page_text.no_rate_sentence(gpu, setup.precision)))
    if line := page_text.alternative_line(shown.costs, shown.depth):
        st.caption(line)


def deeper_choice(ctx: page.PageContext, shown: _Shown) -> ProgressiveCost | None:
    """What it costs to freeze this deep only after some steps; None where nobody asks for it, or it is not possible."""
    st.markdown("**Freezing deeper after some steps**", help=TOOLTIPS["wide steps"])
    steps = int(st.number_input("First steps", 0, _MOST_STEPS, 0, width=_NARROW, **link.in_link("wide")))
    try:
        deeper: ProgressiveCost | None = deeper_cost(ctx, shown.basis, shown.depth)
    except PlanError as error:
        st.info(escaped(page_text.NOT_DEEPER.format(steps=steps, problem=visitor_text(str(error)))))
        return None
    if deeper is None:
        return None
    one = replace(shown.costs, depths=(shown.cost,), lora=None, alternative=None, transformers_5=None)
    rows = depth_cost_table(replace(one, progressive=deeper)).without(*(part for part, _ in costs.BYTES))
    st.dataframe(rows.dicts(), hide_index=True, alt="Cost of each phase")
    return deeper


draw = page.as_fragment(body)
