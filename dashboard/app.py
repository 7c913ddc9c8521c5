"""The dashboard: its pages, and which run they show. Started by `semfreeze dashboard`."""

from importlib import import_module
from pathlib import Path

import streamlit as st

from semfreeze_dashboard.data import state
from semfreeze_dashboard.data.run_folder import first_run, server_catalog
from semfreeze_dashboard.server.auth import require_login
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped

FOLDER = Path(__file__).parent / "views"
# Streamlit draws these lower than the fields beside them, which would put the labels of one row at two heights. It
# draws code in captions too faintly to be read. And it narrows columns and cuts choices off before it puts them below
# each other.
STYLE = """<style>
[data-testid=stButtonGroup] button[role=radio] { min-height: 2.5rem }
[data-testid=stCaptionContainer] code { color: inherit }
[data-testid=stHorizontalBlock] { flex-wrap: wrap }
[data-testid=stColumn]:has([data-testid=stPlotlyChart], [data-testid=stButtonGroup]) { min-width: min(100%, 21rem) }
[data-testid=stColumn]:has([data-testid=stMetric]) { min-width: 10rem }
[data-testid=stButtonGroup] [role=radiogroup] { flex-wrap: wrap }
</style>"""
# Streamlit writes white on the primary color, which has to be light on a dark page to be read as text itself.
DARK_STYLE = """<style>
[data-testid=stBaseButton-primary] p, [data-testid=stMultiSelect] span[title] { color: #14181d }
</style>"""
VIEWS = {title: import_module(f"semfreeze_dashboard.views.{title.lower()}") for title in ("Start", *page_text.PAGES)}


def main() -> None:
    """Choose the run, then draw the page.

    The page is drawn here and not by Streamlit's page.run(): what a page of its own binds to the link, Streamlit takes
    out when the page changes, and the next page puts it back, which leaves two more stops in the browser's history, one
    of them without the depth. What this script binds goes along.
    """
    st.set_page_config(page_title="semfreeze", layout="wide", initial_sidebar_state="auto")
    page = st.navigation(
        [st.Page(FOLDER / f"{title.lower()}.py", title=title, default=title == "Start") for title in VIEWS]
    )
    st.html(STYLE + (DARK_STYLE if state.dark_theme() else ""))
    if not require_login():
        return
    state.keep_form()
    state.show_announced()
    names = server_catalog().names
    with st.sidebar:
        _, unknown = state.pick_run(names, first_run(names))
    if unknown is not None:
        st.warning(escaped(page_text.missing_run_message(unknown, names)))
    VIEWS[page.title].draw()


guarded(main)()
