"""Text from data, files and people, made safe for the place that shows it: one function for each kind of place.

What cannot be seen is written out everywhere: control characters, with which a text could clear a terminal, and the
marks of writing direction, with which a name could read as another one.
"""

import html
import re

# C0 and C1 without tab and line feed, marks of direction, line and paragraph separators, and halves of surrogate pairs.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What Markdown interprets inside a line, and at its start. Plain prose stays as it reads.
_MARKDOWN = re.compile(
    r"""[\\`*\[\]<>&~$|\#@]                     # emphasis, code, links, HTML, mathematics, headings
    | (?<![^\W_])_ | _(?![^\W_])               # emphasis; within a word it is none
    | :(?=\S|$)                                # Streamlit's marks, one of which may follow the text, and https://
    | -(?=[->]) | (?<=-)-                      # dashes and arrows
    | (?<=\bwww)\.""",
    re.VERBOSE,
)
_COMMAND = re.compile(r"`((?:semfreeze\b|--)[^`]*)`")  # other backticks stand for themselves, as those of file names
_DECLARATION = re.compile(r"coding(?=[:=])")  # in a comment on top, by which Python would read the file (PEP 263)
_LINE_START = re.compile(r"^( *(?:\d{1,9}(?=[.)]))?)([-+=.)])")  # lists and rules


def terminal_text(text: str) -> str:
    """Text as a terminal or a plain text box may print it, with what cannot be seen written out, as in `\\x1b`."""
    return _UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


def json_text(document: str) -> str:
    """A JSON document that means the same, with what cannot be seen as JSON's own escapes."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def comment_lines(text: str) -> list[str]:
    """Text as lines of comments in a script or configuration, without their marks: none ends its comment or acts."""
    return [_DECLARATION.sub("coding ", line) for line in terminal_text(text).split("\n")]


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it stands, on one line: for pages and model cards."""
    line = re.sub("^[ \t]{4,}", lambda match: "\u00a0" * len(match[0]), _one_line(text))  # else a block of code
    return _LINE_START.sub(r"\1\\\2", _MARKDOWN.sub(lambda match: f"\\{match[0]}", line))


def markdown_sentence(text: str) -> str:
    """A sentence of ours that Markdown shows as it stands, the commands and flags in it as code."""
    parts = _COMMAND.split(text)  # every second one is a command
    return "".join(markdown_code(part) if index % 2 else markdown_text(part) for index, part in enumerate(parts))


def markdown_code(text: str) -> str:
    """Text as a span of code in Markdown, whatever backticks it has."""
    line = _one_line(text)
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def html_text(text: str) -> str:
    """Text inside an HTML element or a quoted attribute."""
    return html.escape(terminal_text(text))


def chart_text(text: str) -> str:
    """Text as a label of a chart, where Plotly takes some HTML."""
    return html.escape(_one_line(text), quote=False)


def _one_line(text: str) -> str:
    return terminal_text(text.replace("\n", " "))
