"""Rooms import from one another only what a room's `__init__` names."""

import ast
import functools
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FINETUNE = ("quantize", "freezing", "prefix", "audit", "model", "arm", "runner", "validation", "train")
ROOMS = (
    "semfreeze_core.sources.models",
    "semfreeze_core.sources.data",
    "semfreeze_core.semantics",
    *(f"semfreeze_core.finetune.{name}" for name in FINETUNE),
    "semfreeze_core.workflow",
    "semfreeze_core.guided",
)
PACKAGES = sorted(".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("semfreeze_core/**/__init__.py"))


@functools.cache
def imported_modules(path):
    """Full names that a file imports, at any depth; of `from a import b` both a and a.b."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


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
    assert used, "the search for imports finds them"
    assert set(used) <= set(public), {name: used[name] for name in set(used) - set(public)}
    for name in public:
        importlib.import_module(f"{room}.{name}")


@pytest.mark.parametrize("name", FINETUNE)
def test_a_finetune_room_names_no_module_that_nobody_else_uses(name):
    room = f"semfreeze_core.finetune.{name}"
    assert set(importlib.import_module(room).__all__) == set(modules_used_from_outside(room))


def test_every_finetune_room_is_held_to_its_public_modules():
    rooms = {path.parent.name for path in ROOT.glob("semfreeze_core/finetune/*/__init__.py")}
    assert rooms == set(FINETUNE)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is(package):
    docstring = importlib.import_module(package).__doc__
    assert docstring is not None
    first = docstring.splitlines()[0]
    assert len(first) >= 20
    assert first.endswith((".", ":"))
