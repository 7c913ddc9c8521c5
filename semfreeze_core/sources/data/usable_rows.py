"""Which rows of a source can be used: every row is tried, and one that cannot be read is listed with its reason."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.examples import Segment, SkippedRow
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.fields import LabelError, RenderChat, example_from_row
from semfreeze_core.sources.data.messages import Message, is_target
from semfreeze_core.sources.data.readers import UnreadableRow
from semfreeze_core.sources.data.rows import RowSource

MOST_SKIPPED = 10_000  # that are listed; a file of another kind has millions of rows that cannot be read
NOTED_ROWS = 3
_ROWS_PER_EVENT = 1000


@dataclass
class CheckedRows:
    """What is known of a source's rows once each was tried.

    Attributes:
        usable: numbers of the rows with something supervised.
        labels: their labels.
        n_rows: rows in the source.
        skipped: the first rows that cannot be read.
        n_skipped: how many cannot.
        label_problem: why a guessed label is none; the pass ends there.
    """

    usable: "array[int]"
    labels: list[str | None]
    n_rows: int = 0
    skipped: list[SkippedRow] = field(default_factory=list)
    n_skipped: int = 0
    label_problem: str | None = None


def check_rows(
    rows: RowSource, mapping: FieldMapping, render: RenderChat | None, label_is_guessed: bool, progress: Progress
) -> CheckedRows:
    """Try every row of a source; the pass ends early where a guessed label is none.

    Args:
        rows: all of the source.
        mapping: as `resolve_fields` returns it.
        render: turns the messages of a chat into segments; needed for chats only.
        label_is_guessed: whether a label of another kind is the guess's fault, not the row's.
        progress: receives the number of rows tried.
    """
    checked = CheckedRows(array("q"), [])
    label_objects: dict[str | None, str | None] = {}  # one string a class instead of one a row
    for number, (file, line, row) in enumerate(rows.placed()):
        checked.n_rows = number + 1
        try:
            if isinstance(row, UnreadableRow):
                raise DataError(row.reason)
            example = example_from_row(row, number, mapping, render)
        except DataError as error:
            reason = str(error).removeprefix(f"row {number}: ")
            skipped = SkippedRow(number, file, line, reason)
            if isinstance(error, LabelError) and label_is_guessed:
                checked.label_problem = f"{skipped.location}: {reason}"
                return checked
            checked.n_skipped += 1
            if len(checked.skipped) < MOST_SKIPPED:
                checked.skipped.append(skipped)
        else:
            if example is not None:
                checked.usable.append(number)
                checked.labels.append(label_objects.setdefault(example.label, example.label))
        if checked.n_rows % _ROWS_PER_EVENT == 0:
            progress(ProgressEvent("Checking rows", checked.n_rows, unit="rows"))
    return checked


def first_reasons(skipped: Sequence[SkippedRow], n: int = NOTED_ROWS) -> str:
    """Where the first `n` rows that cannot be read stand, and why."""
    files = {row.file for row in skipped}
    return "; ".join(f"{f'{row.file}, ' if len(files) > 1 else ''}{row.location}: {row.reason}" for row in skipped[:n])


def require_usable(checked: CheckedRows, source: str, mapping: FieldMapping) -> None:
    """Refuse a source without a row that can be used.

    Raises:
        DataError: with the first reason.
    """
    if checked.usable:
        return
    n_rows, n_empty = checked.n_rows, checked.n_rows - checked.n_skipped
    if checked.n_skipped:
        raise DataError(
            f"{source}: none of {n_rows:,} rows can be used. "
            f"{checked.n_skipped:,} cannot be read, the first of them: {first_reasons(checked.skipped, 1)}."
            + (f" {n_empty:,} have {what_is_missing(mapping)}." if n_empty else "")
        )
    raise DataError(f"{source}: nothing supervised. All {n_rows} rows have {what_is_missing(mapping)}.")


def what_is_missing(mapping: FieldMapping) -> str:
    """Why a row that can be read has no target."""
    if mapping.messages_field is not None:
        return f"no answer of an assistant in {mapping.messages_field!r}"
    return f"no text in {mapping.text_field or mapping.completion_field!r}"


def check_for_trainer(rows: RowSource, mapping: FieldMapping, render: RenderChat | None = None) -> CheckedRows:
    """Try every row as an analysis does, for a configuration with which another program reads them.

    Args:
        rows: all of the source.
        mapping: as `resolve_fields` returns it.
        render: turns the messages of a chat into segments; without it, where no model is at hand, chats are checked for
            their messages, not for what a model's template makes of them.

    Raises:
        DataError: no row can be used.
    """
    checked = check_rows(rows, mapping, render or _targets_alone, label_is_guessed=False, progress=silent)
    require_usable(checked, rows.name, mapping)
    return checked


def _targets_alone(messages: Sequence[Message], *_: Any) -> tuple[Segment, ...]:
    return tuple(Segment(message["content"], supervised=is_target(message)) for message in messages[1:])
