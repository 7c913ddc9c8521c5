"""The inputs of an estimate without data: a model by name, and how many rows there will be."""

import streamlit as st

from semfreeze_core.records.defaults import TRAIN_EXAMPLES
from semfreeze_core.sources.models.known_shapes import KNOWN_SHAPES

from ..data import link
from ..data.link import in_link
from ..text.tooltips import TOOLTIPS

FIRST_MODEL = "qwen2.5-7b"
_MOST_ROWS = 10_000_000


def inputs() -> tuple[str | None, int]:
    """The model and the training rows; no model while none is named."""
    names = list(KNOWN_SHAPES)
    model_column, rows_column = st.columns((2, 1))
    with model_column:
        model = st.selectbox(
            "Model", names, names.index(FIRST_MODEL), accept_new_options=True, help=TOOLTIPS["estimate model"],
            **in_link("model"),
        )  # fmt: skip
    with rows_column:
        rows = st.number_input("Training rows", 1, _MOST_ROWS, TRAIN_EXAMPLES, step=1000, **in_link("examples"))
    return (str(model).strip() or None) if model else None, int(rows)


def model_of_link() -> str:
    """The model that the link names, before its widget is drawn."""
    return link.text("model", FIRST_MODEL).strip()


def keep_inputs() -> None:
    """Hold on to the inputs in the link."""
    link.keep_text("model", FIRST_MODEL)
    link.keep_number("examples", 1, _MOST_ROWS, TRAIN_EXAMPLES)
