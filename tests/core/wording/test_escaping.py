"""Hostile text at every boundary: it is shown as it stands, and does nothing."""

import io
import json
import tokenize

import pytest
from markdown_it import MarkdownIt

from semfreeze_core.wording.escaping import (
    chart_text,
    comment_lines,
    html_text,
    json_text,
    markdown_code,
    markdown_sentence,
    markdown_text,
    terminal_text,
)

HOSTILE = (
    "[x](javascript:alert(1))",
    "![x](https://a.example/p.png)",
    "`code`",
    "$math$",
    "<script>alert(1)</script>",
    "\x1b[2J",
    "\x1b]8;;https://a.example\x07x",
    "abc\u202egnp.exe",
    "\u2066a\u2069",
    ":red[x] :material/home: :smile:",
    "**bold** _it_ ~~s~~",
    "a\n\n# heading",
    "www.a.example https://a.example",
    "&lt;b&gt;",
    "x\ry",
    "\x9b2J",
    "\udcff",
    "- item",
    "+ item",
    "12. item",
    "9) item",
    "123456789. item",
    "---",
    "    indented",
    "> quoted",
    "| a | b |",
    "[^1]: note",
    "[x]: https://a.example",
    "a_b __c__ _d_ e_",
    "x\\",
)
UNSEEN = "\x1b\x07\r\x9b\u202e\u2066\u2069\udcff"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "escape", [terminal_text, markdown_text, markdown_sentence, markdown_code, html_text, chart_text]
)
def test_nothing_unseen_passes_any_boundary(escape, text):
    assert not set(escape(text)) & set(UNSEEN)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_the_text_and_nothing_else(text):
    parser = MarkdownIt("commonmark").enable(["strikethrough", "table"])
    for escape, kind in ((markdown_text, "text"), (markdown_sentence, "text"), (markdown_code, "code_inline")):
        (opened, inline, closed) = parser.parse(escape(text))
        assert (opened.type, closed.type) == ("paragraph_open", "paragraph_close")
        assert {child.type for child in inline.children} <= {"text", "text_special", kind}
        shown = "".join(child.content for child in inline.children).replace("\u00a0", " ")
        assert shown.strip(" ") == terminal_text(text.replace("\n", " ")).strip(" ")


def test_markdown_leaves_streamlits_own_marks_and_mathematics_no_opening():
    assert markdown_text(":red[x] $y$ :a: https://b") == r"\:red\[x\] \$y\$ \:a: https\://b"


def test_markdown_leaves_prose_as_it_reads():
    prose = "Measured in a_b-c: 99% (95% CI 98–100%; required: 95%). It's 3/4, 1.5 GiB!"
    assert markdown_text(prose) == prose
    assert markdown_text("2-newer") == "2-newer"


def test_commands_and_flags_of_a_sentence_are_code_and_other_backticks_stand_for_themselves():
    sentence = "Run `semfreeze sweep` first, on `a`b *c*, and train with `--keep-best`."
    (_, inline, _) = MarkdownIt("commonmark").parse(markdown_sentence(sentence))
    shown = [(child.type == "code_inline", child.content) for child in inline.children]
    assert [text for is_code, text in shown if is_code] == ["semfreeze sweep", "--keep-best"]
    assert "".join(text for _, text in shown) == "Run semfreeze sweep first, on `a`b *c*, and train with --keep-best."


def test_terminal_keeps_lines_and_tabs_and_what_people_write():
    assert terminal_text("a\tb\nnaïve 数 👩‍🔬") == "a\tb\nnaïve 数 👩‍🔬"
    assert terminal_text("\x1b[2J\u202e") == r"\x1b[2J\u202e"


@pytest.mark.parametrize("text", [*HOSTILE, "# -*- coding: utf-7 -*-", "coding=x\ncoding: y"])
def test_comments_keep_every_line_inside_and_declare_nothing(text):
    lines = comment_lines(text)
    assert len(lines) == text.count("\n") + 1
    source = "".join(f"# {line}\n" for line in lines)
    assert not set(source) & set(UNSEEN)
    assert source.splitlines() == [f"# {line}" for line in lines]
    assert tokenize.detect_encoding(io.BytesIO(source.encode()).readline)[0] == "utf-8"
    assert "".join(lines).replace("coding ", "coding") == terminal_text(text).replace("\n", "")


def test_html_and_charts_hold_no_tag():
    assert html_text('<a href="x">') == "&lt;a href=&quot;x&quot;&gt;"
    assert chart_text('<a href="x">&lt;') == '&lt;a href="x"&gt;&amp;lt;'


@pytest.mark.parametrize("text", HOSTILE)
def test_json_means_the_same_and_shows_everything(text):
    document = json_text(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(document) == {text: [text]}
    assert not set(document) & set(UNSEEN)
