"""The inputs of an estimate without data: a model by name, a GPU, and how many rows there will be."""

from dataclasses import replace

import streamlit as st

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.records.defaults import TRAIN_EXAMPLES
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.sources.models.known_shapes import KNOWN_SHAPES

from ..data import state
from ..data.state import in_link
from ..text.tooltips import TOOLTIPS
from .setup_form import gpu_input, setup_options

FIRST_MODEL = "qwen2.5-7b"
_MOST_ROWS = 10_000_000


def inputs() -> tuple[str | None, Gpu | None, int]:
    """The model, the GPU that it is for, and the training rows; no model while none is named."""
    names = list(KNOWN_SHAPES)
    model_column, gpu_column, rows_column = st.columns((2, 1, 1))
    with model_column:
        model = st.selectbox(
            "Model", names, names.index(FIRST_MODEL), accept_new_options=True, help=TOOLTIPS["estimate model"],
            **in_link("model"),
        )  # fmt: skip
    with gpu_column:
        gpu = gpu_input()
    with rows_column:
        rows = st.number_input("Training rows", 1, _MOST_ROWS, TRAIN_EXAMPLES, step=1000, **in_link("examples"))
    return (str(model).strip() or None) if model else None, gpu, int(rows)


def options_beside(shape: ModelShape, gpu: Gpu | None, rows: int) -> EstimateOptions:
    """The rest of the training setup, which stands at the side as on the other pages."""
    with st.sidebar, st.expander("Training setup"):
        options = setup_options(shape, None, gpu)
    return replace(options, train_examples=rows)


def keep_inputs() -> None:
    """Hold on to the inputs in the link."""
    state.keep_text("model", FIRST_MODEL)
    state.keep_number("examples", 1, _MOST_ROWS, TRAIN_EXAMPLES)
