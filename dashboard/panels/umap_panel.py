"""The UMAP of a run on a page: the kept one, or what it takes to get it, or how far its job is."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from semfreeze_core.errors import InputError, RunError
from semfreeze_core.records.defaults import LARGEST_SEED
from semfreeze_core.records.job import Job
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.runs.jobs import list_jobs
from semfreeze_core.semantics.umap_projection import (
    DEFAULT_NEIGHBORS,
    LEAST_NEIGHBORS,
    MOST_NEIGHBORS,
    require_umap,
)

from ..data import link, news, projected
from ..data.run_folder import OpenRun, server_catalog
from ..data.visitor_requests import submit
from ..text import page_text
from ..text.tooltips import TOOLTIPS
from ..text.visitor_text import error_text
from .jobs_panel import ON_PAGE, follow_job, show_job


@dataclass(frozen=True)
class UmapSettings:
    """Which UMAP of a run is looked at."""

    seed: int
    n_neighbors: int


def umap_settings() -> UmapSettings:
    """The widgets that choose a UMAP."""
    neighbors = st.number_input(
        "Neighbors",
        LEAST_NEIGHBORS,
        MOST_NEIGHBORS,
        DEFAULT_NEIGHBORS,
        width=150,
        help=TOOLTIPS["umap neighbors"],
        **link.in_link("neighbours"),
    )
    seed = st.number_input("Seed", 0, LARGEST_SEED, 0, width=150, help=TOOLTIPS["umap seed"], **link.in_link("seed"))
    return UmapSettings(int(seed), int(neighbors))


def keep_umap_settings() -> None:
    """Hold on to the settings in the link where they are not shown."""
    link.keep_number("neighbours", LEAST_NEIGHBORS, MOST_NEIGHBORS, DEFAULT_NEIGHBORS)
    link.keep_number("seed", 0, LARGEST_SEED, 0)


def umap_or_offer(opened: OpenRun, settings: UmapSettings) -> UmapProjection | None:
    """The run's UMAP when it is kept; else None, after drawing the offer to compute it, or its job.

    A damaged one is said to be, and offered anew. A demonstration computes nothing.
    """
    display, seed, n_neighbors = opened.run.require_display(), settings.seed, settings.n_neighbors
    try:
        require_umap(display, seed=seed, n_neighbors=n_neighbors)
        if (projection := projected.umap(opened, seed, n_neighbors)) is not None:
            return projection
    except RunError as error:
        st.warning(error_text(error))
    except InputError as error:  # too few points
        st.info(error_text(f"No UMAP of this run: {error}"))
        return None
    folder = server_catalog().folder
    if folder is None:
        st.info(page_text.UMAP_IN_DEMO)
        return None
    command = ("umap", str(opened.folder.absolute()), "--seed", str(seed), "--neighbors", str(n_neighbors))
    job = _newest(folder, command)
    if job is not None and not job.finished:
        follow_job(folder, job.name)
        return None
    st.markdown(page_text.umap_offer(display, n_neighbors))
    if job is not None and job.state in ("failed", "dead"):
        show_job(folder, job, ON_PAGE)
    if st.button("Compute UMAP", type="primary"):
        submit(folder, command, f"UMAP of {opened.name}, seed {seed}, {n_neighbors} neighbors")
        news.announce(f"Started: UMAP of {opened.name}.")
        st.rerun()
    return None


def _newest(folder: Path, command: tuple[str, ...]) -> Job | None:
    """The last job that does this, whatever became of it."""
    return next((job for job in reversed(list_jobs(folder)) if job.spec.command == command), None)
