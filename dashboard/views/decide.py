"""Decide: what a freeze depth saves and keeps under a training setup, and what each rule says."""

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from semfreeze_core.cost.table import parts_at_depth
from semfreeze_core.plan.make import warnings_of
from semfreeze_core.plan.opinions import Comparison
from semfreeze_core.records.cost import CostTable, DepthCost, ProgressiveCost
from semfreeze_core.records.defaults import LORA_RANK
from semfreeze_core.wording.costs import lora_name
from semfreeze_core.wording.plan import schedule_summary
from semfreeze_core.wording.rules import WHY, opinion_reasons, opinion_table, recommendation_sentence
from semfreeze_dashboard.data import depth_choice, link
from semfreeze_dashboard.data.run_folder import OpenRun
from semfreeze_dashboard.forms import aim_form, validation_form
from semfreeze_dashboard.forms.finetune_form import OBJECTIVES
from semfreeze_dashboard.panels import page, tables
from semfreeze_dashboard.panels.cost_charts import cost_charts, gpu_ruler
from semfreeze_dashboard.panels.frontier_panel import frontier_panel, keep_saving, saving_choice
from semfreeze_dashboard.panels.parts_panel import scores_to_come
from semfreeze_dashboard.panels.plan_basis import BUDGET, RULES, PlanBasis, plan_basis
from semfreeze_dashboard.panels.plan_figures import plan_figures
from semfreeze_dashboard.panels.saving_panel import saving_panel
from semfreeze_dashboard.panels.schedule_panel import phases, scheduled
from semfreeze_dashboard.panels.undecided_panel import undecided_panel
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped
from semfreeze_dashboard.text.tooltips import TOOLTIPS
from semfreeze_dashboard.text.visitor_text import error_text

SHOWS_DEPTH = True


@dataclass(frozen=True)
class _Shown:
    """What the page's charts and tables are of: one depth among all, in one setup.

    Attributes:
        basis: rule, setup, and what every depth costs.
        depth: k.
        deeper: what it costs to freeze so deep only after some steps; None where it is frozen from the first on.
        alternatives: the plan's cost and those it is compared with, by what they are called.
    """

    basis: PlanBasis
    depth: int
    deeper: ProgressiveCost | None
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
        """Of the plan: of all its steps."""
        return self.costs.depths[self.depth] if self.deeper is None else self.deeper.whole


def body() -> None:
    """Objective, schedule, depth; then the conclusion and the charts it is drawn from."""
    ctx = page.page_context()
    run = ctx.opened.run
    with ctx.choices:
        rule, saving = rule_choice(), saving_choice()
    aim_form.aim_form(asks_budget=rule == BUDGET)
    basis = plan_basis(ctx)
    costs = basis.costs
    depth = page.depth_slider(ctx, basis.last_depth)
    deeper = scheduled(ctx, basis, depth)
    half = ctx.n_layers // 2
    name = f"freeze {depth}" if deeper is None else f"freeze {deeper.switch.wide_depth}, then {depth}"
    alternatives = {
        name: costs.depths[depth] if deeper is None else deeper.whole,
        "full finetuning": costs.full,
        f"freeze half, {half}": costs.depths[half],
    }
    if costs.lora is not None:
        alternatives[lora_name(costs, basis.options.lora_rank or LORA_RANK)] = costs.lora
    shown = _Shown(basis, depth, deeper, alternatives)

    conclusion(ctx, shown)
    page.selection_line(ctx, depth)
    plan_figures(ctx, basis, depth, shown.cost)
    cost_charts(alternatives, costs, basis.setup)
    if line := page_text.alternative_line(costs, depth):
        st.caption(line)
    if basis.opinion is not None and basis.opinion.freeze_depth is not None:
        st.markdown(escaped(recommendation_sentence(basis.comparison.rules, basis.rule, depth)))
    largest = depth if deeper is None else deeper.switch.wide_depth  # the first steps need most
    parts = parts_at_depth(run.shape, largest, lora=basis.setup.lora is not None)
    saving_panel(run.shape, basis.setup, parts, basis.gpu, costs.depths)
    if deeper is not None:
        phases(costs, depth, deeper)
    gpu_ruler(alternatives, basis.gpu)
    scores_to_come(ctx.opened)
    page.details("rules", "What each rule recommends, and why", lambda: rules(shown))
    page.details(
        "frontier",
        "Savings against coverage, every depth",
        lambda: frontier_panel(ctx, costs.depths, basis.comparison, depth, saving),
    )
    page.details("gpus", "Every GPU in a table", lambda: gpu_table(alternatives, shown))
    with st.container(horizontal=True, vertical_alignment="center"):
        page.next_step(
            "Test this depth by a real finetune",
            "prove",
            **limits_of_link(basis),
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
    st.markdown("\n".join(f"- {error_text(line)}" for line in opinion_reasons(shown.comparison)))


def gpu_table(alternatives: Mapping[str, DepthCost], shown: _Shown) -> None:
    """The headroom of each alternative on each GPU."""
    rows = tables.gpu_rows(alternatives, shown.costs.depths, shown.basis.gpu)
    st.dataframe(rows, hide_index=True, alt="Headroom on each GPU")


def rule_choice() -> str:
    """The rule that is asked."""
    return str(
        st.segmented_control(
            "Rule", RULES, default=RULES[0], required=True, help=TOOLTIPS["rule"],
            disabled=link.chosen_option("objective", OBJECTIVES) != OBJECTIVES[0], **link.in_link("rule"),
        )
    )  # fmt: skip


def limits_of_link(basis: PlanBasis) -> dict[str, str]:
    """The objective's limit as the form of a finetune has it in the link."""
    if basis.budget is None:
        return {}
    if basis.objective == "memory":
        return {"gib": f"{(basis.budget.memory_bytes or 0) / 2**30:g}"}
    return {"hours": f"{link.number('within', 0):g}"} if basis.objective == "time" else {}


def shows_objective() -> bool:
    """Whether the page has a choice of the objective."""
    return True


def link_choices(opened: OpenRun) -> None:
    """This page's widgets of the link, for pages that only keep them there."""
    link.keep_choice("rule", RULES)
    aim_form.keep_limits()
    keep_saving()


def conclusion(ctx: page.PageContext, shown: _Shown) -> None:
    """What the plan trains and costs, and what the rule recommends."""
    basis = shown.basis
    opinion = basis.opinion
    switch = None if shown.deeper is None else shown.deeper.switch
    sentences = schedule_summary(shown.depth, switch, ctx.n_layers, shown.cost)
    if opinion is not None and opinion.freeze_depth is None:
        sentences.insert(0, page_text.MANUAL_DEPTH_NOTE)
    page.header(ctx, shown.depth, " ".join(sentences), readouts=page.depth_readouts(ctx))
    if opinion is None:
        st.info(escaped(basis.problem or page_text.SET_LIMIT[basis.objective]))
    elif opinion.freeze_depth is None:
        st.warning(error_text(recommendation_sentence(shown.comparison.rules, basis.rule, shown.depth)))
        undecided_panel(ctx)
    for warning in warnings_of(ctx.opened.run, frozen=shown.depth > 0):
        st.warning(error_text(warning))


draw = page.as_fragment(body)
