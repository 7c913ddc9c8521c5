"""What the depth is chosen for and how it changes in training: the objective with its limit, and the schedule."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from semfreeze_core.records.defaults import WIDE_STEPS

from ..data import link
from ..data.setup_fields import chosen, show_chosen
from ..panels import page
from ..text.tooltips import TOOLTIPS
from .finetune_form import OBJECTIVES
from .setup_form import LARGEST_MEMORY_GIB

MOST_STEPS, MOST_HOURS = 10_000_000, 10_000.0
_NARROW, _NO_LIMIT = 150, "0: no limit."
_SCHEDULE, _FIXED, _WIDE_FIRST = "schedule", "fixed", "wide first, then deep"


def aim_form(*, asks_budget: bool) -> None:
    """Objective, limit and schedule in one row; `plan_basis` reads them from the link.

    Args:
        asks_budget: whether the rule that balanced asks has limits of its own.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        objective = st.segmented_control(
            "Objective", OBJECTIVES, default=OBJECTIVES[0], required=True, help=TOOLTIPS["depth objective"],
            **link.in_link("objective"),
        )  # fmt: skip
        own_limits = asks_budget and objective == OBJECTIVES[0]
        with _where("memory", shown=own_limits or objective == "memory"):
            st.number_input(
                "Memory, GiB",
                0.0,
                LARGEST_MEMORY_GIB,
                0.0,
                width=_NARROW,
                help=_NO_LIMIT,
                **link.in_link("memory"),
            )
        with _where("compute", shown=own_limits):
            st.number_input(
                "Compute vs. full, %", 1, 100, 100, width=_NARROW, help="100: no limit.", **link.in_link("compute")
            )
        with _where("within", shown=objective == "time"):
            st.number_input(
                "Time, hours", 0.0, MOST_HOURS, 0.0, width=_NARROW, help=_NO_LIMIT, **link.in_link("within")
            )
        _schedule()


def keep_limits() -> None:
    """Hold on to the form's numbers in the link, on pages that do not have it."""
    link.keep_number("wide", 0, MOST_STEPS, 0)
    link.keep_number("memory", 0.0, LARGEST_MEMORY_GIB, 0.0)
    link.keep_number("compute", 1, 100, 100)
    link.keep_number("within", 0.0, MOST_HOURS, 0.0)


def _schedule() -> None:
    """Whether the depth is the same in all steps; the steps before it are in the link, 0 where it is."""
    wide = link.whole_number("wide", 0) > 0

    def apply() -> None:
        link.set_number("wide", WIDE_STEPS if chosen(_SCHEDULE) == _WIDE_FIRST else 0)

    st.segmented_control(
        "Schedule", (_FIXED, _WIDE_FIRST), required=True, help=TOOLTIPS["wide steps"],
        key=show_chosen(_SCHEDULE, _WIDE_FIRST if wide else _FIXED), on_change=apply,
    )  # fmt: skip
    with _where("wide", shown=wide):
        st.number_input("First steps", 0, MOST_STEPS, 0, width=_NARROW, **link.in_link("wide"))


def _where(name: str, *, shown: bool) -> DeltaGenerator:
    """Where a field stands: in the row, or out of sight at the same place, so that the link keeps its value."""
    return st.container(width="content") if shown else page.hidden(name)
