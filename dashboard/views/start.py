"""Start: which runs there are and what the open one says, or a new one."""

from pathlib import Path

import streamlit as st

from semfreeze_core.errors import InputError
from semfreeze_core.wording.runs import memory_sentence
from semfreeze_dashboard.charts.moving_stack import moving_stack_html
from semfreeze_dashboard.data import compute, state
from semfreeze_dashboard.data.analysis_request import AnalysisForm, proposed_name, run_path
from semfreeze_dashboard.data.run_folder import server_catalog
from semfreeze_dashboard.data.visitor_requests import submit
from semfreeze_dashboard.forms.analysis_form import analysis_form
from semfreeze_dashboard.panels import jobs_panel, page, tables
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import (
    INTRODUCTION,
    preview_sentence,
    rendered_example,
)
from semfreeze_dashboard.text.tooltips import TOOLTIPS
from semfreeze_dashboard.text.visitor_text import command_text, error_text

ROWS = "runs"


def open_clicked() -> None:
    """Open the run whose row was clicked, if it can be read."""
    entries = server_catalog().entries()
    for row in state.clicked(ROWS, "rows"):
        if row < len(entries) and entries[row].manifest is not None:
            state.choose_run(entries[row].name)


def open_runs() -> None:
    """The open run's conclusion and what to do next, then all runs."""
    ctx = page.page_context(chooses_metric=False)
    comparison = compute.comparison(ctx.opened, ctx.metric, None, None)
    depth = comparison.rules["coverage"].freeze_depth
    page.header(ctx, depth, page_text.start_sentence(ctx.opened.name, comparison), drawing=moving_stack(ctx, depth))
    next_steps()
    st.markdown("**Finished runs**")
    entries = server_catalog().entries()
    st.dataframe(
        tables.run_rows(entries),
        key=ROWS,
        on_select=open_clicked,
        selection_mode="single-row",
        alt="All runs that can be opened",
    )
    st.caption(page_text.catalog_caption(server_catalog().folder, len(entries)))


def moving_stack(ctx: page.PageContext, depth: int | None) -> str | None:
    """The stack as it freezes to the depth, with what that saves; None where no depth is recommended."""
    costs = page.depth_costs(ctx)
    if depth is None or costs is None:
        return None
    table, speed = costs
    meters = page_text.start_meters(table, depth, speed.rates)
    described = page_text.moving_stack_sentence(ctx.n_layers, depth, meters)
    html: str = moving_stack_html(ctx.n_layers, depth, meters, page_text.meters_note(speed), described)
    return html


def next_steps() -> None:
    """Where to go from here: one link before others, and the other ways to begin."""
    with st.container(horizontal=True, vertical_alignment="center"):
        page.next_step("See why, layer by layer", "traces")
        page.other_step("Choose how deep, on my GPU", "plan")
        if server_catalog().folder is not None:
            st.button("Analyze my model and data", on_click=state.set_start_choice, args=(state.ANALYZE,))
        page.other_step("Just estimate a model", "estimate")


def analyze(runs: Path) -> None:
    """The form, what it would read, the memory that takes, and the button."""
    st.markdown("#### Analyze a model on your data, layer by layer")
    st.caption(INTRODUCTION)
    form = analysis_form(runs)
    if form is None:
        st.info("Choose a model and data to preview the examples as the model gets them.")
        return
    with st.spinner(page_text.LOOKING, show_time=True):
        data = compute.data_preview(form, compute.stamp_of(form.data))
        memory = compute.memory_forecast(form)
    st.markdown(preview_sentence(data), help=TOOLTIPS["supervised"])
    for note in data.notes:
        st.caption(error_text(note))
    if data.n_skipped:
        st.download_button("Download skipped rows", data.skipped_lines(), "skipped-rows.jsonl", on_click="ignore")
    for tab, example in zip(st.tabs([f"Row {e.row}" for e in data.examples]), data.examples, strict=True):
        with tab:
            st.markdown(rendered_example(example))
    if memory.fits:
        st.caption(memory_sentence(memory))
    else:
        st.error(memory_sentence(memory))
    run_button(runs, form, fits=memory.fits)


def run_button(runs: Path, form: AnalysisForm, *, fits: bool) -> None:
    """The run's name, and the button that starts the job or joins the one that does the same."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        proposed = proposed_name(runs, form)
        name = st.text_input("Name of the run", key=state.in_form(f"name-{proposed}", proposed), width=320)
        pressed = st.button("Analyze", type="primary", disabled=not fits)
    path = run_path(runs, name or proposed)
    st.caption("The same on the command line:")
    st.code(command_text((*form.command(), f"--out={path}")), language="bash", wrap_lines=True)
    if pressed:
        if path.exists():
            raise InputError(f"A run named {path.name} already exists. Choose another name.")
        job = submit(runs, form.command(), form.title(), path)
        joined = job.spec.out != str(path)
        running = f"The same analysis already runs; its result will be {Path(str(job.spec.out)).name}."
        state.announce(running if joined else f"Started: {form.title()}. Follow it under Jobs.")
        state.reset_field(f"name-{proposed}")
        st.rerun()


def body() -> None:
    """Open or analyze, then the jobs."""
    folder = server_catalog().folder
    if folder is None:
        open_runs()
        return
    choice = st.segmented_control(
        "Do", (state.OPEN, state.ANALYZE), default=state.OPEN, required=True, label_visibility="collapsed",
        **state.in_link("do"),
    )  # fmt: skip
    jobs, below = page.sections(2)
    with jobs:
        jobs_panel.jobs_panel()
    with below:
        if choice == state.ANALYZE:
            page.keep_metric()
            analyze(folder)
        else:
            open_runs()


draw = guarded(body)
