"""The pages for people: the README and those in docs, and what can be read out of their text."""

import re
import shlex
from functools import cache
from pathlib import Path

import typer
from click import Command
from typer.testing import CliRunner

from tests.core.cli_app import app

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
EVIDENCE, PYTHON_API, QUICKSTART = (ROOT / "docs" / f"{name}.md" for name in ("evidence", "python-api", "quickstart"))
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
# Made from the code, so as long and as wide as that is.
GENERATED = [ROOT / "docs" / "commands.md", ROOT / "docs" / "configuration.md"]
LINKING = [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "sample_data/README.md"))]
ELSEWHERE = re.compile(r"https?:|mailto:")


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks in one of the languages, in order."""
    all_blocks = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [(language, text) for language, text in all_blocks if language in languages]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[tuple[str, str]]:
    """File and heading of every link and picture that leads into the repository; "" is this page, or no heading."""
    text = prose(page)
    targets = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r"(?:src|srcset)=\"([^\"]+)\"", text)]
    split = (target.partition("#") for target in targets if not ELSEWHERE.match(target))
    return [(file, heading) for file, _, heading in split]


def headings(page: Path) -> set[str]:
    """The headings of a page as links name them, in GitHub's way."""
    titles = re.findall(r"^#+ +(.*)$", prose(page), flags=re.MULTILINE)
    shown = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in shown}


def command_lines(page: Path) -> list[list[str]]:
    """Words of every semfreeze command that the page shows in a block or names between backticks, in order."""
    shown = [text.replace("\\\n", " ") for _, text in blocks(page, "sh", "console")]
    lines = [line.removeprefix("$ ") for text in shown for line in text.splitlines()]
    lines += re.findall(r"`(semfreeze [^`]+)`", prose(page).replace("\n", " "))
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("semfreeze ")]


@cache
def commands() -> dict[str, Command]:
    """The commands of the command line by name, like "models check"."""

    def named(command: Command, path: tuple[str, ...]) -> dict[str, Command]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return {" ".join(path): command}
        return {name: command for key, one in inner.items() for name, command in named(one, (*path, key)).items()}

    return named(typer.main.get_command(app()), ())


@cache
def options(name: str) -> frozenset[str]:
    """The flags that a command takes."""
    return frozenset(flag for one in commands()[name].params for flag in (*one.opts, *one.secondary_opts, "--help"))


def printed(command: str) -> list[str]:
    """What a semfreeze command prints, without the spaces that end lines."""
    result = CliRunner().invoke(app(), shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    return [line.rstrip() for line in result.stdout.strip("\n").splitlines()]
