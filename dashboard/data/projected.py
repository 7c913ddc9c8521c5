"""The projections of hidden states and their figure, kept between reruns."""

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.runs.umaps import read_umap, umap_file

from ..charts.layer_by_layer import (
    add_layer_bars,
    followed_position,
    followed_token,
    place_among_layers,
    place_on_coverage,
)
from ..charts.projection import Coloring, draw_projection
from .cache_keys import BY_KEY
from .projections import ProjectedPoints
from .run_folder import OpenRun


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=BY_KEY)
def projection(
    opened: OpenRun,
    points: ProjectedPoints,
    coloring: Coloring,
    metric: str,
    n_paths: int,
    selected: tuple[int, ...],
    space: int,
    depth: int,
    _curve: GainCurve,
) -> go.Figure:
    """The animated projection over contributions and coverage of the layers; built once for each way of looking at it.

    The curve follows from metric and selection, so it is no part of the key.
    """
    run, display = opened.run, opened.run.require_display()
    labels, paths = run.examples["label"], points.subset(n_paths)
    companions = [place_among_layers(_curve, space), place_on_coverage(_curve, space)]
    among = points.positions if not selected else np.intersect1d(points.positions, np.array(selected, dtype=np.int64))
    followed = followed_position(display, among) if points.dimensions == 2 else None
    if followed is not None:
        companions.append(followed_token(display, points, followed, space))
    figure = draw_projection(display, points, labels, coloring, metric, paths, selected, space, companions)
    add_layer_bars(figure, _curve, depth)
    return figure


@st.cache_resource(max_entries=4, show_spinner=False)
def _umap(file: Path, stamp: int) -> UmapProjection | None:
    return read_umap(file)


def umap(opened: OpenRun, seed: int, n_neighbors: int) -> UmapProjection | None:
    """The kept UMAP of a run, read again only when it was written again; None when there is none.

    Raises:
        RunError: the kept one is damaged.
    """
    file = umap_file(opened.run.manifest, seed=seed, n_neighbors=n_neighbors)
    try:
        return _umap(file, file.stat().st_mtime_ns)
    except OSError:
        return None
