"""What pages compute of runs and the depth of a plan, kept between reruns: thin calls into semfreeze_core."""

from pathlib import Path

import numpy as np
import streamlit as st

from semfreeze_core.errors import RunError
from semfreeze_core.gains import bands, score_coverage
from semfreeze_core.plan import curve_of
from semfreeze_core.plan.compare import SideBySide
from semfreeze_core.plan.compare import side_by_side as compare_runs
from semfreeze_core.plan.depth_spread import DepthSpread
from semfreeze_core.plan.depth_spread import depth_spread as depth_spread_of
from semfreeze_core.plan.make import recommended_depth
from semfreeze_core.plan.opinions import Comparison, gather_opinions
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.plan.slices import Slice, slice_of_examples
from semfreeze_core.plan.slices import slices as slices_of
from semfreeze_core.records.gain import Band, GainCurve
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.runs.folder import read_traces

from .cache_keys import BY_KEY
from .run_folder import OpenRun, RunCatalog, open_run


@st.cache_resource(max_entries=4, show_spinner=False)
def _read(catalog: RunCatalog, name: str, stamp: int) -> OpenRun:
    return open_run(catalog, name, stamp)


def read(catalog: RunCatalog, name: str) -> OpenRun:
    """A run, read again only when it was written again.

    Raises:
        RunError: missing, damaged, newer than this version, or gone since.
    """
    return _read(catalog, name, catalog.stamp(name))


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=BY_KEY)
def curve(opened: OpenRun, metric: str) -> GainCurve:
    """The gain curve everything is decided from."""
    return curve_of(opened.run, metric)


@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs=BY_KEY)
def scores(opened: OpenRun) -> dict[str, Band]:
    """R(k) of every other layer score."""
    return {name: score_coverage(score) for name, score in opened.run.scores.items()}


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=BY_KEY)
def task_null(opened: OpenRun, metric: str) -> tuple[Band, Band] | None:
    """Deviations with own and with swapped completions."""
    return bands.task_null(opened.run, metric)


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=BY_KEY)
def first_and_later(opened: OpenRun, metric: str) -> tuple[Band, Band]:
    """Advantage at first and at later tokens."""
    return bands.first_and_later(opened.run, metric)


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=BY_KEY)
def slices(opened: OpenRun, metric: str, by: str) -> tuple[list[Slice], int]:
    """The run's groups of examples, and how many are too small to read."""
    return slices_of(opened.run, metric, by)


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=BY_KEY)
def chosen_examples(opened: OpenRun, metric: str, rows: tuple[int, ...]) -> Slice | None:
    """Examples of the run as a group of their own; None where they are too few."""
    return slice_of_examples(opened.run, metric, np.array(rows, dtype=np.int64))


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=BY_KEY)
def depth_spread(opened: OpenRun, metric: str) -> DepthSpread | None:
    """The depth that the paper's rule picks for each example."""
    return depth_spread_of(opened.run, metric)


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs=BY_KEY)
def selection_bands(opened: OpenRun, metric: str, chosen: tuple[int, ...]) -> tuple[Band, Band | None]:
    """Deviation of the chosen positions and of the rest."""
    return bands.selection_bands(opened.run.require_display(), metric, np.array(chosen, dtype=np.int64))


@st.cache_resource(max_entries=64, show_spinner=False, hash_funcs=BY_KEY)
def comparison(opened: OpenRun, metric: str, setup: TrainingSetup | None, budget: Budget | None) -> Comparison:
    """What every rule and every score says."""
    return gather_opinions(opened.run, metric=metric, setup=setup, budget=budget)


@st.cache_data(max_entries=512, show_spinner=False)
def _planned_depth(folder: Path, stamp: int) -> int | None:
    manifest, traces, pairs = read_traces(folder)
    try:
        return recommended_depth(manifest, traces["semantic"], pairs["semantic"])
    except (IndexError, KeyError, ValueError) as error:
        raise RunError(f"{folder} is damaged ({error}). Run semfreeze analyze again with --overwrite.") from error


def planned_depth(catalog: RunCatalog, name: str) -> int | None:
    """The freeze depth that is recommended for a run that is not opened; None where none is.

    Raises:
        RunError: damaged or gone.
    """
    return _planned_depth(catalog.folder_of(name), catalog.stamp(name))


@st.cache_resource(max_entries=16, show_spinner=False)
def _side_by_side(catalog: RunCatalog, stamped: tuple[tuple[str, int], ...], metric: str) -> SideBySide:
    return compare_runs({name: _read(catalog, name, stamp).run for name, stamp in stamped}, metric)


def side_by_side(catalog: RunCatalog, names: tuple[str, ...], metric: str) -> SideBySide:
    """Several runs compared, the first with each other.

    Raises:
        InputError: one is damaged or gone, or lacks the metric.
    """
    return _side_by_side(catalog, tuple((name, catalog.stamp(name)) for name in names), metric)
