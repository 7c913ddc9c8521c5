"""The newest runs, one box each: what was analyzed, what is planned, what was measured; a click opens it."""

from contextlib import suppress
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from semfreeze_core.errors import RunError
from semfreeze_core.records.defaults import RULE
from semfreeze_core.records.manifest import RunManifest
from semfreeze_core.wording.plan import depth_headline, no_recommendation
from semfreeze_core.wording.validation import measured_sentence

from ..charts.stack import strip_html
from ..data import compute, finetune_results, run_choice
from ..data.run_folder import CatalogEntry, OpenRun, server_catalog
from ..text import page_text
from ..text.analysis_text import escaped
from ..text.visitor_text import error_text, visitor_text
from . import page, tables

MOST_RUNS, IN_A_ROW = 6, 3
BOX = "recent-run"  # of the containers, all of which is to be clicked


@dataclass(frozen=True)
class _Box:
    """A run's box, with the places of what takes a moment to compute.

    Attributes:
        entry: the run.
        plan, stack, measured: the plan in a sentence, its layers, and what finetunes showed.
    """

    entry: CatalogEntry
    plan: DeltaGenerator
    stack: DeltaGenerator
    measured: DeltaGenerator


def recent_runs(opened: OpenRun) -> None:
    """The newest runs that can be read, those that cannot with the reason, and where all are.

    Every box is drawn before the first plan is computed, which takes some tenths of a second each, once.

    Args:
        opened: the open run, whose plan is known.
    """
    st.markdown("**Recent runs**")
    entries = server_catalog().entries()
    runs = [(entry.manifest.provenance.created, entry) for entry in entries if entry.manifest is not None]
    newest = [entry for _, entry in sorted(runs, key=lambda run: run[0], reverse=True)[:MOST_RUNS]]
    boxes = []
    for first in range(0, len(newest), IN_A_ROW):
        row = newest[first : first + IN_A_ROW]
        for column, entry in zip(st.columns(IN_A_ROW), row, strict=False):
            with column:
                boxes.append(_box(entry, entry.name == opened.name))
    if len(runs) > MOST_RUNS:
        page.other_step(page_text.all_runs(len(runs)), "library")
    if broken := tables.unreadable_rows(entries):
        st.markdown("**Runs that cannot be read**")
        st.dataframe(broken, hide_index=True, alt="Runs that cannot be read, and why")
    st.caption(page_text.catalog_caption(server_catalog().folder, len(entries)))
    for box in boxes:
        _fill(box, opened)


def _box(entry: CatalogEntry, is_open: bool) -> _Box:
    """What the manifest says of a run, and gray layers until its plan is known."""
    manifest = entry.manifest
    assert manifest is not None
    with st.container(border=True, height="stretch", key=f"{BOX}-{entry.name}", gap="small"):
        if is_open:
            st.markdown(f"**{escaped(entry.name)}** (open)")
        else:
            st.button(
                f"**{escaped(entry.name)}**", type="tertiary", key=f"open {entry.name}",
                on_click=run_choice.choose_run, args=(entry.name,), help="Open this run.",
            )  # fmt: skip
        st.caption(escaped(page_text.analyzed_line(manifest)))
        plan, stack, measured = st.empty(), st.empty(), st.empty()
        plan.markdown(page_text.PLAN_FOLLOWS)
        stack.html(_strip(manifest, None))
        measured.caption(page_text.PLAN_FOLLOWS)
    return _Box(entry, plan, stack, measured)


def _fill(box: _Box, opened: OpenRun) -> None:
    """The plan of a run and what finetunes measured."""
    name, manifest = box.entry.name, box.entry.manifest
    assert manifest is not None
    try:
        depth = _depth(name, opened)
    except RunError as error:
        box.plan.markdown(error_text(error))
        box.measured.empty()
        return
    n_layers = manifest.model.shape.n_layers
    box.plan.markdown(no_recommendation(RULE, None) if depth is None else depth_headline(depth, n_layers))
    box.stack.html(_strip(manifest, depth))
    with suppress(RunError):
        reports = finetune_results.named_validations(server_catalog(), name)
        box.measured.caption(escaped(visitor_text(measured_sentence(reports, depth))))


def _depth(name: str, opened: OpenRun) -> int | None:
    if name == opened.name:
        return compute.comparison(opened, "semantic", None, None).rules[RULE].freeze_depth
    return compute.planned_depth(server_catalog(), name)


def _strip(manifest: RunManifest, depth: int | None) -> str:
    html: str = strip_html(manifest.model.shape.n_layers, depth)
    return html
