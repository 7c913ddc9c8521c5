"""What people read is in the words of the field: help texts, sentences, tables, error messages, and names in code."""

import re
from collections.abc import Iterator

import click
import pytest
import typer

from semfreeze_core.cli import app, load_commands
from tests.core.wording.vocabulary import (
    CORE,
    RETIRED,
    RETIRED_NAMES,
    ROOT,
    STORED_NAMES,
    Text,
    constants_of,
    error_messages_of,
    retired_names_of,
    retired_words,
)

# Identifiers and data, not prose: keys of records, flags, and values that scripts read.
NOT_PROSE = {
    "undecided", "abstain", "task_null", "FLOP", "coverage at equal steps", "equal", "label null", "task null", "--gpu",
    "price", "cancelled", "colour", "neighbours",
}  # fmt: skip
ROOMS = sorted(path.name for path in CORE.iterdir() if path.is_dir() and (path / "__init__.py").exists())


def help_texts() -> Iterator[Text]:
    """The help of every command, argument and option of the command line."""

    def walk(command: click.Command, name: str) -> Iterator[Text]:
        yield Text(name, f"{command.help or ''} {command.short_help or ''}")
        for parameter in command.params:
            yield Text(f"{name} {'/'.join(parameter.opts)}", getattr(parameter, "help", None) or "")
        for inner, one in getattr(command, "commands", {}).items():
            yield from walk(one, f"{name} {inner}")

    load_commands()
    yield from walk(typer.main.get_command(app), "semfreeze")


def problems(texts: Iterator[Text] | list[Text]) -> list[str]:
    prose = (one for one in texts if one.text not in NOT_PROSE)
    return [f"{one.where}: {problem} in {one.text!r}" for one in prose for problem in retired_words(one.text)]


def test_help_texts_use_the_words_of_the_field():
    texts = list(help_texts())
    assert len(texts) > 200, "the walk has lost commands"
    assert problems(texts) == []


@pytest.mark.parametrize("folder", ["wording", "cli/printing", "export", "finetune/train"])
def test_sentences_and_tables_use_the_words_of_the_field(folder):
    texts = [text for path in sorted((CORE / folder).glob("*.py")) for text in constants_of(path)]
    assert len(texts) > 50
    assert problems(texts) == []


def test_the_report_uses_the_words_of_the_field():
    template = re.sub(r"{[{%].*?[}%]}", "", (ROOT / "dashboard" / "report.html.jinja").read_text())
    assert "<h2>Why</h2>" in template
    assert [word for line in template.splitlines() for word in retired_words(line)] == []


@pytest.mark.parametrize("folder", ["charts", "forms", "panels", "text", "views"])
def test_pages_use_the_words_of_the_field(folder):
    texts = [text for path in sorted((ROOT / "dashboard" / folder).glob("*.py")) for text in constants_of(path)]
    assert len(texts) > 50
    assert problems(texts) == []


@pytest.mark.parametrize("room", [*ROOMS, "."])
def test_error_messages_use_the_words_of_the_field(room):
    files = sorted((CORE / room).glob("*.py" if room == "." else "**/*.py"))
    assert files
    assert problems([text for path in files for text in error_messages_of(path)]) == []


@pytest.mark.parametrize(
    "text",
    [
        "It is held against half.", "59 % of it", "{} % of it", "for the FLOP of it", "An optimiser step.",
        "To analyse a model.", "Prices of depths", "differs for sure", "The eval items", "0.95 of the gain",
        "A neighbour in colour.",
    ],
)  # fmt: skip
def test_retired_words_are_found(text):
    assert retired_words(text)


@pytest.mark.parametrize("text", ["134 GFLOP/s", "587 TFLOPs", "59% of it", "an analysis", "analyses of runs", "%d"])
def test_words_in_use_are_not_retired(text):
    assert retired_words(text) == []


def test_every_retired_word_names_its_replacement():
    assert all(RETIRED.values())
    assert all(RETIRED_NAMES.values())


@pytest.mark.parametrize(("folder", "least"), [("semfreeze_core", 300), ("dashboard", 90), ("tests", 350)])
def test_names_say_what_a_value_is(folder, least):
    files = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / folder).glob("**/*.py"))}
    assert len(files) > least
    bound = {
        (name, one): line for name, path in files.items() for one, line in retired_names_of(path.read_text()).items()
    }
    assert [
        f"{path}:{line}: {name} says nothing; write what it is: {RETIRED_NAMES[name.strip('_').lower()]}"
        for (path, name), line in bound.items()
        if (path, name) not in STORED_NAMES
    ] == []
    assert {stored for stored in STORED_NAMES if stored[0] in files} <= bound.keys(), "an exception that nothing needs"


@pytest.mark.parametrize(
    "code",
    [
        "found = 1", "found: int = 1", "one, (found, *two) = x", "_found, one = x", "FOUND = 1", "self.kept = 1",
        "for place in x: pass", "with x as words: pass", "(told := 1)", "[own for own in x]", "def f(seen): pass",
        "def f(*, seen=1): pass", "def f(*told): pass", "lambda place: 1", "def picks(): pass",
        "async def picks(): pass", "class Found: pass", "class A:\n    kept: int", "import x as place",
        "from x import place", "from x import (\n    place\n)", "try: pass\nexcept E as told: pass",
        "match x:\n    case [found, *_]: pass", "match x:\n    case {**words}: pass",
    ],
)  # fmt: skip
def test_names_that_say_nothing_are_found_where_they_are_bound(code):
    assert len(retired_names_of(code)) == 1


@pytest.mark.parametrize(
    "code", ["found_source = 1", "print(found)", "f(kept=1)", "x = 'told = 1'", "x.own", "unseen = 1"]
)
def test_names_that_say_more_and_mere_uses_are_left_alone(code):
    assert retired_names_of(code) == {}
