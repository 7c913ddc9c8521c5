"""Columns of a task file that sort its rows into groups: few different values, many rows each."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

MOST_COLUMNS, MOST_VALUES, LONGEST_VALUE = 8, 40, 80


def group_columns(
    rows: Sequence[Mapping[str, Any]], taken: Collection[str], smallest: int
) -> dict[str, tuple[str | None, ...]]:
    """The columns that make groups, each as its value by row; at most MOST_COLUMNS, in the file's order.

    A column makes groups when its values are words, whole numbers or truth values, between 2 and MOST_VALUES of them,
    none longer than LONGEST_VALUE characters, and at least two of them are shared by `smallest` rows.

    Args:
        rows: as they stand in the file.
        taken: columns that are something else already, such as the prompt.
        smallest: rows of a group that can be read.
    """
    found: dict[str, tuple[str | None, ...]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if name in taken or len(found) == MOST_COLUMNS:
            continue
        values = [row.get(name) for row in rows]
        if not all(value is None or isinstance(value, str | int) for value in values):
            continue
        # An empty field of a CSV file is "", and a row without a value is in no group.
        words = tuple(None if value is None else str(value).strip() or None for value in values)
        counts = Counter(word for word in words if word is not None)
        large = sum(count >= smallest for count in counts.values())
        if large >= 2 and len(counts) <= MOST_VALUES and max(map(len, counts)) <= LONGEST_VALUE:
            found[name] = words
    return found
