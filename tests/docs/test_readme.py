"""The README says what is true: its commands exist, its Python runs, its output is the program's."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.core.cli_app import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_block_runs_and_is_short(capsys):
    (code,) = blocks("python")
    assert len(code.strip().splitlines()) <= 12
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("freeze ")
    assert len(printed) == 6


@pytest.mark.parametrize("block", blocks("console"))
def test_console_output_is_what_the_command_prints(block):
    command, _, expected = block.partition("\n")
    assert command.startswith("$ semfreeze ")
    result = CliRunner().invoke(app(), shlex.split(command)[2:])
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stdout.strip("\n").splitlines()]
    assert lines == expected.rstrip("\n").splitlines()


def test_every_flag_and_command_named_exists():
    def named(command, path=()):
        inner = getattr(command, "commands", {})
        return [found for name, one in inner.items() for found in named(one, (*path, name))] or [" ".join(path)]

    commands = {
        name: CliRunner().invoke(app(), [*name.split(), "--help"], env={"COLUMNS": "200"}).stdout
        for name in named(typer.main.get_command(app()))
    }
    for flag in set(re.findall(r"--[a-z][a-z-]+", README)):
        assert any(flag in text for text in commands.values()), f"{flag} is in the README but in no help text"
    for name in set(re.findall(r"`semfreeze ([a-z]+(?: list| check)?)", README)):
        assert any(known.startswith(name) for known in commands), f"semfreeze {name} is no command"


def test_make_targets_named_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", README)) <= targets
