"""The dashboard: its pages, and which run they show. Started by `semfreeze dashboard`."""

from collections.abc import Collection
from html import escape
from importlib import import_module
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import Page

from semfreeze_core.errors import RunError
from semfreeze_dashboard.charts.plan_picture import mark
from semfreeze_dashboard.components.gliding_bars import gliding_bars_script
from semfreeze_dashboard.data import compute, form_fields, link, news, run_choice
from semfreeze_dashboard.data.link_history import history_script
from semfreeze_dashboard.data.run_folder import OpenRun, first_run, server_catalog
from semfreeze_dashboard.forms.finetune_form import keep_objective
from semfreeze_dashboard.panels.page import HIDDEN, ONWARD, dark_theme, hidden, hidden_depth
from semfreeze_dashboard.panels.recent_runs import BOX
from semfreeze_dashboard.panels.steps import DONE, done_steps, note_decided
from semfreeze_dashboard.panels.top_bar import BAR, TopBar
from semfreeze_dashboard.server.auth import logged_in, require_login
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped
from semfreeze_dashboard.views import FORMER_PAGES, PAGES

FOLDER = Path(__file__).parent / "views"
QUESTION = "page-question"
# Streamlit draws these lower than the fields beside them, which would put the labels of one row at two heights. It
# draws code in captions too faintly to be read. It narrows columns and cuts choices off before it puts them below each
# other. It leaves space above every page for the button that shows the sidebar, also where that is shown. It leaves
# space on either side of a widget that is out of sight. It writes the chosen one of a row in a color that can hardly be
# read under the pointer. Widgets that only the link needs keep a width, without which Streamlit draws no slider. The
# button in a run's box takes clicks on all of the box. It writes lines as long as the window is wide.
STYLE = f"""<style>
h1.{QUESTION} {{ font-size: 1rem; font-weight: 400; line-height: 1.2; padding: 0; margin: 0; opacity: 0.75 }}
[data-testid=stMarkdown] h2 {{ font-size: 1.5rem; line-height: 1.2; font-weight: 600; padding-top: 0 }}
[data-testid=stMarkdown] h2 {{ max-width: 76rem; text-wrap: balance }}
[data-testid=stMarkdown] :is(p, li), [data-testid=stCaptionContainer] {{ max-width: 64rem }}
[data-testid=stMetricValue] {{ font-variant-numeric: tabular-nums }}
[data-testid=stMarkdown] h3 {{ font-size: 1.25rem; font-weight: 600 }}
[data-testid=stButtonGroup] button[role=radio] {{ min-height: 2.5rem }}
[data-testid=stButtonGroup] button[aria-checked=true] {{ color: inherit !important }}
[data-testid=stCaptionContainer] code {{ color: inherit }}
[data-testid=stHorizontalBlock] {{ flex-wrap: wrap }}
[data-testid=stColumn]:has([data-testid=stPlotlyChart], [data-testid=stButtonGroup]) {{ min-width: min(100%, 21rem) }}
[data-testid=stColumn]:has([data-testid=stMetric]) {{ min-width: 10rem }}
[data-testid=stColumn]:has([class*=st-key-{BOX}]) {{ min-width: min(100%, 15rem) }}
[data-testid=stButtonGroup] [role=radiogroup] {{ flex-wrap: wrap }}
@media (min-width: 768px) {{
  [data-testid=stApp]:has([data-testid=stSidebar][data-collapsed=false]) [data-testid=stMainBlockContainer] {{
    padding-top: 2rem }}
}}
[class*=st-key-{ONWARD}] a {{ color: inherit; padding: 0.4rem 0.75rem }}
[class*=st-key-{ONWARD}] a {{ border: 1px solid color-mix(in srgb, currentColor 35%, transparent) }}
[class*=st-key-{BAR}] [class*=st-key-{ONWARD}] {{ margin-bottom: 7px }}
[class*=st-key-{BAR}] [class*=st-key-{ONWARD}] a {{ margin: 0; padding: 0.25rem 0.75rem; min-height: 2.5rem }}
[class*=st-key-{ONWARD}-first] a {{ border-color: currentColor; box-shadow: 0 0 0 1px currentColor }}
[class*=st-key-{BOX}] {{ position: relative }}
[class*=st-key-{BOX}] button {{ justify-content: start; text-align: start; min-height: 0; padding-block: 0 }}
[class*=st-key-{BOX}] :is(:has(button), button) {{ position: static }}
[class*=st-key-{BOX}] button::after {{ content: ""; position: absolute; inset: 0; z-index: 1 }}
[class*=st-key-{BOX}]:hover:has(button) {{ border-color: currentColor }}
[data-testid=stLayoutWrapper]:has(> [class*=st-key-{HIDDEN}-]) {{ position: absolute; width: 0; overflow: hidden }}
[class*=st-key-{HIDDEN}-] {{ visibility: hidden; position: absolute; width: 20rem; height: 0; overflow: hidden }}
</style>"""
# Streamlit writes white on the primary color, which has to be light on a dark page to be read as text itself.
DARK_STYLE = """<style>
[data-testid=stBaseButton-primary] p, [data-testid=stMultiSelect] span[title] { color: #14181d }
</style>"""
VIEWS = {title: import_module(f"semfreeze_dashboard.views.{title.lower()}") for title in PAGES}


def main() -> None:
    """Choose the run, then draw the page.

    The page is drawn here and not by Streamlit's page.run(): what a page of its own binds to the link, Streamlit takes
    out when the page changes, and the next page puts it back, which leaves two more stops in the browser's history, one
    of them without the depth. What this script binds goes along.
    """
    done = done_steps() if logged_in() else set()
    page = st.navigation([*(_page(title, done) for title in PAGES), *map(_former_page, FORMER_PAGES)])
    title = page.title.removesuffix(DONE)
    question = PAGES[title][:1].upper() + PAGES[title][1:]
    tab = f"{question} semfreeze"
    st.set_page_config(page_title=tab, page_icon=mark(), layout="wide", initial_sidebar_state="auto")
    st.html(STYLE + (DARK_STYLE if dark_theme() else ""))
    unseen = hidden("pages")
    with unseen:
        st.html(history_script() + gliding_bars_script(), unsafe_allow_javascript=True)
    if not require_login():
        return
    form_fields.keep_form()
    news.show_announced()
    names = server_catalog().names
    link.remember_link()
    bar = TopBar()
    bar.pick_run(names, first_run(names))
    if title == "Decide":
        note_decided(run_choice.open_run_name())
    st.html(f'<h1 class="{QUESTION}">{escape(question)}</h1>')
    notice = st.empty()
    try:
        bar.actions(draw_link_widgets(title, unseen, bar))
        VIEWS[title].draw()
    finally:  # a page that has nothing to show stops the script
        if refused := link.refused_values(title):
            notice.warning(escaped(page_text.refused_link_message(refused)))


def _page(title: str, done: Collection[str]) -> Page:
    """A page of the sidebar; those of the path to a plan have a tick once they are done."""
    shown = title + DONE * (title in done)
    return st.Page(FOLDER / f"{title.lower()}.py", title=shown, default=title == "Home")


def _former_page(name: str) -> Page:
    """The address of a page from before. No file: a link to the page's file would lead to this address."""

    def draw_nothing() -> None:
        """What is drawn follows from the title."""

    return st.Page(draw_nothing, title=FORMER_PAGES[name], url_path=name, visibility="hidden")


def draw_link_widgets(title: str, unseen: DeltaGenerator, bar: TopBar) -> OpenRun | None:
    """The training setup above the page, and out of sight what other pages keep in the link; returns the open run.

    A widget that two pages in a row hide has to stand at the same place on both: drawn elsewhere, Streamlit's browser
    side puts the new one in before it takes the old one out, and takes the value out of the link with it.
    """
    try:
        opened = compute.read(server_catalog(), run_choice.open_run_name())
    except RunError:
        return None  # the page says so
    setup_model = getattr(VIEWS[title], "setup_model", None)
    bar.training_setup(*(setup_model(opened) if setup_model else (opened.run.shape, opened.run)))
    with unseen:
        if not getattr(VIEWS[title], "SHOWS_DEPTH", False):
            hidden_depth(opened)
        shows_objective = getattr(VIEWS[title], "shows_objective", None)
        if shows_objective is None or not shows_objective():
            keep_objective()
        for name, view in VIEWS.items():
            if name != title and hasattr(view, "link_choices"):
                view.link_choices(opened)
    return opened


guarded(main)()
