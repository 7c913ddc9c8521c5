"""A run's sweeps on a page: measured over predicted at every depth, and what each rule's depth would have cost."""

import streamlit as st

from semfreeze_core.wording.numbers import CI
from semfreeze_core.wording.sweep import REGRET_CAPTION, regret_table
from semfreeze_core.wording.validation import finetune_conditions

from ..charts.sweeps import draw_sweep
from ..data import finetune_results, link
from ..text import page_text, validation_text
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from . import page


def sweep_panel(ctx: page.PageContext) -> None:
    """The chosen sweep; nothing when the run has none."""
    reports = finetune_results.sweeps(ctx.opened)
    if not reports:
        return
    names = list(reports)
    name = names[-1]
    if len(names) > 1:
        name = st.selectbox("Sweep", names, len(names) - 1, width=320, **link.in_link("sweep"))
    report, settings = reports[name], reports[name].settings
    st.markdown(f"### {escaped(validation_text.sweep_sentence(report))}")
    conditions = finetune_conditions(settings, report.n_items, page_text.data_name(settings.train), "")
    caption = f"{conditions} Intervals: {CI}, bootstrap over examples and seeds."
    rule_depths = {
        rule: opinion.freeze_depth for rule, opinion in report.rules.items() if opinion.freeze_depth is not None
    }
    page.chart(
        "sweep", "What every depth kept, over what was predicted", caption, draw_sweep(report, rule_depths), "sweep"
    )
    with st.expander("What each rule's depth would have cost"):
        st.caption(REGRET_CAPTION, help=TOOLTIPS["regret"])
        st.dataframe(regret_table(report).dicts(), hide_index=True, alt="Regret of every rule and score")
