"""The form of a new analysis: model, data, fields, and what there is to read, before anything is started."""

from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from semfreeze_core.errors import DataError, InputError
from semfreeze_core.records.defaults import HELD_OUT_DATA
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.schemas import proposed_fields, recognized
from semfreeze_core.storage import user_path
from semfreeze_core.wording.escaping import markdown_code

from ..data import form_fields, task_data
from ..data.analysis_request import AnalysisForm, keep_upload, upload_types
from ..data.form_fields import in_form
from ..data.run_folder import paths_allowed
from ..text import data_text, page_text
from ..text.tooltips import TOOLTIPS

MODELS = {"embedded": "bundled", "hub": "hub id", "folder": "local folder", "gguf": "GGUF file"}
DATA = {
    "held": "held out",
    "read": "analyzed",
    "sample": "sample",
    "upload": "upload",
    "hub": "hub dataset",
    "path": "path",
}
READ_AS = {
    "guess": "as the column names say",
    "pair": "prompt and completion",
    "template": "template and completion",
    "messages": "chat messages",
    "text": "plain text",
}
_COLUMN = 225
_PAIR = 2  # columns that can only be a prompt and its completion
_THIRD = 116  # three beside each other in half of a page
_COLUMN_KEYS = tuple(f"column-{name}" for name in ("prompt", "completion", "messages", "text"))


def model_input() -> str | None:
    """The model, or None until it is entered."""
    kind = _choice("Model", MODELS, "model-kind", "model kind", local=("folder", "gguf"))
    if kind == "embedded":
        return "embedded"
    labels = {"hub": "owner/name", "folder": "Folder with config.json and safetensors", "gguf": "Path of a .gguf file"}
    text = str(st.text_input(labels[kind], key=in_form(f"model-{kind}"), placeholder=labels[kind])).strip()
    if not text:
        return None
    return text if kind == "hub" else str(user_path(text).absolute())


def data_input(
    runs: Path,
    title: str = "Data",
    form_key: str = "data",
    *,
    read: str | None = None,
    held_out: bool = False,
    first: str = "sample",
    sample: str = "_train",
) -> tuple[str | None, str | None, str]:
    """The data, its split, and what to call it; None until they are entered.

    Args:
        runs: where uploads are kept.
        title: of the choice.
        form_key: what tells these widgets' keys from others of the kind.
        read: the data of the run that is looked at, where they can be chosen again.
        held_out: whether rows of the training data may be held out in their place.
        first: kind that is chosen at first.
        sample: how the samples that are named first end.
    """
    left_out = [name for name, offered in (("read", read is not None), ("held", held_out)) if not offered]
    kinds = {name: title for name, title in DATA.items() if name not in left_out}
    kind = _choice(title, kinds, f"{form_key}-kind", "data kind", local=("path",), first=first)
    if kind == "read" and read is not None:
        st.caption(markdown_code(page_text.data_name(read)))
        return read, None, page_text.data_name(read)
    if kind == "held":
        st.caption(page_text.HELD_OUT_CAPTION)
        return HELD_OUT_DATA, None, HELD_OUT_DATA
    if kind == "sample":
        names = sorted(task_data.samples(), key=lambda name: (not name.endswith(sample), name))
        chosen = str(st.selectbox("Sample task", names, key=in_form(f"{form_key}-sample")))
        return f"sample:{chosen}", None, chosen
    if kind == "upload":
        file = st.file_uploader("One file", type=upload_types(), key=f"upload {form_key}", help=TOOLTIPS["upload"])
        if file is None:
            return None, None, ""
        return str(keep_upload(runs, file.name, file.getvalue())), None, file.name
    if kind == "path":
        text = str(st.text_input("Path of the file", key=in_form(f"{form_key}-path"))).strip()
        return (str(user_path(text).absolute()) if text else None), None, text
    text = str(st.text_input("owner/name", key=in_form(f"{form_key}-hub"))).strip()
    split = str(st.text_input("Split", key=in_form(f"{form_key}-split", "train"))).strip()
    return (f"hf:{text}" if text else None), split or None, text


def field_inputs(columns: list[str]) -> FieldMapping | None:
    """Which columns hold what; None until those are chosen that nothing proposes."""
    how = st.selectbox("Read it", list(READ_AS), format_func=READ_AS.__getitem__, key=in_form("read-as"),
                       help=TOOLTIPS["fields"])  # fmt: skip
    if how == "guess":
        return FieldMapping()
    likely = proposed_fields(columns)
    # Of many columns without a name that is known, the first may be a number: it is asked for, not proposed.
    unclear = likely.completion_field is None and len(columns) > _PAIR
    first, second = (None, None) if unclear else (likely.prompt_field, columns[-1])
    columns_by_field: dict[str, Any] = {}
    with st.container(horizontal=True):
        if how == "pair":
            columns_by_field["prompt_field"] = _column("Prompt", columns, "prompt", first)
        if how == "messages":
            columns_by_field["messages_field"] = _column("Messages", columns, "messages", likely.messages_field)
        if how == "text":
            columns_by_field["text_field"] = _column("Text", columns, "text", likely.text_field)
        if how in ("pair", "template"):
            proposed = likely.completion_field or second
            columns_by_field["completion_field"] = _column("Completion", columns, "completion", proposed)
        label = st.selectbox("Label", ["none", *columns], key=in_form("label"), width=_COLUMN,
                             help=TOOLTIPS["label"])  # fmt: skip
    if how == "template":
        columns_by_field["template"] = st.text_input(
            "Template", key=in_form("template", likely.template), help=TOOLTIPS["template"]
        )
    if None in columns_by_field.values():
        return None
    return FieldMapping(**columns_by_field, label_field=None if label in (None, "none") else label)


def analysis_form(runs: Path) -> tuple[AnalysisForm | None, DeltaGenerator]:
    """The analysis as the form has it, None while something is missing; and the place below its last field."""
    data_column, model_column = st.columns(2)
    with model_column:
        model = model_input()
        choices, start = st.container(horizontal=True, vertical_alignment="bottom"), st.container()
    with data_column:
        data, split, data_name = data_input(runs)
    if data is None:
        return None, start
    try:
        columns = task_data.columns(data, split, task_data.stamp_of(data))
    except InputError as error:
        raise DataError(f"{error}") from error
    form_fields.reset_fields_of_other_data(data, ("read-as", "label", "template", *_COLUMN_KEYS))
    with data_column:
        fields = field_inputs(columns)
        match = recognized(columns) if fields == FieldMapping() else None
        st.html(data_text.format_chips_html(match[0].name if match else None))
    with choices:
        examples = st.number_input("Examples", 0, 1_000_000, step=64, key=in_form("examples", 256), width=_THIRD,
                                   help=TOOLTIPS["examples"])  # fmt: skip
        device = st.selectbox("Device", ("auto", "cpu", "cuda", "mps"), key=in_form("device"), width=_THIRD,
                              help=TOOLTIPS["device"])  # fmt: skip
        dtype = st.selectbox("Precision", ("auto", "float32", "bfloat16"), key=in_form("dtype"), width=_THIRD,
                             help=TOOLTIPS["dtype"])  # fmt: skip
    if model is None or fields is None:
        return None, start
    form = AnalysisForm(model, data, split, fields, int(examples), str(device), str(dtype), data_name)
    return form, start


def _choice(
    title: str, options: dict[str, str], name: str, term: str, *, local: tuple[str, ...], first: str | None = None
) -> str:
    """One of the options; those that read this machine's files only where that is allowed."""
    shown = [option for option in options if paths_allowed() or option not in local]
    start = first if first in shown else shown[0]
    chosen = st.segmented_control(title, shown, format_func=options.__getitem__, required=True,
                                  key=in_form(name, start), help=TOOLTIPS[term])  # fmt: skip
    return str(chosen or start)


def _column(title: str, columns: list[str], name: str, likely: str | None) -> str | None:
    """One of the columns, at first the likely one; None where none is likely, until one is chosen."""
    key = in_form(f"column-{name}", likely or (columns[0] if len(columns) == 1 else None))
    return st.selectbox(title, columns, None, key=key, width=_COLUMN, placeholder="choose a column")
