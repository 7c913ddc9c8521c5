"""What the link holds: the only place that binds widgets to the query string.

Everything that decides what is seen is in the link, so that a pasted one shows the same view. Streamlit binds a keyed
widget to the query parameter of its key, and drops values there that the widget would not take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import streamlit as st

SharedLinkName = Literal[  # drawn on every page, out of sight where it does not show them
    "start",
    "objective",
    "gib",
    "hours",
    "steps",
    "judged",
    "decided",
    "output",
    "by",
    "depth",
    "metric",
    "rule",
    "wide",
    "gpu",
    "model",
    "freeze",
    "examples",
    "memory",
    "compute",
    "within",
    "batch",
    "micro",
    "length",
    "precision",
    "optimizer",
    "loss",
    "stock",
    "cache",
    "checkpointing",
    "batches",
    "adapters",
    "rank",
    "bits",
    "epochs",
    "saving",
    "trainer",
    "projection",
    "seed",
    "neighbours",
    "colour",
    "space",
    "paths",
]
LinkName = Literal[
    SharedLinkName,
    "do",
    "controls",
    "law",
    "groups",
    "with",
    "prove",
    "finetune",
    "tested",
    "difference",
    "validation",
    "along",
    "sweep",
    "frontier",
    "rules",
    "gpus",
    "figures",
]
RUN = "run"
_ASKED, _REFUSED = "link asked", "link refused"  # what the link said, and what of it is not shown
_UNUSABLE = "unusable"  # values that widgets took and nothing can be done with, and what is shown instead
_SLIDE = "slide"
_DEFAULT = "default of "


def in_link(name: LinkName) -> dict[str, Any]:
    """Arguments that keep a widget's value in the link under a name; one at its default is left out of the link."""
    return {"key": name, "bind": "query-params"}


@dataclass(frozen=True)
class RefusedValue:
    """A value of the link that is not shown.

    Attributes:
        name: of the link's parameter.
        asked: what the link says.
        shown: what is shown instead; None where no page has such a parameter.
    """

    name: str
    asked: str
    shown: str | None


def remember_link() -> None:
    """Note what the link asks for, as long as no widget has answered it; before the first is drawn."""
    st.session_state[_UNUSABLE] = {}
    if _ASKED not in st.session_state:
        st.session_state[_ASKED] = {name: st.query_params.get_all(name) for name in st.query_params}


def refuse_value(name: LinkName, shown: str) -> None:
    """Note that a widget's value is of no use, and what is shown instead; after the widget is drawn."""
    st.session_state[_UNUSABLE][name] = shown


def refused_values(page: str) -> list[RefusedValue]:
    """What the link asked for and the page does not show, until somebody chooses otherwise or leaves the page.

    Every widget is compared with what the link said of it, once all are drawn, so no widget needs a check of its own.
    """
    if asked := st.session_state[_ASKED]:
        st.session_state[_REFUSED] = page, _compare(asked)
        st.session_state[_ASKED] = {}
    first, refused = st.session_state.get(_REFUSED, (page, []))
    if first != page:
        return []
    return [value for value in refused if value.shown is None or value.shown == _shown(value.name)]


def _compare(asked: dict[str, list[str]]) -> list[RefusedValue]:
    refused = []
    for name, values in asked.items():
        text = ", ".join(values)
        if name not in (RUN, _SLIDE, *get_args(LinkName)):
            refused.append(RefusedValue(name, text, None))
        elif name in st.session_state and not _same(_shown(name), text):
            refused.append(RefusedValue(name, text, _shown(name)))
    return refused


def _shown(name: str) -> str:
    return str(st.session_state[_UNUSABLE].get(name, _value_text(name)))


def _value_text(name: str) -> str:
    value = st.session_state.get(name)
    values = value if isinstance(value, list | tuple) else [value]
    return ", ".join(str(item).lower() if isinstance(item, bool) else str(item) for item in values)


def _same(shown: str, asked: str) -> bool:
    try:
        return float(shown) == float(asked)
    except ValueError:
        return shown.casefold() == asked.casefold()


# A widget that a page does not show is drawn out of sight as one of another kind: Streamlit's browser side takes one of
# the same kind for the one that the page before showed, and when that goes, forgets that the value belongs to the link.


def keep_choice(name: SharedLinkName, options: Sequence[str]) -> str:
    """Hold on to one of a row of options in the link, at first the first."""
    return str(st.selectbox(name, options, **in_link(name)) or options[0])


def chosen_option(name: LinkName, options: Sequence[str]) -> str:
    """What the session or the link says of a row of options whose widget is drawn later, at first the first."""
    chosen = st.session_state.get(name, st.query_params.get(name))
    return chosen if chosen in options else options[0]


def keep_option(name: SharedLinkName, options: Sequence[str]) -> None:
    """Hold on to an option of a list in the link."""
    st.radio(name, options, **in_link(name))


def keep_number(name: SharedLinkName, low: float, high: float, start: float) -> None:
    """Hold on to a number in the link."""
    st.slider(name, low, high, start, **in_link(name))


def number(name: LinkName, start: float) -> float:
    """What a number of the link stands at; `start` where no page has drawn its widget."""
    return float(st.session_state.get(name, start))


def whole_number(name: LinkName, start: int) -> int:
    """What the session or the link says of a whole number whose widget is drawn later."""
    value = str(st.session_state.get(name, st.query_params.get(name, "")))
    return int(value) if value.isdecimal() else start


def set_number(name: LinkName, value: float) -> None:
    """Set a number of the link, from a callback."""
    st.session_state[name] = value


def text(name: LinkName, start: str) -> str:
    """What the session or the link says of a text whose widget is drawn later."""
    return str(st.session_state.get(name) or st.query_params.get(name) or start)


def limit_number(name: LinkName, largest: int) -> None:
    """Lower a number that another model's pages allowed; before its widget is drawn."""
    if st.session_state.get(name, 0) > largest:
        st.session_state[name] = largest


def limit_choice(name: LinkName, options: Sequence[str]) -> None:
    """Go back to the first option from one that other widgets no longer allow; before its widget is drawn."""
    if st.session_state.get(name, options[0]) not in options:
        st.session_state[name] = options[0]


def follow_default(name: LinkName, usual: str | int) -> None:
    """Let a choice that stands at its default follow it to another default; before its widget is drawn."""
    key = f"{_DEFAULT}{name}"
    before, st.session_state[key] = st.session_state.get(key), usual
    if before not in (None, usual) and st.session_state.get(name) == before:
        st.session_state[name] = usual


def forget_text(name: LinkName) -> None:
    """Let a text of the link be empty again."""
    st.session_state.pop(name, None)


def keep_text(name: SharedLinkName, start: str = "") -> None:
    """Hold on to a text in the link, at first `start`."""
    st.text_area(name, start, **in_link(name))


def slide(names: list[str]) -> str:
    """The slide of a presentation that the link names, or the first."""
    name = st.query_params.get(_SLIDE, names[0])
    st.session_state[_SLIDE] = name if name in names else names[0]
    return str(st.session_state[_SLIDE])


def turn_to(name: str) -> None:
    """Put a slide into the link, from a callback."""
    st.query_params[_SLIDE] = name
