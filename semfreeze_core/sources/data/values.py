"""A row's values in words, for messages, and the checks that every text passes."""

from collections.abc import Sequence
from typing import Any

from semfreeze_core.errors import DataError

_MOST_NAMES = 20  # that a message lists; a table can have a hundred thousand columns
_LONGEST_NAME = 80


def names_text(names: Sequence[str], *, quoted: bool = False) -> str:
    """Names separated by commas, cut where there are too many or one is too long."""
    short = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in names[:_MOST_NAMES]]
    more = f", and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(map(repr, short) if quoted else short) + more


def kind_text(value: Any) -> str:
    """What a value is: its type, and the value where it is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"true or false (bool {value})"
    if isinstance(value, int | float):
        return f"a number ({type(value).__name__} {str(value)[:40]})"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with the keys {names_text([str(key) for key in value], quoted=True)}"
    return f"a value of type {type(value).__name__}"


def checked_text(value: Any, name: str) -> str:
    """The value, which must be text that can be encoded.

    Raises:
        DataError: it is not; `name` says what it is.
    """
    if not isinstance(value, str):
        raise DataError(f"{name} is {kind_text(value)}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a character as an escape, tokenizers refuse it
        raise DataError(f"{name} holds half a character (\\u{ord(value[error.start]):04x}) at {error.start}") from None
    return value
