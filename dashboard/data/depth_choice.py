"""The freeze depth of the open run, which all pages share, and that of an estimate."""

from typing import Any

import streamlit as st

from .link import SharedLinkName, in_link, limit_number

_DEPTH: SharedLinkName = "depth"
_START = "start depth"
_FOLLOWED = "followed"  # the pick the depth was last set to; not in the link, as it follows from what is
_ESTIMATED = "estimated layers"


def keep_depth(last: int, start: int) -> None:
    """Hold on to the depth in the link."""
    _follow_start(last, start)
    st.number_input(_DEPTH, 0, last, start, **in_link(_DEPTH))


def depth_of_link(recommended: int | None) -> int | None:
    """The depth that the session or the link asks for, before its slider is drawn, else the recommended one."""
    asked = str(st.session_state.get(_DEPTH, st.query_params.get(_DEPTH, "")))
    return int(asked) if asked.isdecimal() else recommended


def depth_slider(last: int, start: int, help: str) -> int:
    """The one freeze depth of all pages, 0..last.

    A link without a depth means `start`, the recommended one. Until somebody chooses another, the depth follows it: to
    another run's, or another metric's.
    """
    _follow_start(last, start)
    return int(st.slider("Freeze depth k", 0, last, start, help=help, **in_link(_DEPTH)))


def _follow_start(last: int, start: int) -> None:
    before, st.session_state[_START] = st.session_state.get(_START), start
    known = st.session_state.get(_DEPTH)
    if known is not None and (known > last or (before != start and known == before)):
        st.session_state[_DEPTH] = start


def set_depth(depth: int) -> None:
    """Move the freeze depth, from a callback or before its slider is drawn."""
    st.session_state[_DEPTH] = depth


def follow(run: str, pick: tuple[Any, ...], depth: int | None) -> None:
    """Move the depth to a rule's pick when another rule, run or budget is asked; a depth from the link stays.

    Args:
        run: name of the run.
        pick: what was asked of which rule.
        depth: what it picks, or None.
    """
    before, st.session_state[_FOLLOWED] = st.session_state.get(_FOLLOWED), (run, *pick)
    untouched = _DEPTH not in st.session_state or st.session_state[_DEPTH] == st.session_state.get(_START)
    first = before is None and _DEPTH not in st.query_params and untouched
    if depth is not None and (first or (before is not None and before != (run, *pick))):
        st.session_state[_DEPTH] = depth


def link_to_finetune_form(depth: int, start: int) -> dict[str, str]:
    """What a link to the form of new finetunes says beyond what goes along anyway: open, at this depth.

    The depth that the form begins at is left out, as Streamlit leaves out a default. So is 0: there is nothing to test
    in full finetuning, and the form has no such depth.
    """
    query = finetune_form_query(depth, start)
    if "tested" not in query:
        st.session_state.pop("tested", None)  # which would come back
    return query


def finetune_form_query(depth: int, start: int) -> dict[str, str]:
    """What `link_to_finetune_form` says, for the page of that form itself."""
    return {"prove": "true"} if depth in (0, start) else {"tested": str(depth), "prove": "true"}


def estimate_slider(last: int, start: int, help: str) -> int:
    """The freeze depth of an estimate, 0..last, which is apart from the open run's: the model is another."""
    limit_number("freeze", last)
    return int(st.slider("Freeze depth k", 0, last, start, help=help, **in_link("freeze")))


def keep_estimate_depth(last: int, start: int) -> None:
    """Hold on to the freeze depth of an estimate in the link."""
    limit_number("freeze", last)
    st.number_input("freeze", 0, last, start, **in_link("freeze"))


def note_estimate(model: str, n_layers: int) -> None:
    """Note how many layers the estimated model has, for pages that only keep its depth."""
    st.session_state[_ESTIMATED] = model, n_layers


def estimated_layers(model: str) -> int | None:
    """The layers of the model that was estimated last; None where it is another."""
    noted, n_layers = st.session_state.get(_ESTIMATED, ("", 0))
    return n_layers if noted == model else None


def set_estimate_depth(depth: int) -> None:
    """Move the freeze depth of an estimate, from a callback."""
    st.session_state["freeze"] = depth
