"""Start: which runs there are and what the open one says, or a new one."""

from pathlib import Path

import streamlit as st

from semfreeze_core.errors import InputError
from semfreeze_core.runs.jobs import submit
from semfreeze_core.wording.runs import memory_sentence
from semfreeze_dashboard.data import compute, state
from semfreeze_dashboard.data.analysis_request import Wish, place_for, proposed_name
from semfreeze_dashboard.data.run_folder import shelf_of_this_server
from semfreeze_dashboard.forms.analysis_form import wish_asked
from semfreeze_dashboard.panels import jobs_panel, page, tables
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import (
    INTRODUCTION,
    as_command,
    escaped,
    in_the_form,
    preview_sentence,
    rendered_example,
)

ROWS = "runs"
ANALYZE = "Analyze a model"


def open_clicked() -> None:
    """Open the run whose row was clicked, if it can be read."""
    entries = shelf_of_this_server().entries()
    for row in state.clicked(ROWS, "rows"):
        if row < len(entries) and entries[row].manifest is not None:
            state.choose_run(entries[row].name)


def open_runs() -> None:
    """The open run's conclusion, then all runs."""
    seen = page.reading()
    comparison = compute.comparison(seen.opened, seen.metric, None, None)
    opinion = comparison.rules["coverage"]
    page.head(seen, opinion.freeze_depth, page_text.start_sentence(seen.opened.name, comparison))
    for name, title, why in (
        ("traces", "Traces", "see the hidden states move towards the ground truth, layer by layer"),
        ("gains", "Gains", "see what each layer adds, with its controls, and what other papers' scores say"),
        ("plan", "Plan", "choose a freeze depth by what it saves and keeps, and take the plan with you"),
        ("validate", "Validate", "see what short real finetunes made of the plan, or start one"),
        ("compare", "Compare", "hold it against other runs, and keep the runs in order"),
        ("present", "Present", "tell its story to a meeting: large type, and arrow keys to turn the pages"),
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
    st.caption(page_text.shelf_words(shelf_of_this_server().folder, len(entries)))


def analyze(runs: Path) -> None:
    """The form, what it would read, the memory that takes, and the button."""
    st.markdown("#### Read a model on your data, layer by layer")
    st.caption(INTRODUCTION)
    wish = wish_asked(runs)
    if wish is None:
        st.info("Say which model and which data: then examples are shown as the model would get them.")
        return
    with st.spinner(page_text.LOOKING, show_time=True):
        data = compute.data_preview(wish, compute.stamp_of(wish.data))
        memory = compute.memory_forecast(wish)
    st.markdown(preview_sentence(data), help=page_text.HELP["supervised"])
    for note in data.notes:
        st.caption(escaped(in_the_form(note)))
    for tab, example in zip(st.tabs([f"Row {e.row}" for e in data.examples]), data.examples, strict=True):
        with tab:
            st.markdown(rendered_example(example))
    if memory.fits:
        st.caption(memory_sentence(memory))
    else:
        st.error(memory_sentence(memory))
    run_button(runs, wish, fits=memory.fits)


def run_button(runs: Path, wish: Wish, *, fits: bool) -> None:
    """The run's name, and the button that starts the job or joins the one that does the same."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        proposed = proposed_name(runs, wish)
        name = st.text_input("Name of the run", key=state.in_form(f"name-{proposed}", proposed), width=320)
        pressed = st.button("Analyze", type="primary", disabled=not fits)
    place = place_for(runs, name or proposed)
    st.caption("The same on the command line:")
    st.code(as_command((*wish.command(), f"--out={place}")), language="bash", wrap_lines=True)
    if pressed:
        if place.exists():
            raise InputError(f"A run named {place.name} is there already. Give this one another name.")
        job = submit(runs, wish.command(), wish.title(), place)
        joined = job.spec.out != str(place)
        st.toast(f"Somebody has started the same: it becomes {job.spec.out}." if joined else "Started.")
        state.forget_form(f"name-{proposed}")
        st.rerun()


def body() -> None:
    """Open or analyze, then the jobs."""
    folder = shelf_of_this_server().folder
    if folder is None:
        open_runs()
        return
    choice = st.segmented_control(
        "Do", (state.OPEN, ANALYZE), default=state.OPEN, required=True, label_visibility="collapsed",
        **state.in_link("do"),
    )  # fmt: skip
    jobs_panel.jobs_panel()
    if choice == ANALYZE:
        analyze(folder)
    else:
        open_runs()


draw = guarded(body)
