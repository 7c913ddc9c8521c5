"""Target tokens in a row, each colored by the layer from which the head predicts it."""

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from semfreeze_core.records.display import DisplaySample
from semfreeze_core.wording.escaping import terminal_text

from .theme import OTHERS

_FAINTEST = 12  # percent of the color


def settled_space(display: DisplaySample, position: int) -> int | None:
    """The first hidden state from which on the head's best guess is the target token; None where the last one's is not.

    Args:
        display: of the run.
        position: one of those that were read out.
    """
    right: npt.NDArray[np.bool_] = display.read_top[position, :, 0] == display.label_ids[position]
    if not right[-1]:
        return None
    wrong = np.flatnonzero(~right)
    return int(wrong[-1]) + 1 if len(wrong) else 0


def settled_spaces(display: DisplaySample, positions: Sequence[int]) -> list[int] | None:
    """How many hidden states each target token is predicted in without a break up to the last one; None of no token.

    Args:
        display: of the run.
        positions: of one example, those that were read out.
    """
    n_spaces = len(display.coordinates)
    spaces = [settled_space(display, position) for position in positions]
    return [0 if space is None else n_spaces - space for space in spaces] or None


def token_strip_html(display: DisplaySample, positions: Sequence[int]) -> str:
    """The tokens as HTML, in the order of the positions."""
    last = len(display.coordinates) - 1
    cells = []
    for position in positions:
        text = escape(visible_token(display.token_text[int(display.label_ids[position])]))
        space = settled_space(display, position)
        if space is None:
            title, look = "not predicted by the last hidden state", "border:1px dashed currentColor"
        else:
            share = _FAINTEST + round((100 - _FAINTEST) * (1 - space / last) * 0.6)
            title = f"predicted from hidden state {space} on"
            look = f"border:1px solid transparent;background:color-mix(in srgb, {OTHERS[0]} {share}%, transparent)"
        cells.append(f'<span title="{title}" style="padding:0 2px;border-radius:2px;{look}">{text}</span>')
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:3px;font-family:monospace;font-size:14px;line-height:22px">'
        f"{''.join(cells)}</div>"
    )


def visible_token(text: str) -> str:
    """A token's text with its white space made visible."""
    return terminal_text(text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣").replace("\xa0", "␣")) or "(empty)"
