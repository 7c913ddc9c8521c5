"""The form of a new analysis: model, data, fields, and what there is to read, before anything is started."""

from pathlib import Path
from typing import Any

import streamlit as st

from semfreeze_core.errors import DataError, InputError
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.storage import user_path

from ..data import compute
from ..data.analysis_request import Wish, keep_upload, upload_types
from ..data.run_folder import paths_allowed
from ..data.state import in_form
from ..text import page_text

MODELS = {"embedded": "embedded", "hub": "hub id", "folder": "local folder", "gguf": "GGUF file"}
DATA = {"read": "what was read", "sample": "sample", "upload": "upload", "hub": "hub dataset", "path": "path"}
READ_AS = {
    "guess": "as the column names say",
    "pair": "prompt and completion",
    "template": "template and completion",
    "messages": "chat messages",
    "text": "plain text",
}
_NARROW = 135


def model_asked() -> str | None:
    """The model, or None while it is not said."""
    kind = _choice("Model", MODELS, "model-kind", "model kind", local=("folder", "gguf"))
    if kind == "embedded":
        return "embedded"
    asked = {"hub": "owner/name", "folder": "Folder with config.json and safetensors", "gguf": "Path of a .gguf file"}
    text = str(st.text_input(asked[kind], key=in_form(f"model-{kind}"), placeholder=asked[kind])).strip()
    if not text:
        return None
    return text if kind == "hub" else str(user_path(text).absolute())


def data_asked(
    runs: Path,
    title: str = "Data",
    place: str = "data",
    *,
    read: str | None = None,
    first: str = "sample",
    sample: str = "_train",
) -> tuple[str | None, str | None, str]:
    """The data, its split, and what to call it; None while they are not said.

    Args:
        runs: where uploads are kept.
        title: of the choice.
        place: of these widgets among others of the kind.
        read: the data of the run that is looked at, where they can be chosen again.
        first: kind that is chosen at first.
        sample: how the samples that are named first end.
    """
    kinds = DATA if read is not None else {name: told for name, told in DATA.items() if name != "read"}
    kind = _choice(title, kinds, f"{place}-kind", "data kind", local=("path",), first=first)
    if kind == "read" and read is not None:
        st.caption(f"`{page_text.data_name(read)}`")
        return read, None, read
    if kind == "sample":
        names = sorted(compute.samples(), key=lambda name: (not name.endswith(sample), name))
        chosen = str(st.selectbox("Sample task", names, key=in_form(f"{place}-sample")))
        return f"sample:{chosen}", None, chosen
    if kind == "upload":
        file = st.file_uploader("One file", type=upload_types(), key=f"upload {place}", help=page_text.HELP["upload"])
        if file is None:
            return None, None, ""
        return str(keep_upload(runs, file.name, file.getvalue())), None, file.name
    if kind == "path":
        text = str(st.text_input("Path of the file", key=in_form(f"{place}-path"))).strip()
        return (str(user_path(text).absolute()) if text else None), None, text
    text = str(st.text_input("owner/name", key=in_form(f"{place}-hub"))).strip()
    split = str(st.text_input("Split", key=in_form(f"{place}-split", "train"))).strip()
    return (f"hf:{text}" if text else None), split or None, text


def fields_asked(columns: list[str]) -> FieldMapping:
    """Which columns hold what."""
    words = {name: told for name, told in READ_AS.items()}
    how = st.selectbox("Read it", list(words), format_func=words.__getitem__, key=in_form("read-as"),
                       help=page_text.HELP["fields"])  # fmt: skip
    if how == "guess":
        return FieldMapping()
    told: dict[str, Any] = {}
    with st.container(horizontal=True):
        if how == "pair":
            told["prompt_field"] = _column("Prompt", columns, "prompt")
        if how == "messages":
            told["messages_field"] = _column("Messages", columns, "messages")
        if how == "text":
            told["text_field"] = _column("Text", columns, "text")
        if how in ("pair", "template"):
            told["completion_field"] = _column("Completion", columns, "completion", at=1)
        label = st.selectbox("Label", ["none", *columns], key=in_form("label"), width=_NARROW + 30)
    if how == "template":
        first = "{" + columns[0] + "}\\n" if columns else ""
        told["template"] = st.text_input("Template", key=in_form("template", first), help=page_text.HELP["template"])
    return FieldMapping(**told, label_field=None if label in (None, "none") else label)


def wish_asked(runs: Path) -> Wish | None:
    """The analysis as the form has it; None while something is missing."""
    left, right = st.columns(2)
    with left:
        model = model_asked()
    with right:
        data, split, called = data_asked(runs)
    if data is None:
        return None
    try:
        columns = compute.columns(data, split, compute.stamp_of(data))
    except InputError as error:
        raise DataError(f"{error}") from error
    with right:
        fields = fields_asked(columns)
    with left, st.container(horizontal=True, vertical_alignment="bottom"):
        examples = st.number_input("Examples", 0, 1_000_000, step=64, key=in_form("examples", 256), width=_NARROW,
                                   help=page_text.HELP["examples"])  # fmt: skip
        device = st.selectbox("Device", ("auto", "cpu", "cuda", "mps"), key=in_form("device"), width=_NARROW,
                              help=page_text.HELP["device"])  # fmt: skip
        dtype = st.selectbox("Numbers", ("auto", "float32", "bfloat16"), key=in_form("dtype"), width=_NARROW,
                             help=page_text.HELP["dtype"])  # fmt: skip
    if model is None:
        return None
    return Wish(model, data, split, fields, int(examples), str(device), str(dtype), called)


def _choice(
    title: str, options: dict[str, str], name: str, term: str, *, local: tuple[str, ...], first: str | None = None
) -> str:
    """One of the options; those that read this machine's files only where that is allowed."""
    shown = [option for option in options if paths_allowed() or option not in local]
    start = first if first in shown else shown[0]
    chosen = st.segmented_control(title, shown, format_func=options.__getitem__, required=True,
                                  key=in_form(name, start), help=page_text.HELP[term])  # fmt: skip
    return str(chosen or start)


def _column(title: str, columns: list[str], name: str, at: int = 0) -> str | None:
    found = next((i for i, column in enumerate(columns) if column.casefold() == name), min(at, len(columns) - 1))
    key = in_form(f"column-{name}", columns[found] if columns else None)
    return st.selectbox(title, columns, key=key, width=_NARROW + 30)
