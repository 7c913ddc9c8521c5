"""The plan in four figures: compute, memory, coverage and time."""

from math import isfinite

import streamlit as st

from semfreeze_core.records.cost import DepthCost
from semfreeze_core.wording.numbers import CI, duration_at, flops, gib, number, percent, rate_range

from ..text import page_text
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from . import page
from .plan_basis import PlanBasis


def plan_figures(ctx: page.PageContext, basis: PlanBasis, depth: int, cost: DepthCost) -> None:
    """Each figure with what belongs to it, and why there is no time where there is none.

    Args:
        ctx: what the page shows.
        basis: of the plan.
        depth: k.
        cost: of the plan.
    """
    rates, coverage = basis.speed.rates, ctx.curve.coverage.at(depth)
    share, interval = "not measured", None  # the rules' reasons say why
    if isfinite(coverage.estimate):
        share = number(coverage.estimate, 2)
        interval = f"{CI} {number(coverage.low, 2)} to {number(coverage.high, 2)}"
    time = duration_at(cost.flop, rates) if rates else "unknown"
    rate = f"at {rate_range(rates)}" if rates else "choose a GPU"
    for column, (title, value, delta, term) in zip(
        st.columns(4),
        (
            ("Compute vs. full", percent(cost.relative_flop), flops(cost.flop, basis.costs.full.flop), "flop"),
            ("Memory vs. full", percent(cost.relative_bytes), gib(cost.bytes.total), "memory"),
            ("Coverage", share, interval, "gain coverage"),
            ("Time of the run", time, rate, "time"),
        ),
        strict=True,
    ):
        source = f" {page_text.time_line(basis.speed)}" if term == "time" and rates else ""
        column.metric(title, value, delta, "off", help=TOOLTIPS[term] + source, delta_arrow="off")
    if not rates:
        st.caption(escaped(page_text.no_rate_sentence(basis.gpu, basis.setup.precision)))
