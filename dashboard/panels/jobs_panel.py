"""Background jobs on a page: what waits, runs and ended, followed live."""

import time
from contextlib import suppress
from pathlib import Path

import streamlit as st

from semfreeze_core.errors import RunError
from semfreeze_core.records.job import Job
from semfreeze_core.runs.folder import lacks_parts
from semfreeze_core.runs.job_events import read_progress
from semfreeze_core.runs.job_folder import read_log
from semfreeze_core.runs.jobs import cancel, failure, find_job, job_folder, list_jobs, revive
from semfreeze_core.wording.escaping import terminal_text
from semfreeze_core.wording.runs import PLAN_READY, job_state

from ..data import news, run_choice
from ..data.run_folder import server_catalog
from ..data.visitor_requests import submit
from ..server.failures import guarded
from ..text import page_text
from ..text.analysis_text import escaped, job_line, jobs_label, stage_line
from ..text.tooltips import TOOLTIPS
from ..text.visitor_text import error_text, visitor_text

_RESUMABLE = ("validate", "sweep", "plan", "finetune")
_SHOWN = 3  # of those that ended, the newest
_LOG_LINES = 30
_WIDE = 380  # pixels
ON_PAGE, _ABOVE = "on the page", "above"


def jobs_popover() -> None:
    """A button that says how the jobs stand, and under it each that has not ended and the last few that have.

    It is drawn again each second while one runs, and the page once one has ended.
    """
    folder = server_catalog().folder
    if folder is None or not (jobs := list_jobs(folder)):
        return
    with suppress(RunError):  # a folder that may only be read has no queue to go on with
        revive(folder)
    waiting = {job.name for job in jobs if not job.finished}

    def draw() -> None:
        now = list_jobs(folder)
        unfinished = [job for job in now if not job.finished]
        if waiting - {job.name for job in unfinished}:  # one has ended: the page has a run more
            done = next(job for job in now if job.finished and job.name in waiting)
            news.announce(f"{done.spec.title}: {job_state(done.state)}. See Jobs.")
            st.rerun()
        running = next((job for job in unfinished if job.state == "running"), None)
        progress = read_progress(job_folder(folder, running.name)) if running is not None else None
        # As wide as there is room for: what stands out of the window, nobody can press.
        with st.popover(jobs_label(now, progress), key="jobs", help=TOOLTIPS["jobs"]), st.container(width=_WIDE):
            ended = [job for job in now if job.finished][-_SHOWN:]
            # The newest first, whatever has ended: one that moved as it ends would move from under the pointer.
            for job in sorted([*unfinished, *ended], key=lambda job: job.name, reverse=True):
                show_job(folder, job, _ABOVE)

    st.fragment(guarded(draw), run_every=1 if waiting else None)()


def follow_job(folder: Path, name: str) -> None:
    """One job, drawn again each second until it has ended; its buttons stay the same, so that no press is lost."""
    ended = find_job(folder, name).finished

    def draw() -> None:
        job = find_job(folder, name)
        if job.finished and not ended:
            st.rerun()
        show_job(folder, job, ON_PAGE)

    st.fragment(guarded(draw), run_every=None if ended else 1)()


def show_job(folder: Path, job: Job, section: str) -> None:
    """One job of a folder of runs: its state in words, and what can be done about it.

    Args:
        folder: of runs.
        job: one of its jobs.
        section: ON_PAGE, or in the list above it, as a job may be shown at both.
    """
    progress = read_progress(job_folder(folder, job.name))
    with st.container(border=True):
        st.markdown(job_line(job, time.time()))
        with st.container(horizontal=True):  # what opens it first: the others go as it ends
            _open_button(job, section)
            if not job.finished:
                st.button("Cancel", key=f"cancel-{job.name} {section}", on_click=_cancel, args=(folder, job.name))
            elif can_resume(folder, job) and st.button(
                "Resume", key=f"resume-{job.name} {section}", help=TOOLTIPS["resume"]
            ):
                submit(folder, job.spec.command, job.spec.title, None if job.spec.out is None else Path(job.spec.out))
                news.announce(f"{job.spec.title} resumes.")
                st.rerun(scope="app")
        if job.state == "running":
            st.progress(progress.fraction or 0.0 if progress else 0.0, text=stage_line(progress))
            if _plan_is_ready(job):
                st.markdown(f"**{PLAN_READY}.** {page_text.PARTS_FOLLOW}")
        elif job.state == "done" and section == ON_PAGE:  # as high as before: a page that shrinks scrolls by itself
            st.progress(1.0, text=page_text.ALL_DONE)
            if job.spec.command[0] == "analyze":
                st.markdown(f"**{PLAN_READY}.**")
        if job.state in ("failed", "dead"):
            st.caption(error_text(failure(folder, job)))
        if job.state in ("running", "failed", "dead") or section == ON_PAGE:
            with st.expander("Log"):
                log = visitor_text(terminal_text(read_log(job_folder(folder, job.name), _LOG_LINES)))
                st.code(log or "Nothing was printed yet.", language=None)


def can_resume(folder: Path, job: Job) -> bool:
    """Whether a job of finetunes, or of an analysis whose run lacks parts, stopped early, and no later one does it."""
    if job.state not in ("cancelled", "failed", "dead"):
        return False
    kind, out = job.spec.command[0], job.spec.out
    if kind not in _RESUMABLE and not (kind == "analyze" and out is not None and lacks_parts(Path(out))):
        return False
    same = [other.name for other in list_jobs(folder) if other.spec.command == job.spec.command]
    return job.name == max(same, default=job.name)


def _cancel(folder: Path, name: str) -> None:
    cancel(folder, name)


def _open_button(job: Job, section: str) -> None:
    """The button that opens what the job has made; nothing where it has made no run."""
    name = _run_of(job)
    if name is not None and st.button(
        f"Open {escaped(name)}", key=f"open-{job.name} {section}", on_click=run_choice.choose_run, args=(name,),
        type="primary" if section == ON_PAGE else "secondary",
    ):  # fmt: skip
        st.rerun()


def _plan_is_ready(job: Job) -> bool:
    """Whether an analysis has made its run and only adds parts that decide nothing."""
    command, out = job.spec.command[0], job.spec.out
    return job.state == "running" and command == "analyze" and out is not None and lacks_parts(Path(out))


def _run_of(job: Job) -> str | None:
    """Name of the run that a job has made; None when it has made none or it is gone."""
    name = job.spec.out.rsplit("/", 1)[-1] if job.spec.out and (job.state == "done" or _plan_is_ready(job)) else None
    return name if name in server_catalog().names else None
