"""Rooms import from one another only what a room's `__init__` names."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("semfreeze_core.sources.models", "semfreeze_core.sources.data", "semfreeze_core.semantics")


def imported_modules(path):
    """Full names that a file imports, at any depth; of `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_used_from_outside(room):
    """The room's own modules that files elsewhere import, each with one file that does."""
    inside = ROOT / room.replace(".", "/")
    users = {}
    for path in [*ROOT.glob("semfreeze_core/**/*.py"), *ROOT.glob("dashboard/**/*.py")]:
        if inside not in path.parents:
            for name in imported_modules(path):
                if name.startswith(f"{room}."):
                    users[name.removeprefix(f"{room}.").split(".")[0]] = path
    return users


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_names_the_modules_that_others_use(room):
    public = importlib.import_module(room).__all__
    used = modules_used_from_outside(room)
    assert len(used) >= 6, "the search for imports finds them"
    assert set(used) <= set(public), {name: used[name] for name in set(used) - set(public)}
    for name in public:
        importlib.import_module(f"{room}.{name}")
