"""Supervised text found through a chat template, and templates in which it cannot be found."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.errors import DataError
from semfreeze_core.records.examples import Segment
from semfreeze_core.sources.data.chat import render_chat, require_chat_template
from tests.core.tiny_tokenizer import CHATML, EOS, build_tiny_tokenizer

TOKENIZER = build_tiny_tokenizer(chat_template=CHATML)


def talk(*contents, first="user"):
    """Messages in turn by user and assistant."""
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


def test_render_chat_supervises_each_assistant_turn_with_its_end():
    messages = [{"role": "system", "content": "s"}, *talk("one", "two", "three", "four")]
    assert render_chat(TOKENIZER, messages) == (
        Segment(f"<|im_start|>system\ns{EOS}\n<|im_start|>user\none{EOS}\n<|im_start|>assistant\n", supervised=False),
        Segment(f"two{EOS}", supervised=True),
        Segment(f"\n<|im_start|>user\nthree{EOS}\n<|im_start|>assistant\n", supervised=False),
        Segment(f"four{EOS}", supervised=True),
    )


@settings(deadline=None)
@given(st.lists(st.text(), min_size=2, max_size=7))
def test_render_chat_segments_are_the_template_text_from_its_start(contents):
    messages = talk(*contents)
    segments = render_chat(TOKENIZER, messages)
    whole = TOKENIZER.apply_chat_template(messages, tokenize=False)
    assert whole.startswith("".join(segment.text for segment in segments))
    assert [segment.supervised for segment in segments] == [False, True] * (len(segments) // 2)
    answers = [content + EOS for content in contents[1::2] if content.strip()]
    assert [segment.text for segment in segments if segment.supervised] == answers


def test_render_chat_drops_what_follows_the_last_answer():
    assert render_chat(TOKENIZER, talk("one", "two", "three")) == render_chat(TOKENIZER, talk("one", "two"))


def test_render_chat_leaves_empty_and_opening_turns_as_context():
    assert render_chat(TOKENIZER, talk("hello", "one", first="assistant")) == ()
    assert render_chat(TOKENIZER, talk("one", " ")) == ()
    assert render_chat(TOKENIZER, []) == ()
    opening = render_chat(TOKENIZER, talk("hello", "one", "two", first="assistant"))
    assert [segment.text for segment in opening if segment.supervised] == [f"two{EOS}"]
    assert "hello" in opening[0].text


def test_render_chat_keeps_the_white_space_of_a_template_without_end_token():
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer = build_tiny_tokenizer(chat_template=template)
    assert render_chat(tokenizer, talk("one", "two")) == (
        Segment("user: one\nassistant: ", supervised=False),
        Segment("two\n", supervised=True),
    )
    assert render_chat(build_tiny_tokenizer(chat_template=template, eos=False), talk("one", "two"))[1].text == "two\n"


@pytest.mark.parametrize(
    "template",
    [
        # the last answer is marked, earlier ones lose the mark
        "{% for m in messages %}{{ m['role'] }}{% if loop.last and m['role'] == 'assistant' %}!{% endif %}"
        "{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}assistant!{% endif %}",
        # the number of messages comes first
        "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
        # the generation prompt is not how an answer begins
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}bot: {% endif %}",
    ],
)
def test_render_chat_refuses_a_template_that_rewrites_earlier_turns(template):
    tokenizer = build_tiny_tokenizer(chat_template=template)
    with pytest.raises(DataError, match=r"rewrites earlier turns when message \d is added.*--prompt-field"):
        render_chat(tokenizer, talk("one", "two", "three", "four"))


def test_render_chat_passes_on_why_a_template_refuses():
    tokenizer = build_tiny_tokenizer(chat_template="{{ raise_exception('roles must alternate') }}")
    with pytest.raises(DataError, match=r"refuses the conversation \(roles must alternate\); its roles: user"):
        render_chat(tokenizer, talk("one", "two"))


GROWING = "{% set ns = namespace(x='xx') %}{% for i in range(60) %}{% set ns.x = GROWN %}{% endfor %}"
ENDLESS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% set x = i %}{% endfor %}{% endfor %}",
    "empty loops": "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "filter": "{{ range(99999) | map('center', 99999) | join }}",
    "product": "{{ 'x' * 10**10 }}",
    "product of lists": "{{ [1] * 99999 * 99999 }}",
    "numbers": "{% set ns = namespace(x=9) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "power": "{{ 9 ** 99999999 }}",
    "doubled": GROWING.replace("GROWN", "ns.x ~ ns.x"),
    "added": GROWING.replace("GROWN", "ns.x + ns.x"),
    "replaced": GROWING.replace("GROWN", "ns.x.replace('x', 'xx')"),
    "formatted": GROWING.replace("GROWN", "'{0}{0}'.format(ns.x)"),
    "percent": GROWING.replace("GROWN", "'%(a)s%(a)s' % dict(a=ns.x)"),
    "block": "{% set ns = namespace(x='xx') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
    "{% set ns.x = y %}{% endfor %}",
    "padded": "{{ 'x'.center(10**9) }}",
    "wide field": "{{ '%999999999d' % 1 }}",
    "indented": "{{ ('\n' * 99999) | indent(99999) }}",
    "nested brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_render_chat_stops_a_template_that_would_not_end(name):
    tokenizer = build_tiny_tokenizer(chat_template=ENDLESS[name])
    started = time.process_time()
    with pytest.raises(DataError, match=r"the model's chat template .*[Cc]heck the chat_template in its"):
        render_chat(tokenizer, talk("one", "two"))
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ 'a' + 1 }}", "TypeError"),
        ("{% for a, b in messages[0].content %}{% endfor %}", "ValueError"),
    ],
)
def test_render_chat_reports_a_template_with_a_fault(template, fault):
    tokenizer = build_tiny_tokenizer(chat_template=template)
    with pytest.raises(DataError, match=rf"the model's chat template fails on the conversation \({fault}: "):
        render_chat(tokenizer, talk("one", "two"))


def test_render_chat_bounds_no_template_that_writes_each_message_once():
    """Texts of any size, numbers in them, and what is bounded elsewhere: joins, products, tests and macros."""
    template = (
        "{% macro turn(m) %}{{ '<' ~ m.role ~ '>' ~ none ~ m.content | replace('a', 'bb') }}{% endmacro %}"
        "{% for m in messages if m.content != 'skip' %}{{ turn(m) }}{{ '-' * 3 }}{{ '%s|' % loop.index }}"
        "{% generation %}{{ m.content.split('x') | join('+') }}{% endgeneration %}{% endfor %}"
    )
    contents = [f"{i} 12345678 up 5% " + "ax" * 20_000 for i in range(30)]
    tokenizer = build_tiny_tokenizer(chat_template=template)
    messages = [*talk(*contents), {"role": "user", "content": "skip"}]
    segments = render_chat(tokenizer, messages)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert whole.startswith("".join(segment.text for segment in segments))
    assert sum(len(segment.text) for segment in segments) > 2_000_000


def test_require_chat_template_refuses_named_templates_without_a_default():
    tokenizer = build_tiny_tokenizer(chat_template={"tool_use": CHATML, "rag": CHATML})
    with pytest.raises(DataError, match=r"for other uses \(rag, tool_use\), but no default: name one"):
        require_chat_template(tokenizer)
    render_chat(build_tiny_tokenizer(chat_template={"tool_use": "{{ 1 / 0 }}", "default": CHATML}), talk("one", "two"))


def test_require_chat_template_points_to_the_prompt_field():
    with pytest.raises(DataError, match=r"no chat template.*--prompt-field"):
        require_chat_template(build_tiny_tokenizer())
    with pytest.raises(DataError, match="no chat template"):
        render_chat(build_tiny_tokenizer(), talk("one", "two"))
