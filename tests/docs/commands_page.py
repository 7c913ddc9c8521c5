"""docs/commands.md, made from the commands: `python -m tests.docs.commands_page` writes it, a test compares it."""

from collections.abc import Iterator, Mapping
from typing import Any

from semfreeze_core.cli import app
from semfreeze_core.storage import write_atomically
from tests.docs.pages import ROOT, commands

PAGE = ROOT / "docs" / "commands.md"
OPENING = """\
# Commands

After this page, you can look up every command of semfreeze and every option with its default. Most finetunes need three
options: `semfreeze finetune --model MODEL --data DATA --out FOLDER`; [which others to
set](finetune.md#which-options-to-set). The option `--help` of each prints the same.

Made by `python -m tests.docs.commands_page` from the command line itself."""


def page() -> str:
    """The whole page: all commands in a table, then each with its arguments and options."""
    listed = {name: command for name, command in sorted(commands().items()) if not command.hidden}
    return "\n".join([OPENING, "", *_overview(listed), "", *_exit_codes(), *_sections(listed)]) + "\n"


def _overview(listed: Mapping[str, Any]) -> Iterator[str]:
    yield "| command | what it does |"
    yield "|---|---|"
    for name, command in listed.items():
        yield f"| [{name}](#{_anchor(name)}) | {_paragraphs(command)[0]} |"


def _exit_codes() -> Iterator[str]:
    epilog = app.info.epilog
    assert isinstance(epilog, str)
    yield epilog


def _sections(listed: Mapping[str, Any]) -> Iterator[str]:
    for name, command in listed.items():
        arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        yield from ("", f"## semfreeze {name}", "", "\n\n".join(_paragraphs(command)))
        if arguments or options:
            yield from ("", "| option | default | |", "|---|---|---|")
        for parameter in (*arguments, *(option for option in options if not option.hidden)):
            yield f"| {_name(parameter)} | {_default(parameter)} | {_cell(parameter.help or '')} |"


def _paragraphs(command: Any) -> list[str]:
    return [_cell(" ".join(part.split())) for part in command.help.split("\n\n")]


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name.upper()).strip('[]')}`"
    return f"`{'` or `'.join((*parameter.opts, *parameter.secondary_opts))}`"


def _default(parameter: Any) -> str:
    """What is taken where the option is not given; empty where nothing is, or where the help says what."""
    value = parameter.default
    if parameter.required:
        return "required"
    if value in (None, "", ()):
        return ""
    if isinstance(value, bool):
        return ("yes" if value else "no") if parameter.secondary_opts else ""
    return f"`{value}`"


def _cell(text: str) -> str:
    """A text that stands in a table's cell: what looks like a placeholder or an end of the cell is escaped."""
    return text.replace("|", "\\|").replace("<", "\\<")


def _anchor(name: str) -> str:
    return f"semfreeze-{name.replace(' ', '-')}"


if __name__ == "__main__":
    write_atomically(PAGE, page())
