"""Fields of forms, whose values outlive the pages that one looks at meanwhile."""

from collections.abc import Collection
from typing import Any

import streamlit as st

_FORM = "form "


def in_form(name: str, start: Any = None) -> str:
    """The key of a form's widget, which begins at `start`; its value outlives the pages one looks at meanwhile."""
    key = f"{_FORM}{name}"
    if start is not None:  # not the widget's own default, which Streamlit holds against a kept value
        st.session_state.setdefault(key, start)
    return key


def keep_form() -> None:
    """Hold on to what forms hold: Streamlit forgets the widgets that a page does not draw."""
    for key in [key for key in st.session_state if isinstance(key, str) and key.startswith(_FORM)]:
        st.session_state[key] = st.session_state[key]


def reset_field(name: str) -> None:
    """Let a form's widget begin anew."""
    st.session_state.pop(in_form(name), None)


def reset_fields_of_other_data(data: str, fields: Collection[str]) -> None:
    """Let a form's fields begin anew where they were chosen for other data; before they are drawn."""
    key = f"{_FORM}fields of"
    if st.session_state.setdefault(key, data) != data:
        st.session_state[key] = data
        for field in fields:
            reset_field(field)
