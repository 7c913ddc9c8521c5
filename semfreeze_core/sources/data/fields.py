"""Which fields of a row are prompt, completion, chat or text, and the example a row becomes.

A row is read in exactly one of three ways: prompt and completion (the prompt from one field, or from several through a
template), chat messages, or plain text. Nothing is guessed that could also be read another way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from string import Formatter
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.records.examples import Example, Segment
from semfreeze_core.records.fields import FieldMapping

Message = dict[str, str]  # the keys role and content
RenderChat = Callable[[list[Message]], tuple[Segment, ...]]

_CANDIDATES = {
    "prompt_field": ("prompt", "question", "instruction", "input", "query"),
    "completion_field": ("completion", "answer", "output", "response", "target"),
    "messages_field": ("messages", "conversations"),
    "text_field": ("text",),
    "label_field": ("label",),
}
_MODES = {
    "prompt and completion": ("prompt_field", "completion_field"),
    "chat messages": ("messages_field",),
    "plain text": ("text_field",),
}
FIELD_FLAGS = "--prompt-field, --completion-field, --label-field, --template, --messages-field, --text-field"
_ROLES = {role: role for role in ("system", "developer", "user", "assistant", "tool")}
_ROLES |= {"human": "user", "gpt": "assistant"}  # ShareGPT's words


def resolve_fields(mapping: FieldMapping, columns: Sequence[str]) -> tuple[FieldMapping, list[str]]:
    """The mapping with every needed field named, and a note for each name that was guessed.

    A field is guessed only when one column alone can be meant, and the way of reading only when the columns fit one.

    Raises:
        DataError: the given fields contradict each other, a name is not among the columns (all such problems at once),
            or what is missing cannot be guessed; the message lists the columns and the flags.
    """
    if problems := _problems(mapping, columns):
        raise _mapping_error(problems, columns)
    free = [column for column in columns if column not in _used_columns(mapping)]
    candidates = {field: [c for c in free if c.casefold() in names] for field, names in _CANDIDATES.items()}
    needed = _needed_fields(mapping, candidates, columns)
    if problems := [_why_not_guessed(field, candidates[field]) for field in needed if len(candidates[field]) != 1]:
        raise _mapping_error(problems, columns)
    if mapping.label_field is None and len(candidates["label_field"]) == 1:
        needed = (*needed, "label_field")
    guessed = {field: candidates[field][0] for field in needed}
    if not guessed:
        return mapping, []
    guesses_text = ", ".join(f"{_spoken(field)} from {column!r} ({_flag(field)})" for field, column in guessed.items())
    return replace(mapping, **guessed), [f"Guessed from column names: {guesses_text}."]


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
            names = [name for _, name in _template_parts(mapping.template) if name is not None]
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


def _why_not_guessed(field: str, candidates: list[str]) -> str:
    if candidates:
        return f"{' and '.join(map(repr, candidates))} could each be {_spoken(field)}"
    return f"no column is called {' or '.join(_CANDIDATES[field])}, so {_spoken(field)} is not known"


def _mapping_error(problems: list[str], columns: Sequence[str]) -> DataError:
    return DataError(
        f"The fields are not clear: {'; '.join(problems)}. Columns found: {', '.join(columns)}. "
        f"Name the fields with {FIELD_FLAGS}."
    )


def _used_columns(mapping: FieldMapping) -> set[str | None]:
    names = {name for field, name in asdict(mapping).items() if field != "template"}
    return names | {name for _, name in _template_parts(mapping.template or "")}


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _spoken(field: str) -> str:
    return "the " + field.removesuffix("_field")


def _template_parts(template: str) -> list[tuple[str, str | None]]:
    """The template as (literal text, column that follows it or None).

    A column name is taken as it stands, dots and spaces included; Python's attribute, index and format syntax is not
    offered, so a template can show nothing but the row's own text.

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
        DataError: a field is missing or not of the expected type; the message names the row. A missing label is no
            error: where some rows have no class, their label is None.
    """
    try:
        label = _label(row.get(mapping.label_field), mapping.label_field) if mapping.label_field else None
        segments = _segments(row, mapping, render_chat)
    except DataError as error:
        raise DataError(f"row {row_number}: {error}") from error
    if not any(segment.supervised for segment in segments):
        return None
    return Example(segments, label, row_number, complete=mapping.messages_field is not None)


def _segments(row: Mapping[str, Any], mapping: FieldMapping, render_chat: RenderChat | None) -> tuple[Segment, ...]:
    """Segments of the row; none is supervised when there is nothing to learn from."""
    if mapping.messages_field is not None:
        if render_chat is None:
            raise DataError("chat messages need a model's tokenizer and its chat template")
        return render_chat(_messages(_value(row, mapping.messages_field), mapping.messages_field))
    if mapping.text_field is not None:
        text = _text(row, mapping.text_field, null="")
        return (Segment(text, supervised=bool(text.strip())),)
    if mapping.completion_field is None or (mapping.prompt_field is None and mapping.template is None):
        raise ValueError("the mapping is not complete; resolve_fields makes it so")
    if mapping.template is not None:
        # A null in a template is an optional input left out; a null prompt would be a row without a question.
        prompt = "".join(
            literal + ("" if name is None else _text(row, name, null=""))
            for literal, name in _template_parts(mapping.template)
        )
    else:
        prompt = _text(row, str(mapping.prompt_field))
    completion = _text(row, mapping.completion_field, null="")
    return Segment(prompt, supervised=False), Segment(completion, supervised=bool(completion.strip()))


def _value(row: Mapping[str, Any], field: str) -> Any:
    if field not in row:
        raise DataError(f"field {field!r} is missing; the row has {', '.join(map(repr, row)) or 'no fields'}")
    return row[field]


def _text(row: Mapping[str, Any], field: str, null: str | None = None) -> str:
    """Text of a field; `null` stands in for a null where one is allowed."""
    value = _value(row, field)
    if value is None and null is not None:
        return null
    return _checked_text(value, f"field {field!r}")


def _checked_text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} is {_kind(value)}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a character as an escape, tokenizers refuse it
        raise DataError(f"{what} holds half a character (\\u{ord(value[error.start]):04x}) at {error.start}") from None
    return value


def _label(value: Any, field: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool | int):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"field {field!r} is {_kind(value)}, expected a class: text, a whole number or true/false")
    return _checked_text(value, f"field {field!r}")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"true or false (bool {value})"
    if isinstance(value, int | float):
        return f"a number ({type(value).__name__} {value})"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with the keys {', '.join(map(repr, value))}"
    return f"a value of type {type(value).__name__}"


def _messages(value: Any, field: str) -> list[Message]:
    """The conversation with its roles in the words of chat templates."""
    if not isinstance(value, list):
        type_text = "text" if isinstance(value, str) else _kind(value)
        raise DataError(f"field {field!r} is {type_text}, expected a list of messages")
    return [_message(entry, f"message {i} of field {field!r}") for i, entry in enumerate(value)]


def _message(entry: Any, what: str) -> Message:
    if not isinstance(entry, dict):
        raise DataError(f"{what} is {'text' if isinstance(entry, str) else _kind(entry)}, expected role and content")
    for role_key, content_key in (("role", "content"), ("from", "value")):
        if role_key in entry and content_key in entry:
            break
    else:
        raise DataError(
            f"{what} has the keys {', '.join(map(repr, entry))}, expected 'role' and 'content' (or 'from' and 'value')"
        )
    role = entry[role_key]
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f"{what} has the {role_key} {role!r}, expected one of {', '.join(_ROLES)}")
    if entry.get("tool_calls"):
        raise DataError(f"{what} calls tools, which semfreeze does not support; leave such conversations out")
    return {"role": _ROLES[role], "content": _checked_text(entry[content_key], f"the {content_key} of {what}")}
