"""What is selected in charts."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

_SELECTION, _DRAWN = "selection", "selections made"


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
