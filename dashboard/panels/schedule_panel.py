"""A finetune that freezes few layers in its first steps and more after them: whether it is possible, and its phases."""

from dataclasses import replace

import streamlit as st

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.rules_by_cost import format_cost
from semfreeze_core.records.cost import CostTable, ProgressiveCost
from semfreeze_core.wording.costs import depth_cost_table

from ..charts import costs
from ..data import link
from ..text import page_text
from ..text.analysis_text import escaped
from ..text.visitor_text import visitor_text
from . import page
from .plan_basis import PlanBasis, deeper_cost


def scheduled(ctx: page.PageContext, basis: PlanBasis, depth: int) -> ProgressiveCost | None:
    """What it costs to freeze this deep only after some steps; None where nobody asks for it, or it is not possible."""
    steps = int(link.number("wide", 0))
    try:
        deeper: ProgressiveCost | None = deeper_cost(ctx, basis, depth)
        if deeper is not None and basis.budget is not None and not basis.budget.holds(deeper.whole):
            needs = format_cost(deeper.whole)
            st.warning(escaped(page_text.WIDE_EXCEEDS.format(steps=steps, needs=needs, limit=basis.budget.summary)))
    except PlanError as error:
        st.info(escaped(page_text.NOT_DEEPER.format(steps=steps, problem=visitor_text(str(error)))))
        return None
    return deeper


def phases(table: CostTable, depth: int, deeper: ProgressiveCost) -> None:
    """What each phase costs beside freezing as deep from the first step on.

    Args:
        table: of every freeze depth.
        depth: that is frozen in the end.
        deeper: the plan.
    """
    st.markdown("**Cost of each phase**")
    one = replace(
        table, depths=(table.depths[depth],), lora=None, alternative=None, transformers_5=None, progressive=deeper
    )
    rows = depth_cost_table(one).without(*(part for part, _ in costs.BYTES))
    st.dataframe(rows.dicts(), hide_index=True, alt="Cost of each phase")
