"""Values as Python and YAML source text."""

import json
from typing import Any

# Line breaks to YAML, though not to JSON, which leaves them as they are; and a character that YAML does not allow.
_YAML_ESCAPES = {code: f"\\u{code:04x}" for code in (0x7F, 0x85, 0x2028, 0x2029)}


def python_value(value: str | list[str] | dict[str, str] | None) -> str:
    """A literal in double quotes, which JSON and Python spell alike, whatever the text contains."""
    return "None" if value is None else json.dumps(value, ensure_ascii=False)


def yaml_value(value: Any) -> str:
    """A scalar, list or dict in JSON's spelling, which YAML parses to the same value whatever the text contains."""
    return json.dumps(value, ensure_ascii=False).translate(_YAML_ESCAPES)


def yaml_lines(entries: dict[str, Any]) -> list[str]:
    """One line per key."""
    return [f"{key}: {yaml_value(value)}" for key, value in entries.items()]
