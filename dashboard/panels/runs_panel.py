"""All runs as a table, and for the one that is clicked a note, another name, or its end."""

from pathlib import Path

import streamlit as st

from semfreeze_core.runs.store import RunEntry, list_runs, remove_run, rename_run, write_note
from semfreeze_core.wording.numbers import byte_size

from ..data import finetune_results, form_fields
from ..data.run_folder import server_catalog
from ..text import page_text
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from ..text.visitor_text import error_text
from .tables import folder_rows

ROWS = "kept runs"


def runs_panel() -> None:
    """The runs of the folder; nothing in a demonstration, which has none of its own."""
    folder = server_catalog().folder
    if folder is None:
        return
    st.markdown("### All runs")
    entries = list_runs(folder)
    if not entries:
        st.info(page_text.NO_RUNS)
        return
    query = str(st.text_input("Only those with", key=form_fields.in_form("runs sought"), width=320,
                               placeholder="a word of name, model, data or note"))  # fmt: skip
    shown = [entry for entry in entries if matches(entry, query)]
    validations = {entry.name: finetune_results.named_validations(server_catalog(), entry.name) for entry in shown}
    table = st.dataframe(
        folder_rows(shown, validations), hide_index=True, key=ROWS, on_select="rerun", selection_mode="single-row",
        alt="All runs of this folder, their sizes, proofs and notes",
    )  # fmt: skip
    used = byte_size(sum(entry.bytes for entry in entries))
    st.caption(
        f"{len(shown)} of {len(entries)} runs, {used} in {error_text(folder)}. "
        "Click a row to annotate, rename or delete."
    )
    rows = table["selection"]["rows"]
    if rows and rows[0] < len(shown):
        run_actions(folder, shown[rows[0]])


def matches(entry: RunEntry, query: str) -> bool:
    """Whether every word that is sought stands in the run's name, model, data or note."""
    manifest = entry.manifest
    texts = [entry.name, entry.note, entry.problem]
    texts += [manifest.model.identity.source, manifest.data.source] if manifest else []
    return all(word in " ".join(texts).casefold() for word in query.casefold().split())


def run_actions(folder: Path, entry: RunEntry) -> None:
    """What can be done with one run."""
    with st.container(border=True):
        st.markdown(f"**{escaped(entry.name)}**")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            note = st.text_input("Note", entry.note, key=f"note of {entry.name}", width=420)
            if st.button("Keep the note", disabled=note == entry.note):
                write_note(entry.name, note, folder)
                st.rerun()
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.text_input("Name", entry.name, key=f"name of {entry.name}", width=420)
            if st.button("Rename", disabled=name == entry.name):
                rename_run(entry.name, name, folder)
                st.rerun()
            with st.popover("Delete", help=TOOLTIPS["delete run"]):
                st.markdown(
                    f"{escaped(entry.name)} ({byte_size(entry.bytes)}) with all its validations, sweeps, pilots and "
                    "finetuned models."
                )
                if st.button("Delete for good", type="primary"):
                    remove_run(entry.name, folder)
                    st.rerun()
