"""The layer stack: one cell a layer, input side left, frozen ones in ice blue, trained ones warm, a line between."""

from html import escape

from .theme import FROZEN, GRAY, TRAINED

_MOST_NUMBERS = 12
_COLORS = {"undecided": GRAY, "frozen": FROZEN, "trained": TRAINED}
_ROW, _CELL = "display:flex;gap:2px", "flex:1 1 0;min-width:0"
_NARROW = "display:flex;gap:1px"
_SMALL = "font-size:12px;line-height:16px;opacity:0.75"
_LINE = "box-shadow:-3px 0 currentColor"  # in the gap before a cell, in the page's own ink


def stack_html(n_layers: int, depth: int | None, description: str) -> str:
    """The stack at a freeze depth as HTML; all gray when there is none.

    Plain boxes and not a figure, as every page begins with it: a browser takes longer to load Plotly than all the rest
    of the first page. No SVG, which Streamlit strips.

    Args:
        n_layers: L, one cell each.
        depth: k, 0..L, or None.
        description: the stack in words, for screen readers.
    """
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, n_layers) if n_layers <= step * _MOST_NUMBERS)
    cells = "".join(_cell(layer, depth) for layer in range(n_layers))
    numbers = "".join(_number("" if layer % step else str(layer)) for layer in range(n_layers))
    frozen, trained = ("", "") if depth is None else (f": {depth} frozen", f"{n_layers - depth} trained, ")
    return (
        f'<div role="img" aria-label="{escape(description)}">'
        f'<div style="{_ROW};height:24px">{cells}</div>'
        f'<div style="{_ROW};{_SMALL}">{numbers}</div>'
        f'<div style="{_ROW};{_SMALL};justify-content:space-between">'
        f"<span>input side{frozen}</span><span>{trained}output side</span></div></div>"
    )


def strip_html(n_layers: int, depth: int | None) -> str:
    """The stack as a narrow strip under a sentence that says the same; arguments as those of `stack_html`."""
    cells = "".join(_cell(layer, depth) for layer in range(n_layers))
    return f'<div aria-hidden="true" style="{_NARROW};height:10px">{cells}</div>'


def _cell(layer: int, depth: int | None) -> str:
    """One layer's cell; the first trained one behind frozen ones begins with the line."""
    state = "undecided" if depth is None else "frozen" if layer < depth else "trained"
    line = _LINE if depth and layer == depth else ""
    return f'<div title="layer {layer}: {state}" style="{_CELL};background:{_COLORS[state]};{line}"></div>'


def _number(text: str) -> str:
    """A place below a cell; what is wider than the cell stands out on both sides alike."""
    return f'<div style="{_CELL};display:flex;justify-content:center">{text}</div>'
