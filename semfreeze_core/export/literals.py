"""Values as Python and YAML source text, with what cannot be seen as escapes: YAML breaks lines at some of it."""

import json
from typing import Any

from semfreeze_core.wording.escaping import json_text


def python_value(value: str | list[str] | dict[str, str] | None) -> str:
    """A literal in double quotes, which JSON and Python spell alike, whatever the text contains."""
    return "None" if value is None else json_text(json.dumps(value, ensure_ascii=False))


def yaml_value(value: Any) -> str:
    """A scalar, list or dict in JSON's spelling, which YAML parses to the same value whatever the text contains."""
    return json_text(json.dumps(value, ensure_ascii=False))


def yaml_lines(entries: dict[str, Any]) -> list[str]:
    """One line per key."""
    return [f"{key}: {yaml_value(value)}" for key, value in entries.items()]


def yaml_section(name: str, entries: dict[str, Any]) -> list[str]:
    """A key whose entries stand below it, one line each."""
    return [f"{name}:", *(f"  {line}" for line in yaml_lines(entries))]
