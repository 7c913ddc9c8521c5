"""What a page remembers: the only place that names session state and the query string.

Everything that decides what is seen is in the link, so that a pasted one shows the same view. Streamlit binds a keyed
widget to the query parameter of its key, and drops values there that the widget would not take.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import streamlit as st

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.wording.escaping import markdown_text

SharedLinkName = Literal[  # drawn on every page, out of sight where it does not show them
    "start",
    "objective",
    "gib",
    "hours",
    "steps",
    "judged",
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
    "batch",
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
]
_RUN, _FORM = "run", "form "
_ASKED, _REFUSED = "link asked", "link refused"  # what the link said, and what of it is not shown
_UNUSABLE = "unusable"  # values that widgets took and nothing can be done with, and what is shown instead
_DEPTH: SharedLinkName = "depth"
_SLIDE, _SETUP = "slide", "training setup"
_ESTIMATED = "estimated layers"
_STARTED = "begun"  # what was started in this session and has not been shown yet
_ANNOUNCED = "announced"
_SELECTION, _DRAWN = "selection", "selections made"
_START = "start depth"
_DEFAULT = "default of "
_FOLLOWED = "followed"  # the pick the depth was last set to; not in the link, as it follows from what is


OPEN_RUN, NEW_ANALYSIS = "The open run", "New analysis"  # whose data the page Data shows; the first at first


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
        if name not in (_RUN, _SLIDE, *get_args(LinkName)):
            refused.append(RefusedValue(name, text, None))
        elif name in st.session_state and not _same(_shown(name), text):
            refused.append(RefusedValue(name, text, _shown(name)))
    return refused


def _shown(name: str) -> str:
    return str(st.session_state[_UNUSABLE].get(name, _in_words(name)))


def _in_words(name: str) -> str:
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


def text(name: LinkName, start: str) -> str:
    """What the session or the link says of a text whose widget is drawn later."""
    return str(st.session_state.get(name) or st.query_params.get(name) or start)


def limit_number(name: LinkName, largest: int) -> None:
    """Lower a number that another model's pages allowed; before its widget is drawn."""
    if st.session_state.get(name, 0) > largest:
        st.session_state[name] = largest


def follow_default(name: LinkName, usual: str) -> None:
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


def keep_depth(last: int, start: int) -> None:
    """Hold on to the depth in the link."""
    _follow_start(last, start)
    st.number_input(_DEPTH, 0, last, start, **in_link(_DEPTH))


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


def link_to_finetune_form(depth: int, start: int) -> dict[str, str]:
    """What a link to the form of new finetunes says beyond what goes along anyway: open, at this depth.

    The depth that the form begins at is left out, as Streamlit leaves out a default. So is 0: there is nothing to test
    in full finetuning, and the form has no such depth.
    """
    if depth not in (0, start):
        return {"tested": str(depth), "prove": "true"}
    st.session_state.pop("tested", None)  # which would come back
    return {"prove": "true"}


def keep_training_setup(options: EstimateOptions, gpu: Gpu | None) -> None:
    """Hand the training setup, which stands beside all pages, to the page."""
    st.session_state[_SETUP] = options, gpu


def training_setup() -> tuple[EstimateOptions, Gpu | None]:
    """The training setup of the open run, and the GPU it is for, or None."""
    options, gpu = st.session_state[_SETUP]
    return options, gpu


def await_started(name: str) -> None:
    """Have what was started chosen as soon as it is there to be chosen."""
    st.session_state[_STARTED] = name


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


def pick_run(names: list[str], first: str) -> str:
    """The run picker; returns the run chosen.

    Args:
        names: of the runs there are.
        first: the one that opens when nobody asks for another.
    """
    if st.session_state.get(_RUN) not in names:
        st.session_state.pop(_RUN, None)  # removed while it was open
    chosen = st.selectbox("Run", names, names.index(first), key=_RUN, bind="query-params",
                          help="A finished analysis of a model on data.")  # fmt: skip
    return chosen or first


def run_of_link(names: list[str], first: str) -> str:
    """The run that the session or the link asks for, before the picker is drawn; `first` where it is none of these."""
    name = st.session_state.get(_RUN) or st.query_params.get(_RUN)
    return name if name in names else first


def depth_of_link(recommended: int | None) -> int | None:
    """The depth that the session or the link asks for, before its slider is drawn, else the recommended one."""
    asked = str(st.session_state.get(_DEPTH, st.query_params.get(_DEPTH, "")))
    return int(asked) if asked.isdecimal() else recommended


def choose_run(name: str) -> None:
    """Open another run, from a callback; in a fragment the whole page has to be drawn again after it.

    The page Data shows it then, rather than the form of a new analysis.
    """
    st.session_state[_RUN] = name
    st.session_state["do"] = OPEN_RUN


def open_run_name() -> str:
    """The run that the picker chose."""
    return str(st.session_state[_RUN])


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


# The widgets of a setup's fields, where they are not called as the fields are.
_WIDGETS: dict[str, LinkName] = {
    "batch_size": "batch",
    "sequence_length": "length",
    "prefix_cache": "cache",
    "lora": "adapters",
    "lora_rank": "rank",
    "frozen_bits": "bits",
}


def apply_setup(changes: Mapping[str, object]) -> None:
    """Set widgets of the training setup, from a callback.

    Args:
        changes: by fields of an EstimateOptions; a stock trainer, which settles some of them, is left for these.
    """
    for name, value in changes.items():
        st.session_state[_WIDGETS.get(name, name)] = value
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


def slide(names: list[str]) -> str:
    """The slide of a presentation that the link names, or the first."""
    name = st.query_params.get(_SLIDE, names[0])
    st.session_state[_SLIDE] = name if name in names else names[0]
    return str(st.session_state[_SLIDE])


def turn_to(name: str) -> None:
    """Put a slide into the link, from a callback."""
    st.query_params[_SLIDE] = name


def clicked(key: str, field: str = "points") -> list[Any]:
    """What is selected in the chart of a key, from a callback."""
    return list(st.session_state.get(key, {}).get("selection", {}).get(field, []))


@dataclass(frozen=True)
class Selection:
    """Positions selected in the projection, and where the reader was looking.

    Attributes:
        run: whose positions they are.
        positions: indices into its display sample.
        space: the latent space they were selected in.
        depth: the freeze depth then.
    """

    run: str
    positions: tuple[int, ...]
    space: int
    depth: int


def selection(run: str) -> Selection | None:
    """What is selected in a run's projection."""
    selected: Selection | None = st.session_state.get(_SELECTION)
    return selected if selected is not None and selected.run == run else None


def keep_selection(selected: Selection | None) -> None:
    """Remember a selection, or with None forget it; the chart it was made in is drawn anew, without its outline."""
    st.session_state[_SELECTION] = selected
    st.session_state[_DRAWN] = selections_made() + 1


def selections_made() -> int:
    """How many selections there were in this session."""
    return int(st.session_state.get(_DRAWN, 0))


def dark_theme() -> bool:
    """Whether the reader's theme is dark."""
    return st.context.theme.type == "dark"
