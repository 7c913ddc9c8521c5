"""Supervised text found through a chat template, and templates in which it cannot be found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.errors import DataError
from semfreeze_core.records.examples import Segment
from semfreeze_core.sources.data import chat
from semfreeze_core.sources.data.chat import render_chat, require_chat_template, shows_tools
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
        # a question changes once it is answered
        "{% for m in messages %}{{ m['role'] }}{% if not loop.last and m['role'] == 'user' %}!{% endif %}"
        "{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}assistant{% endif %}",
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


REASONING = (  # as Qwen3's: only the answer to the last question keeps its reasoning
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% set content = m['content'] %}"
    "{% if m['role'] == 'assistant' %}{% set thought = m.reasoning_content or '' %}"
    "{% if '</think>' in content %}{% set thought = content.split('</think>')[0].split('<think>')[-1] %}"
    "{% set content = content.split('</think>')[-1].strip() %}{% endif %}"
    "{% if loop.index0 > ns.last %}{% set content = '<think>' + thought.strip() + '</think>' + content %}{% endif %}"
    "{% endif %}{{ '[' + m['role'] + ']' + content + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


def supervised(segments):
    return [segment.text for segment in segments if segment.supervised]


def test_render_chat_finds_earlier_answers_that_lose_their_reasoning():
    tokenizer = build_tiny_tokenizer(chat_template=REASONING)
    messages = talk("one", "<think>t</think>two", "three", "<think>u</think>four")
    segments = render_chat(tokenizer, messages)
    assert supervised(segments) == [f"two{EOS}", f"<think>u</think>four{EOS}"]
    assert tokenizer.apply_chat_template(messages, tokenize=False).startswith("".join(s.text for s in segments))
    named = [*talk("one"), {"role": "assistant", "content": "two", "reasoning_content": "t"}]
    assert supervised(render_chat(tokenizer, named)) == [f"<think>t</think>two{EOS}"]


def test_render_chat_finds_an_answer_without_the_reasoning_that_the_template_asks_for():
    template = CHATML.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
    assert template != CHATML
    tokenizer = build_tiny_tokenizer(chat_template=template)
    assert supervised(render_chat(tokenizer, talk("one", "two", "three", "four"))) == [f"two{EOS}", f"four{EOS}"]
    thinking = talk("one", "<think>\nt</think>two")
    assert supervised(render_chat(tokenizer, thinking)) == [f"t</think>two{EOS}"]


def test_render_chat_follows_the_marks_of_a_template():
    template = (
        "{% for m in messages %}{{ '[' + m['role'] + ']' }}{% if m['role'] == 'assistant' %}"
        "{%- generation -%}{{ m['content'] + eos_token }}{%- endgeneration -%}{% else %}{{ m['content'] }}{% endif %}"
        "{{ '\n' }}{% endfor %}"
    )
    tokenizer = build_tiny_tokenizer(chat_template=template)
    messages = talk("one", "two", "three", "four")
    assert supervised(render_chat(tokenizer, messages)) == [f"two{EOS}", f"four{EOS}"]
    messages[1]["untrained"] = True
    segments = render_chat(tokenizer, messages)
    assert supervised(segments) == [f"four{EOS}"]
    assert "".join(s.text for s in segments) + "\n" == tokenizer.apply_chat_template(
        talk("one", "two", "three", "four"), tokenize=False
    )
    nothing = build_tiny_tokenizer(
        chat_template="{% for m in messages %}{% generation %}{% endgeneration %}{% endfor %}"
    )
    with pytest.raises(DataError, match="marks"):
        render_chat(nothing, messages)


def test_render_chat_leaves_a_message_that_is_not_trained_on_as_context():
    messages = talk("one", "two", "three", "four")
    messages[1]["untrained"] = True
    segments = render_chat(TOKENIZER, messages)
    assert supervised(segments) == [f"four{EOS}"]
    assert "two" in segments[0].text


def test_render_chat_refuses_by_name_what_the_template_does_not_show():
    answer = {"role": "assistant", "content": "two", "reasoning_content": "because"}
    with pytest.raises(DataError, match=r"message 1 has 'reasoning_content', which the model's chat template does not"):
        render_chat(TOKENIZER, [*talk("one"), answer])
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look", "arguments": {}}}]}
    with pytest.raises(DataError, match=r"message 1 calls tools, which the model's chat template does not show"):
        render_chat(TOKENIZER, [*talk("one"), call])


def test_render_chat_gives_tools_and_calls_to_a_template_that_shows_them():
    template = CHATML.replace("{% for", "{% if tools %}{{ tools | tojson }}{% endif %}{% for", 1).replace(
        "+ message['content'] +", "+ message['content'] + (message.tool_calls | tojson if message.tool_calls else '') +"
    )
    tokenizer = build_tiny_tokenizer(chat_template=template)
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"a": 1}}}]}
    context, target = render_chat(tokenizer, [*talk("one"), call], [{"name": "look"}])
    assert '[{"name": "look"}]' in context.text
    assert '"arguments": {"a": 1}' in target.text
    assert shows_tools(tokenizer)
    assert not shows_tools(TOKENIZER)


def test_render_chat_takes_time_that_grows_with_the_conversation_alone(monkeypatch):
    rendered = []
    apply = type(TOKENIZER).apply_chat_template

    def count(tokenizer, messages, **options):
        rendered.append(len(messages))
        return apply(tokenizer, messages, **options)

    monkeypatch.setattr(type(TOKENIZER), "apply_chat_template", count)
    messages = [{"role": "system", "content": "s"}, *talk(*map(str, range(400)))]
    segments = render_chat(TOKENIZER, messages)
    assert sum(rendered) < 10 * len(messages)
    assert supervised(segments) == [f"{i}{EOS}" for i in range(1, 400, 2)]
    assert apply(TOKENIZER, messages, tokenize=False) == "".join(s.text for s in segments) + "\n"


def test_render_chat_finds_the_same_answers_one_by_one_and_by_exchange(monkeypatch):
    messages = talk(*map(str, range(12)))
    one_by_one = render_chat(TOKENIZER, messages)
    monkeypatch.setattr(chat, "_FEW_TARGETS", 0)
    assert render_chat(TOKENIZER, messages) == one_by_one
    counted = build_tiny_tokenizer(
        chat_template="{% for m in messages %}{{ loop.index }}{{ m['content'] }}{% endfor %}"
    )
    monkeypatch.setattr(chat, "_MANY_TARGETS", 0)
    with pytest.raises(DataError, match="rewrites earlier turns"):
        render_chat(counted, messages)


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


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("name", ENDLESS)
def test_render_chat_stops_a_template_that_would_not_end(name):
    tokenizer = build_tiny_tokenizer(chat_template=ENDLESS[name])
    with pytest.raises(DataError, match=r"the model's chat template .*[Cc]heck the chat_template in its"):
        render_chat(tokenizer, talk("one", "two"))


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
