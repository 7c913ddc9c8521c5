"""The dashboard: its pages, and which run they show. Started by `semfreeze dashboard`."""

from pathlib import Path

import streamlit as st

from semfreeze_dashboard import state, wording
from semfreeze_dashboard.failures import guarded
from semfreeze_dashboard.shelf import first_run, shelf_of_this_server

VIEWS = Path(__file__).parent / "views"


def main() -> None:
    """Choose the run, then draw the page."""
    st.set_page_config(page_title="semfreeze", layout="wide", initial_sidebar_state="auto")
    page = st.navigation(
        [
            st.Page(VIEWS / "start.py", title="Start", default=True),
            st.Page(VIEWS / "traces.py", title="Traces"),
            st.Page(VIEWS / "gains.py", title="Gains"),
            st.Page(VIEWS / "plan.py", title="Plan"),
            st.Page(VIEWS / "validate.py", title="Validate"),
        ]
    )
    state.keep_form()
    names = shelf_of_this_server().names
    with st.sidebar:
        _, unknown = state.pick_run(names, first_run(names))
    if unknown is not None:
        st.warning(wording.missing_words(unknown, names))
    state.arrive(page.url_path)
    page.run()


guarded(main)()
