"""Guided finetunes on a page: a new one before it starts, one that runs, and what a finished one chose and gave."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from semfreeze_core.errors import InputError
from semfreeze_core.records.finetune_report import FinetuneReport
from semfreeze_core.records.job import Job
from semfreeze_core.runs.finetunes import GuidedFinetune
from semfreeze_core.runs.folder import FINETUNES
from semfreeze_core.runs.job_events import read_messages
from semfreeze_core.runs.jobs import job_folder, list_jobs
from semfreeze_core.wording.race import (
    MESSAGE_STAGES,
    PRIVATE_FOLDER,
    finetune_lines,
    leader_sentence,
    race_table,
    racing_table,
)

from ..charts.racing import draw_racing
from ..data import estimates, finetune_results, link, news, setup_fields
from ..data.finetune_request import form_of
from ..data.run_folder import EXAMPLE, paths_allowed, server_catalog
from ..data.visitor_requests import submit
from ..forms.finetune_form import NamedFinetune, finetune_form
from ..server.failures import guarded
from ..text import finetune_text
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from ..text.visitor_text import command_text, error_text, visitor_text
from . import page


def finetunes_panel(ctx: page.PageContext) -> None:
    """The run's guided finetunes: the chosen one's result, or how far it is."""
    finetunes = finetune_results.finetunes(ctx.opened)
    jobs = _jobs_of(ctx)
    names = [*finetunes, *(name for name, job in jobs.items() if name not in finetunes and not job.finished)]
    if not names:
        return
    st.markdown("**Finetuned models**", help=TOOLTIPS["finetunes"])
    news.show_started("finetune", names)
    name = str(st.selectbox("Finetune", names, len(names) - 1, width=320, **link.in_link("finetune")))
    finetune, job = finetunes.get(name), jobs.get(name)
    if finetune is not None and finetune.report is not None:
        finetune_result(finetune.report, finetune.folder, job)
    elif job is not None and not job.finished:
        follow(ctx, name, job)
    else:
        _so_far(finetune, job)
        st.info(finetune_text.STOPPED)


def finetune_result(report: FinetuneReport, folder: Path, job: Job | None) -> None:
    """What a finished finetune chose, why, what it cost and would have cost, where its model is, and how to repeat it.

    Args:
        report: of the finetune.
        folder: of the model.
        job: that made it, where it is still known.
    """
    st.markdown(_bullets(finetune_lines(report)))
    if report.race is not None:
        st.dataframe(race_table(report.race).dicts(), hide_index=True, alt="The variants of the race")
    if paths_allowed():
        st.markdown(escaped(finetune_text.MODEL_HERE.format(folder=folder)))
        st.caption(PRIVATE_FOLDER)
    else:
        st.markdown(escaped(finetune_text.MODEL_ON_SERVER.format(name=folder.name)))
    if notes := report.training.get("notes"):
        with st.expander("Notes"):
            st.markdown(_bullets(notes))
    if job is not None:
        _as_code(job.spec.command, folder)


def follow(ctx: page.PageContext, name: str, job: Job) -> None:
    """A finetune that runs, drawn again every other second, until its report is there."""

    def look() -> None:
        now = finetune_results.finetunes(ctx.opened).get(name)
        if now is not None and now.report is not None:
            st.rerun(scope="app")
        _so_far(now, job)

    st.fragment(guarded(look), run_every=2)()


def start_finetune(ctx: page.PageContext, runs: Path, *, shown: bool) -> None:
    """The form of a new guided finetune, what it does and takes, and the button."""
    if shown:
        st.caption(finetune_text.INTRODUCTION)
    asked = finetune_form(ctx.opened, runs, shown=shown)
    if not shown:
        return
    if asked is None:
        st.info("Choose training data.")
        return
    if setup_fields.training_setup()[0].lora:
        st.info(finetune_text.WHOLE_LAYERS)
    try:
        lines, assumed = estimates.finetune_lines(ctx.opened, asked.form)
    except InputError as error:  # it cannot be made like this
        st.error(error_text(error))
        return
    st.markdown(_bullets(lines))
    examples = " and ".join(f"{n:,} {what}" for what, n in assumed.items())
    st.caption(finetune_text.UNFETCHED_FORECAST.format(examples=examples) if assumed else finetune_text.FORECAST)
    _as_code(asked.form.command(), asked.folder)
    example = ctx.opened.name == EXAMPLE
    if st.button("Finetune", type="primary", disabled=example):
        _start(ctx, runs, asked)
    if example:
        st.caption(finetune_text.EXAMPLE_RUN)


def _start(ctx: page.PageContext, runs: Path, asked: NamedFinetune) -> None:
    asked.require_free()
    title = f"finetune of {ctx.opened.name}"
    job = submit(runs, asked.form.command(), title, asked.folder)
    out = Path(job.spec.out or asked.folder)
    started = f"Started: {title}. Follow it under Jobs."
    news.announce(started if out == asked.folder.absolute() else finetune_text.JOINED.format(name=out.name))
    news.await_started(out.name)
    link.forget_text("output")
    st.rerun(scope="app")


def _so_far(finetune: GuidedFinetune | None, job: Job | None) -> None:
    """What the job has reported, and what the race knows."""
    runs = server_catalog().folder
    lines = [] if job is None or runs is None else read_messages(job_folder(runs, job.name), MESSAGE_STAGES)
    if lines:
        st.markdown(_bullets(lines))
    else:
        st.caption(finetune_text.STARTING)
    if finetune is None:
        return
    if finetune.race is not None:
        st.dataframe(race_table(finetune.race).dicts(), hide_index=True, alt="The variants of the race")
    elif finetune.racing:
        st.markdown(f"**{leader_sentence(finetune.racing)}**", help=TOOLTIPS["racing"])
        figure = draw_racing(finetune.racing)
        if figure is not None:
            page.chart("racing", finetune_text.RACING_TITLE, finetune_text.RACING_CAPTION, figure, "racing")
        st.dataframe(racing_table(finetune.racing).dicts(), hide_index=True, alt="The race so far")


def _jobs_of(ctx: page.PageContext) -> dict[str, Job]:
    """The newest job of each of the run's finetunes, by its folder's name."""
    runs, folder = server_catalog().folder, (ctx.opened.folder / FINETUNES).absolute()
    jobs = [] if runs is None else list_jobs(runs)
    return {out.name: job for job in jobs if job.spec.out and (out := Path(job.spec.out)).parent == folder}


def _as_code(command: Sequence[str], folder: Path) -> None:
    """The command and the Python that do it, to be copied."""
    st.caption(finetune_text.SAME_ELSEWHERE)
    st.code(command_text((*command, f"--out={folder}")), language="bash", wrap_lines=True)
    if (form := form_of(command)) is not None:
        with st.expander("Python"):
            st.code(visitor_text(form.python(folder)), language="python", wrap_lines=True)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {error_text(line)}" for line in lines)
