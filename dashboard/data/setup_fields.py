"""The training setup that stands above all pages, and the widgets of its fields."""

from collections.abc import Mapping

import streamlit as st

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.records.options import EstimateOptions

from .link import LinkName

_SETUP = "training setup"
# The widgets of a setup's fields, where they are not called as the fields are.
_WIDGETS: dict[str, LinkName] = {
    "batch_size": "batch",
    "micro_batch_size": "micro",
    "sequence_length": "length",
    "prefix_cache": "cache",
    "lora": "adapters",
    "lora_rank": "rank",
    "frozen_bits": "bits",
}

_LISTS = {"micro_batch_size"}  # numbers whose widget is a list of texts


def keep_training_setup(options: EstimateOptions, gpu: Gpu | None) -> None:
    """Hand the training setup, which stands beside all pages, to the page."""
    st.session_state[_SETUP] = options, gpu


def training_setup() -> tuple[EstimateOptions, Gpu | None]:
    """The training setup of the open run, and the GPU it is for, or None."""
    options, gpu = st.session_state[_SETUP]
    return options, gpu


def apply_setup(changes: Mapping[str, object]) -> None:
    """Set widgets of the training setup, from a callback.

    Args:
        changes: by fields of an EstimateOptions; a stock trainer, which settles some of them, is left for these.
    """
    for name, value in changes.items():
        st.session_state[_WIDGETS.get(name, name)] = str(value) if name in _LISTS else value
    if {"loss", "prefix_cache"} & changes.keys():
        st.session_state["stock"] = False


def setup_shows(values: Mapping[str, object]) -> bool:
    """Whether the widgets of the training setup stand at these values, by fields as in `apply_setup`."""
    return all(st.session_state.get(_WIDGETS.get(name, name)) == value for name, value in values.items())


def show_chosen(key: str, value: str | None) -> str:
    """The key of a row of choices that shows what other widgets amount to; before it is drawn."""
    st.session_state[key] = value
    return key


def chosen(key: str) -> str | None:
    """What somebody chose in such a row, from a callback."""
    value = st.session_state.get(key)
    return None if value is None else str(value)
