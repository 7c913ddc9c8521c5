"""Values as Python takes them."""

import json


def python_value(value: str | list[str] | dict[str, str] | None) -> str:
    """A literal in double quotes, which JSON and Python spell alike, whatever a text holds."""
    return "None" if value is None else json.dumps(value, ensure_ascii=False)
