"""What every freeze depth saves against what it keeps of the gain; a click on one goes there."""

from collections.abc import Sequence
from math import isfinite

import streamlit as st

from semfreeze_core.plan.opinions import Comparison
from semfreeze_core.records.cost import DepthCost

from ..charts import frontier
from ..data import depth_choice, link, selections
from ..text.tooltips import TOOLTIPS
from . import page

FRONTIER = "frontier"
SAVINGS = tuple(frontier.SAVING_NAMES)


def saving_choice() -> frontier.Saving:
    """What the chart sets against coverage."""
    names = frontier.SAVING_NAMES
    chosen: frontier.Saving = st.segmented_control(
        "Saving", SAVINGS, default=SAVINGS[0], format_func=names.__getitem__, required=True, help=TOOLTIPS["frontier"],
        **link.in_link("saving"),
    )  # fmt: skip
    return chosen


def frontier_panel(
    ctx: page.PageContext, depths: Sequence[DepthCost], comparison: Comparison, depth: int, saving: frontier.Saving
) -> None:
    """The chart of a saving.

    Args:
        ctx: what the page shows.
        depths: the cost of every freeze depth.
        comparison: what every rule recommends.
        depth: k.
        saving: one of SAVINGS.
    """
    marks = {name: opinion for name, opinion in comparison.rules.items() if name != "manual"}
    figure = frontier.draw_frontier(depths, ctx.curve.coverage, marks, depth, saving)
    if figure is None:
        missing = f"{frontier.SAVING_NAMES[saving]} saved" if isfinite(ctx.curve.coverage.mean[0]) else "gain coverage"
        st.info(f"The {missing} is not known for this run, so savings against coverage cannot be drawn.")
        return
    caption = f"{len(depths)} freeze depths; {ctx.curve.n_examples} examples. {comparison.agreement.summary}"
    page.chart(FRONTIER, "Savings against coverage: click a depth", caption, figure, "frontier",
               on_select=_go_to_clicked_depth, selection_mode="points")  # fmt: skip


def keep_saving() -> None:
    """Hold on to the choice in the link, where the chart is not shown."""
    link.keep_choice("saving", SAVINGS)


def _go_to_clicked_depth() -> None:
    for point in selections.clicked(page.chart_key(FRONTIER)):
        depth_choice.set_depth(int(point["customdata"][0]))
