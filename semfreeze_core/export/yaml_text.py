"""Values as YAML takes them."""

import json
from typing import Any

# Line breaks to YAML, though not to JSON, which leaves them as they are; and a character that YAML does not allow.
_ESCAPES = {code: f"\\u{code:04x}" for code in (0x7F, 0x85, 0x2028, 0x2029)}


def yaml_value(value: Any) -> str:
    """A scalar, list or dict in JSON's spelling, which YAML reads as the same value whatever a text holds."""
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)


def yaml_lines(entries: dict[str, Any]) -> list[str]:
    """One line a key."""
    return [f"{key}: {yaml_value(value)}" for key, value in entries.items()]
