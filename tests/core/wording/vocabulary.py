"""The words that people no longer meet, each with the one to use, and where such strings are found."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
CORE = ROOT / "semfreeze_core"

# A pattern that must not occur, and what to write instead.
RETIRED = {
    r"\bheld against\b": "compared with",
    r"\bhands? out\b": "recommends, reports",
    r"\bgoes on\b|\bgo on\b": "resumes, continues",
    r"\b(begun|begins?) anew\b": "restarts",
    r"\bby heart\b": "overfits",
    r"\bpric(e|ed|es|ing)\b": "estimated cost",
    r"\bof the gain\b": "coverage R(k)",
    r"\bfor sure\b": "significantly",
    r"(?-i:\bFLOP\b)(?!/s)": "compute, FLOPs",
    r"\bequal (steps|compute)\b": "same steps, same compute",
    r"\bundecided\b": "inconclusive",
    r"\bnats an? ": "nats per",
    r"\bsupervised (token|position)s?\b": "target token",
    r"\b(label|task) null\b": "random-label baseline, swapped-completion control",
    r"\blatent spaces?\b": "hidden state",
    r"\babstain(s|ed)?\b": "makes no recommendation",
    r"\bcards?\b": "GPU",
    r"\beval items?\b": "eval example",
    r"\bshipped\b": "bundled",
    r"\b(a|the) reading\b|\breadings\b": "analysis, evaluation",
    r"\b(is|are) told\b": "is reported",
    r"\bin 9 of 10\b": "in 90% of",
    r"[\d}] %": "no space before %",
    r"\b(quanti|optimi|normali|synchroni|tokeni|summari|initiali|reali|recogni|minimi|maximi)s(e|i|ation)": "-ize",
    r"\banalys(e|ed|ing)\b": "analyze",
    r"\b(colour|behaviour|neighbour|favour)": "-or",
    r"\b(label|cancel|travel|model)l(ed|ing)\b": "one l",
}


@dataclass(frozen=True)
class Text:
    """A string that people read, and where it is."""

    where: str
    text: str


def retired_words(text: str) -> list[str]:
    """What of a text is retired, each with what to write instead."""
    return [
        f"{match[0]!r}: {instead}"
        for word, instead in RETIRED.items()
        if (match := re.search(word, text, re.IGNORECASE))
    ]


def constants_of(path: Path) -> list[Text]:
    """Every string of a module that is not a docstring, an f-string as one with {} for its values."""
    tree = ast.parse(path.read_text())
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    skipped = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    return list(_texts(tree, path, skipped))


def error_messages_of(path: Path) -> list[Text]:
    """Every string inside a `raise ...Error(...)` of a module."""
    raised = [node.exc for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
    calls = [exc for exc in raised if isinstance(exc, ast.Call)]
    return [text for call in calls for text in _texts(call, path, set())]


def _texts(node: ast.AST, path: Path, skipped: set[int]) -> Iterator[Text]:
    if id(node) in skipped:
        return
    place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
    if isinstance(node, ast.JoinedStr):
        pieces = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        yield Text(place, "".join(map(str, pieces)))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _texts(part.value, path, skipped)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield Text(place, node.value)
    for child in ast.iter_child_nodes(node):
        yield from _texts(child, path, skipped)
