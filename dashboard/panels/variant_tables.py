"""A validation's variants in tables: quality, learning rates, cost, and answers before and after."""

import streamlit as st

from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.wording.validation import (
    arm_cost_caption,
    arm_cost_table,
    quality_caption,
    quality_table,
    rate_lines,
)

from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from . import tables


def variant_tables(report: ValidationReport) -> None:
    """Quality, learning rates, cost and answers of every variant in tables."""
    st.markdown("**Quality of every variant**", help=TOOLTIPS["kept"])
    st.dataframe(quality_table(report).dicts(), hide_index=True, alt="Loss and loss reduction of every variant")
    st.caption(quality_caption(report))
    chosen, *tried = rate_lines(report)
    st.caption(chosen)
    if tried:
        st.markdown("Learning rates tried:\n" + "\n".join(f"- {escaped(line)}" for line in tried))
    st.markdown("**Estimated and measured cost**", help=TOOLTIPS["measured"])
    st.dataframe(arm_cost_table(report).dicts(), hide_index=True, alt="Estimated and measured cost of every variant")
    st.caption(arm_cost_caption(report))
    if rows := tables.answer_rows(report):
        st.markdown("**Answers before and after, changed ones first**", help=TOOLTIPS["answers"])
        st.dataframe(rows, hide_index=True, height=320, alt="Answers to eval examples before and after finetuning")
