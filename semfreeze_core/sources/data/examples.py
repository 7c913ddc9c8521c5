"""A task file or hub dataset as examples: rows -> fields -> sample.

The file is read twice. The first pass checks every row, so that a broken one is found whatever the sample, and keeps
only row numbers and labels; the second keeps the rows that were drawn.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import MIN_SLICE
from semfreeze_core.records.examples import Example
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.chat import render_chat, require_chat_template, shows_tools
from semfreeze_core.sources.data.fields import RenderChat, beside_chat, example_from_row, resolve_fields
from semfreeze_core.sources.data.readers import Row
from semfreeze_core.sources.data.rows import RowSource, open_rows
from semfreeze_core.sources.data.sampling import sample_rows
from semfreeze_core.sources.data.schemas import TOOLS_COLUMN

_ROWS_PER_EVENT = 1000
MAX_GROUP_COLUMNS, MAX_GROUP_VALUES, LONGEST_GROUP_VALUE = 8, 40, 80


@dataclass(frozen=True)
class ExampleSet:
    """Examples drawn from one source.

    Attributes:
        examples: in seeded order; a prefix is a random sample too, though not drawn by label.
        n_rows: rows in the source.
        n_usable: rows with something supervised, >= len(examples).
        notes: what a reader should know: guessed fields, skipped rows, how the sample was drawn.
        mapping: the fields as they were read, guesses included.
        source: as the user wrote it.
        file_digest: sha256 of the file's bytes in hexadecimal; None for a hub dataset.
        groups: other columns of the file that sort the examples into groups, each as its value by example.
    """

    examples: tuple[Example, ...]
    n_rows: int
    n_usable: int
    notes: tuple[str, ...]
    mapping: FieldMapping
    source: str
    file_digest: str | None
    groups: dict[str, tuple[str | None, ...]]


def read_examples(
    source: str,
    *,
    mapping: FieldMapping,
    split: str | None = None,
    n: int | None,
    seed: int,
    tokenizer: Any = None,
    progress: Progress = silent,
) -> ExampleSet:
    """Up to `n` examples of a source, drawn with `seed` and by label where there are classes.

    Args:
        source: as for `open_rows`.
        mapping: fields the user named; the others are guessed where that is safe.
        split: of a hub dataset.
        n: examples wanted, at least 1; None means all.
        seed: of the sample and its order; the same source, mapping, n and seed give the same examples.
        tokenizer: a transformers tokenizer; needed for chat messages only, whose text its template writes.
        progress: receives the rows read.

    Raises:
        DataError: from the source, the fields or any row (the message says where it stands); no row has anything
            supervised; the file changes while it is read.
    """
    if n is not None and n < 1:
        raise DataError(f"{n} examples were asked for: at least 1 is needed.")
    rows = open_rows(source, split)
    digest = _file_digest(rows.path)
    mapping, notes = resolve_fields(mapping, rows.columns())
    render = _chat_renderer(tokenizer) if mapping.messages_field is not None else None
    if TOOLS_COLUMN in beside_chat(mapping, rows.columns()) and not shows_tools(tokenizer):
        notes.append(f"Not read: the column {TOOLS_COLUMN!r}. The model's chat template has no place for tools.")

    usable, labels = array("q"), list[str | None]()
    label_objects: dict[str | None, str | None] = {}  # one string a class instead of one a row
    n_rows = 0
    for number, example in _examples(rows, mapping, render):
        n_rows = number + 1
        if example is not None:
            usable.append(number)
            labels.append(label_objects.setdefault(example.label, example.label))
        if n_rows % _ROWS_PER_EVENT == 0:
            progress(ProgressEvent("Checking rows", n_rows, unit="rows"))
    if not usable:
        raise DataError(f"{source}: nothing supervised. All {n_rows} rows have {_what_is_missing(mapping)}.")
    if len(usable) < n_rows:
        notes.append(f"{n_rows - len(usable)} of {n_rows} rows are left out: {_what_is_missing(mapping)}.")

    indices, sampling_notes = sample_rows(labels, n, seed)
    order = [usable[i] for i in indices]
    examples, drawn_rows = _drawn_examples(rows, mapping, render, order)
    if digest != _file_digest(rows.path):
        raise DataError(f"{source} changed while it was read. Run again once nothing writes to it.")
    notes += sampling_notes + _joint_note(examples)
    if digest is None:
        notes.append("A hub dataset has no single file, so no digest of the data's bytes is recorded.")
    progress(ProgressEvent("Checking rows", n_rows, n_rows, "rows"))
    groups = group_columns(drawn_rows, mapping.columns, MIN_SLICE)
    return ExampleSet(examples, n_rows, len(usable), tuple(notes), mapping, source, digest, groups)


def _chat_renderer(tokenizer: Any) -> RenderChat:
    if tokenizer is None:
        raise DataError("Chat messages need the model's tokenizer: its chat template writes the text.")
    require_chat_template(tokenizer)  # before the first row, so that the message does not blame that row
    return partial(render_chat, tokenizer)


def _examples(
    rows: RowSource, mapping: FieldMapping, render: RenderChat | None
) -> Iterator[tuple[int, Example | None]]:
    """Yield (row number, example or None) for every row; errors say where the row stands."""
    for number, row in rows:
        try:
            example = example_from_row(row, number, mapping, render)
        except DataError as error:
            raise DataError(f"{rows.place(number)}, {error}.") from error
        yield number, example


def _drawn_examples(
    rows: RowSource, mapping: FieldMapping, render: RenderChat | None, order: list[int]
) -> tuple[tuple[Example, ...], list[Row]]:
    """The examples of the rows in `order`, in that order, and the rows."""
    drawn: dict[int, Example | None] = dict.fromkeys(order)
    drawn_rows: dict[int, Row] = {}
    last = max(order)
    for number, row in rows:
        if number in drawn:
            drawn[number] = example_from_row(row, number, mapping, render)
            drawn_rows[number] = row
        if number == last:
            break
    examples = tuple(example for number in order if (example := drawn[number]) is not None)
    if len(examples) != len(order):
        raise DataError(f"{rows.name} changed while it was read. Run again once nothing writes to it.")
    return examples, [drawn_rows[number] for number in order]


def _file_digest(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _what_is_missing(mapping: FieldMapping) -> str:
    if mapping.messages_field is not None:
        return f"no answer of an assistant in {mapping.messages_field!r}"
    return f"no text in {mapping.text_field or mapping.completion_field!r}"


def group_columns(
    rows: Sequence[Mapping[str, Any]], taken: Collection[str], smallest: int
) -> dict[str, tuple[str | None, ...]]:
    """The columns that make groups, each as its value by row; at most MAX_GROUP_COLUMNS, in the file's order.

    A column makes groups when its values are words, whole numbers or truth values, between 2 and MAX_GROUP_VALUES of
    them, none longer than LONGEST_GROUP_VALUE characters, and at least two of them are shared by `smallest` rows.

    Args:
        rows: as they stand in the file.
        taken: columns that are something else already, such as the prompt.
        smallest: rows of a group that can be analyzed.
    """
    groups: dict[str, tuple[str | None, ...]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if name in taken or len(groups) == MAX_GROUP_COLUMNS:
            continue
        values = [row.get(name) for row in rows]
        if not all(value is None or isinstance(value, str | int) for value in values):
            continue
        # An empty field of a CSV file is "", and a row without a value is in no group.
        texts = tuple(None if value is None else str(value).strip() or None for value in values)
        counts = Counter(text for text in texts if text is not None)
        large = sum(count >= smallest for count in counts.values())
        if large >= 2 and len(counts) <= MAX_GROUP_VALUES and max(map(len, counts)) <= LONGEST_GROUP_VALUE:
            groups[name] = texts
    return groups


def _joint_note(examples: tuple[Example, ...]) -> list[str]:
    """A warning where the end of the prompt and the start of the completion run into one word."""
    touching = sum(
        not example.complete
        and example.prompt != ""
        and not example.prompt[-1].isspace()
        and not example.completion[0].isspace()
        for example in examples
    )
    if not touching:
        return []
    return [
        f"In {touching} of {len(examples)} examples the completion follows the prompt without white space between "
        "them; if that is not meant, end the prompt with a space or line break (--template)."
    ]
