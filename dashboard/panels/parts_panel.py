"""In the place of parts that a run lacks yet: that they are being computed, or the command that does it."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from semfreeze_core.records.job import Job
from semfreeze_core.records.manifest import PROJECTION, PartName
from semfreeze_core.runs.jobs import find_job, list_jobs
from semfreeze_core.wording.runs import PROJECTION_ON_ITS_WAY, computing_sentence, parts_to_come_sentence

from ..data.run_folder import OpenRun, server_catalog
from ..server.failures import guarded
from ..text.analysis_text import escaped
from ..text.visitor_text import visitor_text


def scores_to_come(opened: OpenRun) -> None:
    """One sentence about the scores that an analysis has not measured yet, drawn anew when one comes; else nothing."""
    scores = opened.run.manifest.scores_to_come
    if scores:
        _to_come(opened, scores, computing_sentence(scores))


def projection_to_come(opened: OpenRun, computing: str = PROJECTION_ON_ITS_WAY) -> None:
    """One sentence in the place of what an analysis has not projected yet, drawn anew when it is there; else nothing.

    Args:
        opened: the run.
        computing: says what is missing, while a job computes it.
    """
    if opened.run.display is None:
        _to_come(opened, (PROJECTION,), computing)


def _to_come(opened: OpenRun, parts: Sequence[PartName], computing: str) -> None:
    manifest, runs = opened.run.manifest, server_catalog().folder
    job = None if runs is None else analysis_job(runs, opened.folder)
    if runs is None or job is None:
        st.caption(escaped(visitor_text(parts_to_come_sentence(parts, manifest, opened.folder))))
        return
    st.caption(computing)

    def watch() -> None:
        if server_catalog().stamp(opened.name) != opened.stamp or find_job(runs, job.name).finished:
            st.rerun()

    st.fragment(guarded(watch), run_every=2)()


def analysis_job(runs: Path, folder: Path) -> Job | None:
    """The job that analyzes into the folder of a run and has not ended."""
    run_folder = folder.resolve()
    for job in list_jobs(runs):
        out = job.spec.out if job.spec.command[0] == "analyze" and not job.finished else None
        if out is not None and Path(out).resolve() == run_folder:
            return job
    return None
