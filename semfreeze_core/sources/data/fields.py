"""Which fields of a row are prompt, completion, chat or text, and the example a row becomes.

A row is read in exactly one of three ways: prompt and completion (the prompt from one field, or from several through a
template), chat messages, or plain text. Nothing is guessed that could also be read another way.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from string import Formatter
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.records.examples import Example, Segment
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.messages import read_history, read_messages, read_pair, read_tools
from semfreeze_core.sources.data.schemas import (
    CANDIDATES,
    HISTORY_COLUMN,
    PREFERENCE_COLUMNS,
    PROMPT_PARTS,
    SYSTEM_COLUMN,
    TOOLS_COLUMN,
    recognized,
)
from semfreeze_core.sources.data.values import checked_text, kind_text, names_text

RenderChat = Callable[..., tuple[Segment, ...]]  # messages, and tools where a chat has them

_MODES = {
    "prompt and completion": ("prompt_field", "completion_field"),
    "chat messages": ("messages_field",),
    "plain text": ("text_field",),
}
READ_AS = "Read as "  # the note begins so that says how columns are read
FIELD_FLAGS = "--prompt-field, --completion-field, --label-field, --template, --messages-field, --text-field"


class LabelError(DataError):
    """A label that is no class."""


def resolve_fields(
    mapping: FieldMapping, columns: Sequence[str], *, unread: Collection[str] = ()
) -> tuple[FieldMapping, list[str]]:
    """The mapping with every needed field named, and notes: how the columns are read, and what is not.

    Columns are read by the schema that they fit, or else a field is guessed where one column alone can be meant and the
    columns fit one way of reading.

    Args:
        mapping: fields that were named.
        columns: of the source.
        unread: columns of labels or tools that turned out not to be read, which the notes leave to who found that.

    Raises:
        DataError: the given fields contradict each other, a name is not among the columns (all such problems at once),
            or what is missing cannot be guessed; the message lists the columns and the flags.
    """
    if problems := _problems(mapping, columns):
        raise _mapping_error(problems, columns)
    used = _used_columns(mapping, columns)
    free = [column for column in columns if column not in used]
    candidates = {field: [c for c in free if c.casefold() in names] for field, names in CANDIDATES.items()}
    name, guessed = _guessed_fields(mapping, candidates, columns, free)
    if mapping.label_field is None and len(candidates["label_field"]) == 1:
        guessed["label_field"] = candidates["label_field"][0]
    resolved = replace(mapping, **guessed)
    return resolved, _notes(name or _mode(resolved), guessed, resolved, columns, unread)


def _guessed_fields(
    mapping: FieldMapping, candidates: dict[str, list[str]], columns: Sequence[str], free: Sequence[str]
) -> tuple[str, dict[str, str]]:
    """The name of what the columns are read as, and the fields that are guessed."""
    if not any(value for field, value in asdict(mapping).items() if field != "label_field"):
        match = recognized(free)
        if match is not None:
            schema, fields = match
            return schema.name, {field: value for field, value in asdict(fields).items() if value is not None}
        _refuse_preferences(columns)
    needed = _needed_fields(mapping, candidates, columns)
    problems = [_why_not_guessed(field, candidates[field], mapping) for field in needed if len(candidates[field]) != 1]
    if problems:
        raise _mapping_error(problems, columns)
    guessed = {field: candidates[field][0] for field in needed}
    return "", guessed


def _refuse_preferences(columns: Sequence[str]) -> None:
    """Say what pairs of a better and a worse answer are, and how the better ones are read."""
    pair = [column for column in columns if column.casefold() in PREFERENCE_COLUMNS]
    if len(pair) < len(PREFERENCE_COLUMNS):
        return
    chosen = next(column for column in pair if column.casefold() == "chosen")
    raise DataError(
        f"The columns {names_text(pair, quoted=True)} are preference data, pairs of a better and a worse answer; "
        f"semfreeze learns from targets. To use the better answers, add --completion-field {chosen} with the prompt's "
        f"field, or --messages-field {chosen} where it holds whole chats. Columns found: {names_text(columns)}."
    )


def _mode(mapping: FieldMapping) -> str:
    return next(name for name, fields in _MODES.items() if getattr(mapping, fields[-1]) is not None)


def _notes(
    name: str, guessed: Mapping[str, str], mapping: FieldMapping, columns: Sequence[str], unread: Collection[str]
) -> list[str]:
    """How the columns are read, in one sentence, and which of them are not that a person would expect to be."""
    in_order = sorted(guessed.items(), key=lambda item: item[0] != "template")  # the prompt comes first
    texts = [
        f"{'the prompt' if field == 'template' else _spoken(field)} from {value!r} ({_flag(field)})"
        for field, value in in_order
        if value not in unread
    ]
    beside = beside_chat(mapping, columns)
    texts += [
        f"the {'system prompt' if column == SYSTEM_COLUMN else column} from {column!r}"
        for column in beside
        if column not in unread
    ]
    notes = [f"{READ_AS}{name}: {', '.join(texts)}."] if texts else []
    history = [c for c in columns if c.casefold() == HISTORY_COLUMN and c in _used_columns(mapping, columns)]
    notes += [f"Turns in {column!r} stand in the prompt as earlier lines; they are no targets." for column in history]
    if mapping.text_field is None:
        parts = PROMPT_PARTS if not guessed else (*PROMPT_PARTS, *CANDIDATES["prompt_field"], "text")
        used = _used_columns(mapping, columns) | set(beside)
        left = [column for column in columns if column.casefold() in parts and column not in used]
        if left:
            one = len(left) == 1
            where = "--template" if mapping.messages_field is None else "--template and --completion-field"
            notes.append(
                f"Not read: the {'column' if one else 'columns'} {names_text(left, quoted=True)}, which may be a part "
                f"of the prompt. To read {'it' if one else 'them'}, write the prompt with {where}."
            )
    return notes


def beside_chat(mapping: FieldMapping, columns: Sequence[str]) -> list[str]:
    """Columns that a chat's template is given beside the messages: the system prompt and the tools."""
    if mapping.messages_field is None:
        return []
    taken = mapping.columns
    return [column for column in (SYSTEM_COLUMN, TOOLS_COLUMN) if column in columns and column not in taken]


def _problems(mapping: FieldMapping, columns: Sequence[str]) -> list[str]:
    """Everything wrong with what was given, so that one run is enough to mend it all."""
    pair = [f for f in ("prompt_field", "template", "completion_field") if getattr(mapping, f) is not None]
    single = [f for f in ("messages_field", "text_field") if getattr(mapping, f) is not None]
    problems = [f"{_flag(one)} excludes {_flag(other)}" for one in single for other in pair]
    if len(single) == 2:
        problems.append("--messages-field excludes --text-field")
    if mapping.prompt_field is not None and mapping.template is not None:
        problems.append("--template excludes --prompt-field (the template is the prompt)")
    if mapping.completion_field is not None and mapping.completion_field == mapping.prompt_field:
        problems.append(f"prompt and completion are the same column {mapping.completion_field!r}")
    given = {field: name for field, name in asdict(mapping).items() if field != "template" and name is not None}
    problems += [f"{_flag(field)}: no column {name!r}" for field, name in given.items() if name not in columns]
    if mapping.template is not None:
        try:
            names = [_column_of(name, columns) for _, name in _template_parts(mapping.template) if name is not None]
        except ValueError as error:
            return [*problems, f"--template: {error}"]
        problems += [f"--template: no column {name!r}" for name in names if name not in columns]
        if not names:
            problems.append("--template names no column; write {column} where the row's text belongs")
        if mapping.completion_field in names:
            problems.append(f"--template shows the completion {mapping.completion_field!r} in the prompt")
    return problems


def _needed_fields(mapping: FieldMapping, candidates: dict[str, list[str]], columns: Sequence[str]) -> tuple[str, ...]:
    """Fields still to be guessed."""
    if mapping.messages_field is not None or mapping.text_field is not None:
        return ()
    prompt_given = mapping.prompt_field is not None or mapping.template is not None
    if prompt_given or mapping.completion_field is not None:
        missing = (("prompt_field", prompt_given), ("completion_field", mapping.completion_field is not None))
        return tuple(field for field, given in missing if not given)
    fitting = [mode for mode, fields in _MODES.items() if any(candidates[field] for field in fields)]
    if not fitting:
        raise _mapping_error(["no column has a name that says what it is"], columns)
    if len(fitting) > 1:
        raise _mapping_error([f"the columns could be read as {' or as '.join(fitting)}"], columns)
    return _MODES[fitting[0]]


def _why_not_guessed(field: str, candidates: list[str], mapping: FieldMapping) -> str:
    if candidates:
        return f"{' and '.join(map(repr, candidates))} could each be {_spoken(field)}"
    names = CANDIDATES[field]
    given = asdict(mapping)
    taken = [(name, other) for other, name in given.items() if name is not None and name.casefold() in names]
    if taken:
        (column, other), *_ = taken
        return f"{column!r} is {_spoken(other)} ({_flag(other)}), and no other column can be {_spoken(field)}"
    return f"no column is called {' or '.join(names)}, so {_spoken(field)} is not known"


def _mapping_error(problems: list[str], columns: Sequence[str]) -> DataError:
    return DataError(
        f"The fields are not clear: {'; '.join(problems)}. Columns found: {names_text(columns)}. "
        f"Name the fields with {FIELD_FLAGS}."
    )


def _used_columns(mapping: FieldMapping, columns: Sequence[str]) -> set[str]:
    shown = [name for _, name in _template_parts(mapping.template or "") if name is not None]
    return mapping.columns | {_column_of(name, columns) for name in shown}


def _column_of(name: str, columns: Collection[str]) -> str:
    """The column that a name in a template stands for: itself, or without the "?" of an optional one."""
    return name.removesuffix("?") if name not in columns and name.endswith("?") else name


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _spoken(field: str) -> str:
    return "the " + field.removesuffix("_field")


def _template_parts(template: str) -> list[tuple[str, str | None]]:
    """The template as (literal text, column that follows it or None).

    A column name is taken as it stands, dots and spaces included; Python's attribute, index and format syntax is not
    offered, so a template can show nothing but the row's own text. `{name?}` is optional: where the row has no text
    there, the line break after it is left out too.

    Raises:
        ValueError: unbalanced braces, `{}`, or a conversion or format specification.
    """
    parts = []
    for literal, name, specification, conversion in Formatter().parse(template.replace("\\n", "\n")):
        if name == "":
            raise ValueError("{} names no column; write {column}, and {{ }} for braces")
        if specification or conversion:
            raise ValueError(f"{{{name}}} may hold a column name only, no ':' or '!'")
        parts.append((literal, name))
    return parts


def example_from_row(
    row: Mapping[str, Any], row_number: int, mapping: FieldMapping, render_chat: RenderChat | None = None
) -> Example | None:
    """The example a row stands for, or None when nothing in it is supervised (an empty or null completion).

    Args:
        row: field name -> value.
        row_number: 0-based, kept in the example and named in errors.
        mapping: as `resolve_fields` returns it.
        render_chat: turns messages into segments; needed in chat mode only.

    Raises:
        LabelError: the label is not of the expected type.
        DataError: a field is missing or not of the expected type; the message names the row. A missing label is no
            error: where some rows have no class, their label is None.
    """
    try:
        segments = _segments(row, mapping, render_chat)
        label = _label(row.get(mapping.label_field), mapping.label_field) if mapping.label_field else None
    except DataError as error:
        raise type(error)(f"row {row_number}: {error}") from error
    except RecursionError:
        raise DataError(f"row {row_number}: a field is nested too deep to be read") from None
    if not any(segment.supervised for segment in segments):
        return None
    return Example(segments, label, row_number, complete=is_chat(row, mapping))


def is_chat(row: Mapping[str, Any], mapping: FieldMapping) -> bool:
    """Whether a row is a chat: it has messages, or a completion that is a list of them."""
    if mapping.messages_field is not None:
        return True
    completion = row.get(mapping.completion_field or "")
    return isinstance(completion, list) and all(isinstance(message, dict) for message in completion)


def holds_pairs_of_messages(rows: Iterable[Mapping[str, Any]], mapping: FieldMapping) -> bool:
    """Whether prompt and completion are lists of messages, as TRL calls conversational: by the first completion.

    Args:
        rows: from the first on.
        mapping: as `resolve_fields` returns it.
    """
    if mapping.completion_field is None:
        return False
    return is_chat(next((row for row in rows if row.get(mapping.completion_field) is not None), {}), mapping)


def _segments(row: Mapping[str, Any], mapping: FieldMapping, render_chat: RenderChat | None) -> tuple[Segment, ...]:
    """Segments of the row; none is supervised when there is nothing to learn from."""
    if is_chat(row, mapping) and render_chat is None:
        raise DataError("chat messages need a model's tokenizer and its chat template")
    if mapping.messages_field is not None:
        assert render_chat is not None
        beside = {column: row.get(column) for column in beside_chat(mapping, list(row))}
        value = _value(row, mapping.messages_field)
        messages = read_messages(value, mapping.messages_field, beside.get(SYSTEM_COLUMN))
        tools = read_tools(beside.get(TOOLS_COLUMN))
        return render_chat(messages) if tools is None else render_chat(messages, tools)
    if mapping.text_field is not None:
        text = _text(row, mapping.text_field, null="")
        return (Segment(text, supervised=bool(text.strip())),)
    if mapping.completion_field is None or (mapping.prompt_field is None and mapping.template is None):
        raise ValueError("the mapping is not complete; resolve_fields makes it so")
    if is_chat(row, mapping):
        if mapping.prompt_field is None:
            raise DataError(f"field {mapping.completion_field!r} is a list of messages, which no template can precede")
        assert render_chat is not None
        prompt, completion = _value(row, mapping.prompt_field), _value(row, mapping.completion_field)
        return render_chat(read_pair(prompt, completion, mapping.prompt_field, mapping.completion_field))
    before = _filled(mapping.template, row) if mapping.template is not None else _text(row, str(mapping.prompt_field))
    answer = _text(row, mapping.completion_field, null="")
    return Segment(before, supervised=False), Segment(answer, supervised=bool(answer.strip()))


def _filled(template: str, row: Mapping[str, Any]) -> str:
    """The prompt that a template makes of a row."""
    texts, left_out = [], False
    for literal, name in _template_parts(template):
        texts.append(literal.removeprefix("\n") if left_out else literal)
        left_out = False
        if name is not None and name not in row and name.endswith("?"):
            column = name.removesuffix("?")
            text = _part(row, column) if column in row else ""
            left_out = not text.strip()
            texts.append("" if left_out else text)
        elif name is not None:
            texts.append(_part(row, name))
    return "".join(texts)


def _part(row: Mapping[str, Any], column: str) -> str:
    """What a column writes into a prompt; a null is an optional input left out, or a first turn without a history."""
    if column.casefold() == HISTORY_COLUMN:
        return read_history(_value(row, column), column)
    return _text(row, column, null="")


def _value(row: Mapping[str, Any], field: str) -> Any:
    if field not in row:
        raise DataError(f"field {field!r} is missing; the row has {names_text(list(row), quoted=True) or 'no fields'}")
    return row[field]


def _text(row: Mapping[str, Any], field: str, null: str | None = None) -> str:
    """Text of a field; `null` stands in for a null where one is allowed."""
    value = _value(row, field)
    if value is None and null is not None:
        return null
    return checked_text(value, f"field {field!r}")


def _label(value: Any, field: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool | int):
        return str(value)
    if not isinstance(value, str):
        raise LabelError(f"field {field!r} is {kind_text(value)}, expected a class: text, a whole number or true/false")
    return checked_text(value, f"field {field!r}")
