"""What every export is: a whole file in its language, of public names, in which no text gets out of its place."""

import ast
import io
import shlex
import tokenize
from dataclasses import replace

import pytest
import yaml

import semfreeze_core
from semfreeze_core.export import TARGETS, export_plan
from semfreeze_core.wording.escaping import terminal_text
from tests.core.export.exports import (
    exported_flags,
    leaves,
    plan_for,
)


@pytest.mark.parametrize("target", TARGETS)
def test_export_is_a_whole_file_in_its_language_with_its_notes_on_top(tiny, target):
    exported = export_plan(plan_for(tiny, target), target)
    assert exported.target == target
    assert exported.text.endswith("\n")
    suffix = exported.filename.rpartition(".")[2]
    match suffix:
        case "yaml":
            assert isinstance(yaml.safe_load(exported.text), dict)
        case "py":
            ast.parse(exported.text)
        case "sh":
            assert shlex.split(exported.text, comments=True)[0] == "swift"
    lines = exported.text.splitlines()
    comment = [line.removeprefix("#").strip() for line in lines[: next(i for i, x in enumerate(lines) if x[0] != "#")]]
    for note in exported.notes:
        assert note in " ".join(comment)
    assert exported.notes


@pytest.mark.parametrize("target", TARGETS)
def test_scripts_import_public_names_only(tiny, target):
    exported = export_plan(plan_for(tiny, target), target)
    if not exported.filename.endswith(".py"):
        assert "semfreeze_core" not in exported.text
        return
    imports = [node for node in ast.walk(ast.parse(exported.text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    for node in imports:
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        assert not any(module.startswith("semfreeze_core.") for module in modules)
        if modules == ["semfreeze_core"]:
            assert {alias.name for alias in node.names} <= set(semfreeze_core.__all__)


@pytest.mark.parametrize(
    "name",
    [
        "a\"b'c\n# d: {e}\\ $(f) `g` é \u2028 h",
        "x coding: utf-7 +AAo-raise SystemExit",
        "x\n-*- coding=latin-1 -*-",
        "a\x0b\x0c\r\x85\u2029b\x1b[2J\x9b2J",
        "abc\u202egnp.\u2066exe\u2069\u200f",
        "#!/bin/sh\n$(touch x)\n---\n%YAML 1.1\n...",
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_no_text_of_a_plan_gets_out_of_its_place(tiny, target, name):
    """A model's name with quotes, line breaks and comment signs stays a name, and shows itself whole."""
    plan = plan_for(tiny, target)
    plan = plan.model_copy(update={"model": replace(plan.model, source=name)})
    exported = export_plan(plan, target)
    comments = [line for line in exported.text.splitlines() if line.startswith("#")]
    assert not set("\x1b\x9b\x85\r\x0b\u202e\u2066\u2028") & set("".join(comments))
    match exported.filename.rpartition(".")[2]:
        case "yaml":
            assert terminal_text(exported.text) == exported.text
            assert name in leaves(yaml.safe_load(exported.text))
        case "py":
            assert terminal_text(exported.text) == exported.text
            assert tokenize.detect_encoding(io.BytesIO(exported.text.encode()).readline)[0] == "utf-8"
            assert name in [n.value for n in ast.walk(ast.parse(exported.text)) if isinstance(n, ast.Constant)]
        case "sh":
            assert exported_flags(plan)["model"] == name
