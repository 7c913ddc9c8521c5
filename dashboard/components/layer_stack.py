"""The layer stack whose line is dragged: the depth's figures move with it, and the page follows when it is let go."""

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from ..charts.stack import stack_html
from ..charts.theme import FROZEN, TRAINED

_FOLDER = Path(__file__).parent
_KEY = "layer-stack"
_SLIDER_STAYS = "The line cannot be dragged in this browser. Use the slider below."

_component = st.components.v2.component(
    "semfreeze_layer_stack",
    html='<div class="stack"></div>',
    css=(_FOLDER / "layer_stack.css").read_text("utf-8"),
    js=(_FOLDER / "layer_stack.js").read_text("utf-8"),
)


def draggable_stack(
    n_layers: int, depth: int, description: str, readouts: Sequence[str], on_depth: Callable[[int], None]
) -> None:
    """The stack at a freeze depth, whose line can be dragged, or moved with the arrow keys.

    Without its script the page has the same stack, drawn still, and says to use the slider.

    Args:
        n_layers: L, one cell each.
        depth: k, 0..L.
        description: the stack in words, for screen readers.
        readouts: what is said of each depth while the line is moved, entry k for depth k; as many as may be chosen.
        on_depth: called with the depth once the line is let go.
    """

    def moved() -> None:
        if (chosen := st.session_state[_KEY].depth) is not None:
            on_depth(min(max(int(chosen), 0), len(readouts) - 1))

    _component(
        key=_KEY,
        data={
            "html": stack_html(n_layers, depth, description),
            "layers": n_layers,
            "depth": depth,
            "readouts": list(readouts),
            "frozen": FROZEN,
            "trained": TRAINED,
            "still": _SLIDER_STAYS,
        },
        on_depth_change=moved,
    )
