"""A task file or hub dataset as examples: rows -> fields -> sample.

The file is read twice. The first pass checks every row, so that a broken one is counted whatever the sample, and keeps
only row numbers and labels; the second keeps the rows that were drawn. A row that cannot be read is skipped and listed
with its reason.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import MIN_SLICE
from semfreeze_core.records.examples import Example, RowCounts, SkippedRow
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.chat import render_chat, require_chat_template, shows_tools
from semfreeze_core.sources.data.fields import (
    RenderChat,
    beside_chat,
    example_from_row,
    holds_pairs_of_messages,
    resolve_fields,
)
from semfreeze_core.sources.data.readers import Row
from semfreeze_core.sources.data.rows import RowSource, files_digest, open_rows
from semfreeze_core.sources.data.sampling import sample_rows
from semfreeze_core.sources.data.schemas import TOOLS_COLUMN
from semfreeze_core.sources.data.usable_rows import (
    NOTED_ROWS,
    check_rows,
    first_reasons,
    require_usable,
    what_is_missing,
)

MAX_GROUP_COLUMNS, MAX_GROUP_VALUES, LONGEST_GROUP_VALUE = 8, 40, 80


@dataclass(frozen=True)
class ExampleSet:
    """Examples drawn from one source.

    Attributes:
        examples: in seeded order; a prefix is a random sample too, though not drawn by label.
        n_rows: rows in the source.
        n_usable: rows with something supervised, >= len(examples).
        notes: what a reader should know: guessed fields, skipped rows, how the sample was drawn.
        n_skipped: rows that cannot be read.
        skipped: the first MOST_SKIPPED of them.
        mapping: the fields as they were read, guesses included.
        source: as the user wrote it.
        file_digest: sha256 of the bytes of the file, or of a folder's files in order, in hexadecimal; None for a
            hub dataset.
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
    n_skipped: int = 0
    skipped: tuple[SkippedRow, ...] = ()

    @property
    def counts(self) -> RowCounts:
        """What the examples were taken from: all rows, or those that were drawn where more can be used."""
        if len(self.examples) < self.n_usable:
            return RowCounts(len(self.examples))
        n_empty = self.n_rows - self.n_usable - self.n_skipped
        causes = [f"{n_empty} left out: {what_is_missing(self.mapping)}"] if n_empty else []
        causes += [f"{self.n_skipped} skipped: {first_reasons(self.skipped, 1)}"] if self.n_skipped else []
        return RowCounts(self.n_rows, tuple(causes))

    @property
    def skipped_note(self) -> str | None:
        """How many rows are skipped, and why the first of them; None where none is."""
        if not self.n_skipped:
            return None
        more = self.n_skipped - NOTED_ROWS
        rest = f"; and {more:,} more, which `semfreeze preview --skipped FILE` lists" if more > 0 else ""
        return (
            f"{self.n_skipped:,} of {self.n_rows:,} rows {'is' if self.n_skipped == 1 else 'are'} skipped: "
            f"{first_reasons(self.skipped)}{rest}."
        )


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
    digest = _digest(rows)
    asked = mapping
    columns = rows.columns()
    mapping, read_notes = resolve_fields(asked, columns)
    notes, unread = list[str](), set[str]()
    chats = mapping.messages_field is not None
    if holds_pairs_of_messages((row for _, row in rows), mapping):
        chats = True
        notes.append(
            f"{mapping.prompt_field!r} and {mapping.completion_field!r} hold messages: each row is a chat, and the "
            "messages of the completion are its targets."
        )
    render = chat_renderer(tokenizer) if chats else None
    if TOOLS_COLUMN in beside_chat(mapping, columns) and not shows_tools(tokenizer):
        unread.add(TOOLS_COLUMN)
        notes.append(f"Not read: the column {TOOLS_COLUMN!r}. The model's chat template has no place for tools.")

    label_is_guessed = asked.label_field is None
    checked = check_rows(rows, mapping, render, label_is_guessed, progress)
    if checked.label_problem is not None:
        notes.append(
            f"The labels in {mapping.label_field!r} are left out ({checked.label_problem}). Name another column with "
            "--label-field to draw and compare by class."
        )
        unread.add(str(mapping.label_field))
        mapping = replace(mapping, label_field=None)
        checked = check_rows(rows, mapping, render, label_is_guessed, progress)
    if unread:
        read_notes = resolve_fields(asked, columns, unread=unread)[1]
    notes = [*read_notes, *notes]
    usable, labels, n_rows = checked.usable, checked.labels, checked.n_rows
    n_empty = n_rows - len(usable) - checked.n_skipped
    require_usable(checked, source, mapping)
    if n_empty:
        left_out = "rows is" if n_empty == 1 else "rows are"
        notes.append(f"{n_empty} of {n_rows} {left_out} left out: {what_is_missing(mapping)}.")

    indices, sampling_notes = sample_rows(labels, n, seed)
    order = [usable[i] for i in indices]
    examples, drawn_rows = _drawn_examples(rows, mapping, render, order)
    if digest != _digest(rows):
        raise DataError(f"{source} changed while it was read. Run again once nothing writes to it.")
    notes += sampling_notes + _joint_note(examples)
    if digest is None:
        notes.append("A hub dataset has no single file, so no digest of the data's bytes is recorded.")
    progress(ProgressEvent("Checking rows", n_rows, n_rows, "rows"))
    groups = group_columns(drawn_rows, mapping.columns, MIN_SLICE)
    example_set = ExampleSet(
        examples,
        n_rows,
        len(usable),
        tuple(notes),
        mapping,
        source,
        digest,
        groups,
        checked.n_skipped,
        tuple(checked.skipped),
    )
    skipped_note = example_set.skipped_note
    return example_set if skipped_note is None else replace(example_set, notes=(*example_set.notes, skipped_note))


def chat_renderer(tokenizer: Any) -> RenderChat:
    """What turns the messages of a chat into segments by a tokenizer's chat template.

    Raises:
        DataError: no tokenizer, or one without a template.
    """
    if tokenizer is None:
        raise DataError("Chat messages need the model's tokenizer: its chat template writes the text.")
    require_chat_template(tokenizer)  # before the first row, so that the message does not blame that row
    return partial(render_chat, tokenizer)


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


def _digest(rows: RowSource) -> str | None:
    return None if rows.path is None else files_digest(rows.path)


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
        "them; if that is not meant, end the prompt with a space or line break, which --template can add."
    ]
