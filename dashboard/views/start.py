"""Start: which runs there are, and what the open one says."""

import streamlit as st

from semfreeze_dashboard import compute, page, state, tables, wording
from semfreeze_dashboard.failures import guarded
from semfreeze_dashboard.shelf import shelf_of_this_server

ROWS = "runs"


def open_clicked() -> None:
    """Open the run whose row was clicked, if it can be read."""
    entries = shelf_of_this_server().entries()
    for row in state.clicked(ROWS, "rows"):
        if row < len(entries) and entries[row].manifest is not None:
            state.choose_run(entries[row].name)


def body() -> None:
    """The open run's conclusion, then all runs."""
    seen = page.reading()
    comparison = compute.comparison(seen.opened, seen.metric, None, None)
    opinion = comparison.rules["coverage"]
    page.head(seen, opinion.freeze_depth, wording.start_sentence(seen.opened.name, comparison))
    for name, title, why in (
        ("traces", "Traces", "see the hidden states move towards the ground truth, layer by layer"),
        ("gains", "Gains", "see what each layer adds, with its controls, and what other papers' scores say"),
        ("plan", "Plan", "choose a freeze depth by what it saves and keeps, and take the plan with you"),
    ):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(f"views/{name}.py", label=f"**{title}**", width=90)
            st.markdown(why)

    st.markdown("**Finished runs**")
    entries = shelf_of_this_server().entries()
    st.dataframe(
        tables.run_rows(entries),
        key=ROWS,
        on_select=open_clicked,
        selection_mode="single-row",
        alt="All runs that can be opened",
    )
    st.caption(wording.shelf_words(shelf_of_this_server().folder, len(entries)))


guarded(body)()
