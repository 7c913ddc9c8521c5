"""Taking a plan away: its documents, what to run, another trainer's configuration, and the same as code."""

import streamlit as st

from semfreeze_core.errors import InputError
from semfreeze_core.export import TARGETS, export_plan
from semfreeze_core.plan.known_rate import validated_rate
from semfreeze_core.records.fields import FieldMapping

from ..data import exports, finetune_results
from ..text import page_text
from ..text.tooltips import TOOLTIPS
from ..text.visitor_text import command_text, error_text, visitor_file, visitor_text
from . import page
from .html_report import report_html

SEMFREEZE, YOUR_SCRIPT = "semfreeze", "your script"
TRAINERS = (SEMFREEZE, YOUR_SCRIPT, *TARGETS)


def downloads(ctx: page.PageContext, selection: exports.PlanSelection) -> None:
    """The plan and the run's report as files."""
    manifest = ctx.opened.run.manifest
    sources = (manifest.model.identity.source, manifest.data.source)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.download_button("Download plan JSON", lambda: visitor_file(selection.document(), sources), "plan.json",
                           "application/json", type="primary", on_click="ignore")  # fmt: skip
        st.download_button(
            "Report of the run",
            lambda: visitor_file(
                report_html(
                    ctx.opened.run, metric=ctx.metric, name=ctx.opened.name, plan=selection.plan(),
                    validations=finetune_results.validations(ctx.opened),
                ),
                sources,
            ),
            f"{ctx.opened.name}.html", "text/html", on_click="ignore", help=TOOLTIPS["report"],
        )  # fmt: skip


def instructions(selection: exports.PlanSelection, trainer: str) -> None:
    """How a trainer runs the plan."""
    if trainer == SEMFREEZE:
        st.caption(page_text.TRAIN_CAPTION)
        command = exports.training_command(selection.opened.run.manifest)
        st.code(command_text(command), language="bash", wrap_lines=True)
    elif trainer == YOUR_SCRIPT:
        st.caption(page_text.SCRIPT_CAPTION)
        st.code(page_text.SCRIPT_DIFF, language="diff", wrap_lines=True)
    else:
        trainer_config(selection, trainer)


def same_as_code(selection: exports.PlanSelection) -> None:
    """The command and the Python that make the plan's document."""
    with st.expander("Make plan.json on the command line or in Python"):
        st.code(visitor_text(exports.as_command(selection)), language="bash", wrap_lines=True)
        st.code(visitor_text(exports.as_python(selection)), language="python", wrap_lines=True)


def trainer_config(selection: exports.PlanSelection, target: str) -> None:
    """The plan in another trainer's words, with what it cannot be told; or why that trainer cannot have it."""
    plan, manifest = selection.plan(), selection.opened.run.manifest
    # The command converts the embedded model to a folder first, which a page does not.
    model = "the-folder-of-the-model" if plan.model.source == "embedded" else None
    data, mapping = exports.readable_data(manifest.data)
    try:
        rate = validated_rate(finetune_results.validations(selection.opened), plan)
        exported = export_plan(plan, target, model=model, data=data, mapping=mapping or FieldMapping(), rate=rate)
    except InputError as error:
        st.info(error_text(error))
        return
    if model is not None:
        st.caption(page_text.EMBEDDED_EXPORT.format(model=model))
    for note in exported.notes:
        st.caption(error_text(note))
    text = visitor_file(exported.text, (plan.model.source, data))
    st.download_button(f"Download {exported.filename}", text, exported.filename, on_click="ignore")
    st.code(text, language=None, wrap_lines=True)
