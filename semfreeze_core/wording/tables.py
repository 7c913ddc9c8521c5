"""A table as text: titled columns and rows of cells, to be drawn by a terminal, a page or an HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: its heading.
        text: whether its cells are prose or names, set to the left; numbers are set to the right.
    """

    title: str
    text: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under titled columns.

    Attributes:
        columns: one for each cell of a row.
        rows: the cells, ready to be shown.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        titles = [column.title for column in self.columns]
        if len(set(titles)) < len(titles):
            raise ValueError(f"two columns have the same title: {titles}")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells, expected {len(self.columns)}: {row}")

    def without(self, *titles: str) -> "Table":
        """The same table with the titled columns left out."""
        places = [i for i, column in enumerate(self.columns) if column.title not in titles]
        return Table(tuple(self.columns[i] for i in places), tuple(tuple(row[i] for i in places) for row in self.rows))

    def dicts(self) -> list[dict[str, str]]:
        """One dictionary per row, from column title to cell."""
        return [dict(zip((column.title for column in self.columns), row, strict=True)) for row in self.rows]


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    """A table from any sequences of columns and rows.

    Raises:
        ValueError: a title appears twice, or a row has another number of cells than there are columns.
    """
    return Table(tuple(columns), tuple(map(tuple, rows)))
