"""The words that people no longer meet and names that say nothing, each with what to write, and where they are."""

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

# What is no identifier by itself, with or without underscores and in any case, and what a name says instead.
RETIRED_NAMES = {
    "told": "message, reason, settings",
    "found": "match, report, names",
    "own": "matched, manual_flag, batch_setup",
    "kept": "stored, saved, share",
    "seen": "observed, steps, arguments",
    "words": "message, flags, arguments, labels",
    "place": "path, folder, offset, row_index",
    "hushed": "silenced, warnings_off",
    "shelf": "run_folder",
    "gate": "auth",
    "clouds": "points",
    "picks": "depths, candidates",
    "stay": "remaining, onload",
    "spare": "offload",
}
# Fields of documents keep the name that files hold.
STORED_NAMES = {
    ("semfreeze_core/records/pilots.py", "kept"): "a field of a stored report of pilots",
    ("semfreeze_core/records/trace.py", "own"): "`pairs_own` in a run's arrays, and public in `Run.pairs`",
    ("semfreeze_core/finetune/audit/audit.py", "found"): "a field of what `semfreeze audit --json` prints",
    ("tests/benchmarks/evidence_cells.py", "picks"): "a field of the results in tests/benchmarks/results",
    ("tests/benchmarks/searched_cells.py", "picks"): "a field of the results in tests/benchmarks/results",
}
_NAME = f"_*(?:{'|'.join(RETIRED_NAMES)})_*"
# Where such a name may be bound; what matches is parsed, and few files match.
_MAY_BIND = re.compile(rf"(?:\b(?:as|import)\s+|\*\*){_NAME}\b|\b{_NAME}\b\s*(?:[=:,(\])]|in\b)", re.IGNORECASE)
# Nodes of Python code that bind a name, or may: each with the field that holds it.
_BINDERS = {
    ast.Name: "id", ast.Attribute: "attr", ast.arg: "arg", ast.FunctionDef: "name", ast.AsyncFunctionDef: "name",
    ast.ClassDef: "name", ast.alias: "name", ast.ExceptHandler: "name", ast.MatchAs: "name", ast.MatchStar: "name",
    ast.MatchMapping: "rest",
}  # fmt: skip


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


def retired_names_of(source: str) -> dict[str, int]:
    """Retired names that Python code binds, each with the line of its first binding: variables, arguments, attributes,
    functions, classes and imports."""
    if not _MAY_BIND.search(source):
        return {}
    lines: dict[str, int] = {}
    for node in ast.walk(ast.parse(source)):
        field = _BINDERS.get(type(node))
        if field is None or isinstance(getattr(node, "ctx", None), ast.Load | ast.Del):
            continue
        name = getattr(node, "asname", None) or getattr(node, field)
        if name is not None and name.strip("_").lower() in RETIRED_NAMES:
            lines.setdefault(name, node.lineno)
    return lines


def _texts(node: ast.AST, path: Path, skipped: set[int]) -> Iterator[Text]:
    if id(node) in skipped:
        return
    location = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
    if isinstance(node, ast.JoinedStr):
        pieces = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        yield Text(location, "".join(map(str, pieces)))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _texts(part.value, path, skipped)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield Text(location, node.value)
    for child in ast.iter_child_nodes(node):
        yield from _texts(child, path, skipped)
