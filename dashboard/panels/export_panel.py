"""Taking a plan away: its document, another trainer's configuration, the run's report, and the same as code."""

import streamlit as st

from semfreeze_core.errors import InputError
from semfreeze_core.export import TARGETS, export_plan
from semfreeze_core.records.fields import FieldMapping

from ..data import compute, exports, state
from ..text import page_text
from ..text.tooltips import TOOLTIPS
from ..text.visitor_text import error_text, visitor_file, visitor_text
from . import page
from .html_report import report_html

SEMFREEZE = "semfreeze"


def export_panel(ctx: page.PageContext, selection: exports.PlanSelection) -> None:
    """Downloads, then the command and the Python that give the same plan."""
    manifest = ctx.opened.run.manifest
    sources = (manifest.model.identity.source, manifest.data.source)
    st.markdown("**Take the plan with you**")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.download_button("Download plan JSON", lambda: visitor_file(selection.document(), sources), "plan.json",
                           "application/json", type="primary", on_click="ignore")  # fmt: skip
        st.download_button(
            "Report of the run",
            lambda: visitor_file(
                report_html(
                    ctx.opened.run, metric=ctx.metric, name=ctx.opened.name, plan=selection.plan(),
                    validations=compute.validations(ctx.opened),
                ),
                sources,
            ),
            f"{ctx.opened.name}.html", "text/html", on_click="ignore", help=TOOLTIPS["report"],
        )  # fmt: skip
        target = st.selectbox("For another trainer", (SEMFREEZE, *TARGETS), width=180, help=TOOLTIPS["trainer"],
                              **state.in_link("trainer"))  # fmt: skip
    if target != SEMFREEZE:
        trainer_config(selection, str(target))
    st.caption("The same on the command line, and in Python:")
    st.code(visitor_text(exports.as_command(selection)), language="bash", wrap_lines=True)
    st.code(visitor_text(exports.as_python(selection)), language="python", wrap_lines=True)


def trainer_config(selection: exports.PlanSelection, target: str) -> None:
    """The plan in another trainer's words, with what it cannot be told; or why that trainer cannot have it."""
    plan, manifest = selection.plan(), selection.opened.run.manifest
    # The command converts the embedded model to a folder first, which a page does not.
    model = "the-folder-of-the-model" if plan.model.source == "embedded" else None
    data, mapping = exports.readable_data(manifest.data)
    try:
        exported = export_plan(plan, target, model=model, data=data, mapping=mapping or FieldMapping())
    except InputError as error:
        st.info(error_text(error))
        return
    if model is not None:
        st.caption(page_text.EMBEDDED_EXPORT.format(model=model))
    for note in exported.notes:
        st.caption(error_text(note))
    text = visitor_file(exported.text, (plan.model.source, data))
    st.download_button(f"Download {exported.filename}", text, exported.filename, on_click="ignore")
    st.code(text, language=None, height=260)
