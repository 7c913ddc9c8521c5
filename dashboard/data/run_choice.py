"""Which run is open."""

import streamlit as st

from .link import RUN

OPEN_RUN, NEW_ANALYSIS = "The open run", "New analysis"  # whose data the page Data shows; the first at first


def pick_run(names: list[str], first: str) -> str:
    """The run picker; returns the run chosen.

    Args:
        names: of the runs there are.
        first: the one that opens when nobody asks for another.
    """
    if st.session_state.get(RUN) not in names:
        st.session_state.pop(RUN, None)  # removed while it was open
    chosen = st.selectbox("Run", names, names.index(first), key=RUN, bind="query-params",
                          help="A finished analysis of a model on data.")  # fmt: skip
    return chosen or first


def run_of_link(names: list[str], first: str) -> str:
    """The run that the session or the link asks for, before the picker is drawn; `first` where it is none of these."""
    name = st.session_state.get(RUN) or st.query_params.get(RUN)
    return name if name in names else first


def choose_run(name: str) -> None:
    """Open another run, from a callback; in a fragment the whole page has to be drawn again after it.

    The page Data shows it then, rather than the form of a new analysis.
    """
    st.session_state[RUN] = name
    st.session_state["do"] = OPEN_RUN


def open_run_name() -> str:
    """The run that the picker chose."""
    return str(st.session_state[RUN])
