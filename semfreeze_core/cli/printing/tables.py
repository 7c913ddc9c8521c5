"""Tables of text drawn for a terminal."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table as RichTable

from semfreeze_core.wording.escaping import terminal_text
from semfreeze_core.wording.tables import Table

_GAP = 2  # columns of space beside each cell, one on either side
_TEXT_WIDTH = 116


class SafeConsole(Console):
    """A console whose only control sequences are its own: those in the texts that it prints are written out."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(emoji=False, **settings)

    def render(self, renderable: RenderableType, *args: Any, **options: Any) -> Iterable[Segment]:
        """The renderable as segments of text, as rich has it."""
        for segment in super().render(renderable, *args, **options):
            yield segment if segment.control else segment._replace(text=terminal_text(segment.text))


def console() -> Console:
    """Console of reports: never narrower than their sentences are written for."""
    return SafeConsole(highlight=False, width=max(Console().width, _TEXT_WIDTH))


def print_table(table: Table, out: Console) -> None:
    """Print a table; headings wrap, cells of numbers do not, and the console widens where they need it."""
    drawn = RichTable(box=None, padding=(0, 1), header_style="dim")
    needed = 0
    for i, column in enumerate(table.columns):
        longest = max([len(row[i]) for row in table.rows] + [len(word) for word in column.title.split(" ")])
        if column.text:
            drawn.add_column(escape(column.title), overflow="fold")
            needed += min(longest, 24) + _GAP
        else:
            drawn.add_column(escape(column.title), justify="right", width=longest)
            needed += longest + _GAP
    for row in table.rows:
        drawn.add_row(*map(escape, row))
    width = out.width
    try:
        out.width = max(width, needed)
        out.print(drawn)
    finally:
        out.width = width
