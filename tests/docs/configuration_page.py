"""The tables of docs/configuration.md, made from the defaults: `python -m tests.docs.configuration_page` writes them.

A test compares the page with what is made.
"""

import ast
import re
import tokenize
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from semfreeze_core.records import defaults
from semfreeze_core.storage import write_atomically
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "configuration.md"
BEGIN, END = "<!-- made by python -m tests.docs.configuration_page -->\n", "<!-- end of what is made -->\n"
SOURCE = Path(defaults.__file__)


class Default(NamedTuple):
    """One constant of the defaults.

    Attributes:
        title: of the group it stands in.
        name, value, meaning: as the file has them; the value as it is written there.
    """

    title: str
    name: str
    value: str
    meaning: str


def defaults_of(source: Path = SOURCE) -> list[Default]:
    """Every constant of a file that is written as its docstring says, in order.

    Raises:
        ValueError: a constant stands below no title, or has no comment.
    """
    text = source.read_text()
    lines = ["", *text.splitlines()]
    with source.open("rb") as file:
        comments = {
            token.start[0]: token.string.removeprefix("#").strip()
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT
        }
    titles = {row for row in comments if lines[row].startswith("#") and not lines[row - 1].strip()}
    return [_default(node, text, comments, titles) for node in ast.parse(text).body if _target(node) is not None]


def _target(node: ast.stmt) -> str | None:
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return target.id if isinstance(target, ast.Name) else None


def _default(node: ast.stmt, text: str, comments: dict[int, str], titles: set[int]) -> Default:
    name, above = _target(node), []
    row = node.lineno - 1
    while row in comments and row not in titles and text.splitlines()[row - 1].startswith("#"):
        above.append(comments[row])
        row -= 1
    meaning = " ".join([*reversed(above), comments.get(node.end_lineno or node.lineno, "")]).strip()
    title = max((row for row in titles if row < node.lineno), default=None)
    if title is None or not meaning or name is None:
        raise ValueError(f"{name} of {SOURCE.name} needs a title above it and a comment that says what it is")
    assert isinstance(node, ast.Assign | ast.AnnAssign)
    assert node.value is not None
    return Default(comments[title], name, ast.get_source_segment(text, node.value) or "", meaning)


def rendered_page(page: str) -> str:
    """The page with its tables made anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return "".join([before, BEGIN, *_tables(defaults_of()), END, after])


def _tables(known: list[Default]) -> Iterator[str]:
    names = re.compile(rf"(?<![`\w])({'|'.join(default.name for default in known)})(?![`\w])")
    for title, group in groupby(known, lambda default: default.title):
        yield f"\n### {title}\n\n| name | default | what it is |\n|---|---|---|\n"
        for default in group:
            meaning = names.sub(r"`\1`", default.meaning)
            yield f"| `{default.name}` | `{default.value}` | {meaning[0].upper()}{meaning[1:].rstrip('.')} |\n"
    yield "\n"


if __name__ == "__main__":
    write_atomically(PAGE, rendered_page(PAGE.read_text()))
