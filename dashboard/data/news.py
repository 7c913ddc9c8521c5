"""What was started or has ended and is to be shown once the page is drawn again."""

import streamlit as st

from semfreeze_core.wording.escaping import markdown_text

from .link import LinkName

_STARTED = "begun"  # what was started in this session and has not been shown yet
_ANNOUNCED = "announced"
_FOLLOWED = "followed jobs"


def await_started(name: str) -> None:
    """Have what was started chosen as soon as it is there to be chosen."""
    st.session_state[_STARTED] = name


def follow_job(name: str) -> None:
    """Note a job that a page follows, which stays there once it has ended."""
    st.session_state.setdefault(_FOLLOWED, set()).add(name)


def followed_jobs() -> frozenset[str]:
    """The jobs that a page followed in this session."""
    return frozenset(st.session_state.get(_FOLLOWED, ()))


def announce(message: str) -> None:
    """Have a message shown over the page once it is drawn again; one that is shown before may go with the old page."""
    st.session_state[_ANNOUNCED] = message


def show_announced() -> None:
    """Show what was announced since the page was last drawn."""
    if message := st.session_state.pop(_ANNOUNCED, None):
        st.toast(markdown_text(message))


def show_started(widget: LinkName, names: list[str]) -> None:
    """Choose what was started last, once it is among the names; before the widget is drawn."""
    if st.session_state.get(_STARTED) in names:
        st.session_state[widget] = st.session_state.pop(_STARTED)
