"""Data: what the open run was analyzed on, or the form of a new analysis with its examples as the model gets them."""

from contextlib import suppress
from pathlib import Path

import streamlit as st

from semfreeze_core.errors import InputError, RunError
from semfreeze_core.records.defaults import HELD_OUT_DATA
from semfreeze_core.records.preview import DataPreview, MemoryForecast
from semfreeze_core.runs.jobs import list_jobs
from semfreeze_core.wording.runs import memory_sentence
from semfreeze_dashboard.data import compute, finetune_results, form_fields, link, news, run_choice, task_data
from semfreeze_dashboard.data.analysis_request import AnalysisForm, proposed_name, run_path
from semfreeze_dashboard.data.run_folder import OpenRun, server_catalog
from semfreeze_dashboard.data.visitor_requests import submit
from semfreeze_dashboard.forms.analysis_form import analysis_form
from semfreeze_dashboard.panels import examples_panel, jobs_panel, page
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import data_text, page_text
from semfreeze_dashboard.text.analysis_text import INTRODUCTION, preview_sentence, rendered_example
from semfreeze_dashboard.text.tooltips import TOOLTIPS
from semfreeze_dashboard.text.visitor_text import command_text, error_text


def body() -> None:
    """The open run's data, or a new analysis."""
    page.keep_metric()
    folder = server_catalog().folder
    choice = run_choice.OPEN_RUN
    if folder is not None:
        choice = st.segmented_control(
            "Show", (run_choice.OPEN_RUN, run_choice.NEW_ANALYSIS), default=run_choice.OPEN_RUN, required=True,
            label_visibility="collapsed", **link.in_link("do"),
        )  # fmt: skip
    if folder is not None and choice == run_choice.NEW_ANALYSIS:
        analyze(folder)
    else:
        open_run_data()


def open_run_data() -> None:
    """What the open run learned from: one sentence, its figures, and its examples."""
    try:
        opened = compute.read(server_catalog(), run_choice.open_run_name())
    except RunError as error:
        st.error(error_text(f"{error} Choose another run above."))
        return
    data = opened.run.manifest.data
    page.conclusion(data_text.data_sentence(data, page_text.data_name(data.source)))
    example = st.container()
    evaluation = eval_examples(opened)
    shared_prompts = None if evaluation is None else task_data.shared_prompts(opened, evaluation)
    shared = data_text.shared_figure(shared_prompts, evaluation)
    for column, (title, value, beside, term) in zip(
        st.columns(5), [*data_text.data_figures(data, opened.run.examples), shared], strict=True
    ):
        column.metric(title, value, beside, "off", help=TOOLTIPS[term], delta_arrow="off")
    named = data_text.eval_note(None if evaluation is None else page_text.data_name(evaluation))
    st.caption(" ".join([*data_text.data_notes(opened.run.manifest), *named]))
    chosen = examples_panel.choose_example(opened)
    with example:
        examples_panel.show_example(opened, chosen)
    with st.container(horizontal=True, vertical_alignment="center"):
        page.next_step("See where your task happens", "analyze")
        page.other_step("See the plan", "decide")


def eval_examples(opened: OpenRun) -> str | None:
    """The eval examples of the newest validation; None without one, or where its rows were held out."""
    with suppress(RunError):  # a damaged report, which the page Prove says
        for report in reversed(finetune_results.validations(opened).values()):
            evaluation: str = report.settings.eval
            if evaluation != HELD_OUT_DATA:
                return evaluation
    return None


def analyze(runs: Path) -> None:
    """The form, the button, the memory that the analysis takes, and what it would read."""
    page.conclusion("Analyze a model on your data, layer by layer")
    st.caption(INTRODUCTION)
    form, start = analysis_form(runs)
    shown = st.empty()
    if form is None:
        with start:
            follow_analyses(runs)
        shown.info(page_text.CHOOSE_FIRST)
        return
    with shown, st.spinner(page_text.LOOKING, show_time=True):  # in the place of the preview of other data
        data = task_data.data_preview(form, task_data.stamp_of(form.data))
        memory = task_data.memory_forecast(form, data)
    with start:
        run_button(runs, form, memory)
    with shown.container():
        preview(data, form)


def preview(data: DataPreview, form: AnalysisForm) -> None:
    """What would be read: how many rows, what is said of them, and a few as the model gets them."""
    st.markdown(preview_sentence(data, form.data_name, form.examples), help=TOOLTIPS["supervised"])
    for note in data.notes:
        st.caption(error_text(note))
    if data.n_skipped:
        st.download_button("Download skipped rows", data.skipped_lines(), "skipped-rows.jsonl", on_click="ignore")
    for tab, example in zip(st.tabs([f"Row {e.row}" for e in data.examples]), data.examples, strict=True):
        with tab:
            st.markdown(rendered_example(example))


def follow_analyses(runs: Path) -> None:
    """The analyses that have not ended and those that were followed here."""
    for job in list_jobs(runs):
        if not job.finished and job.spec.command[0] == "analyze":
            news.follow_job(job.name)
        if job.name in news.followed_jobs():
            jobs_panel.follow_job(runs, job.name)


def run_button(runs: Path, form: AnalysisForm, memory: MemoryForecast) -> None:
    """The run's name, the button that starts the job or joins the one that does the same, and how that job stands."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        proposed = proposed_name(runs, form)
        name = st.text_input("Name of the run", key=form_fields.in_form(f"name-{proposed}", proposed), width=320)
        pressed = st.button("Analyze", type="primary", disabled=not memory.fits)
    path = run_path(runs, name or proposed)
    follow_analyses(runs)  # in sight of the button
    if memory.fits:
        st.caption(memory_sentence(memory))
    else:
        st.error(memory_sentence(memory))
    with st.expander("The same on the command line"):
        st.code(command_text((*form.command(), f"--out={path}")), language="bash", wrap_lines=True)
    if pressed:
        if path.exists():
            raise InputError(f"A run named {path.name} already exists. Choose another name.")
        job = submit(runs, form.command(), form.title(), path)
        news.follow_job(job.name)
        joined = job.spec.out != str(path)
        running = f"The same analysis already runs; its result will be {Path(str(job.spec.out)).name}."
        news.announce(running if joined else f"Started: {form.title()}. Its progress is below the button.")
        form_fields.reset_field(f"name-{proposed}")
        st.rerun()


draw = guarded(body)
