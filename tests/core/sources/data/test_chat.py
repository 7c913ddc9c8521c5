"""Supervised text found through a chat template, and templates in which it cannot be found."""

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


def test_require_chat_template_points_to_the_prompt_field():
    with pytest.raises(DataError, match=r"no chat template.*--prompt-field"):
        require_chat_template(build_tiny_tokenizer())
    with pytest.raises(DataError, match="no chat template"):
        render_chat(build_tiny_tokenizer(), talk("one", "two"))
