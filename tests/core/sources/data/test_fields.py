"""Which fields are read, what is guessed and what is refused, and the example a row becomes."""

import re
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.errors import DataError
from semfreeze_core.records.examples import Example, Segment
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.fields import example_from_row, resolve_fields

PAIR = FieldMapping(prompt_field="prompt", completion_field="completion", label_field="label")
CHAT = FieldMapping(messages_field="messages")
TEXT = FieldMapping(text_field="text")


def refusal(mapping, columns):
    with pytest.raises(DataError) as caught:
        resolve_fields(mapping, columns)
    return str(caught.value)


def row_refusal(row, mapping, render_chat=None):
    with pytest.raises(DataError) as caught:
        example_from_row(row, 17, mapping, render_chat)
    return str(caught.value)


@pytest.mark.parametrize("prompt", ["prompt", "question", "instruction", "input", "query", "Question"])
@pytest.mark.parametrize("completion", ["completion", "answer", "output", "response", "target"])
def test_resolve_fields_guesses_one_prompt_and_one_completion(prompt, completion):
    mapping, notes = resolve_fields(FieldMapping(), ["id", completion, prompt])
    assert mapping == FieldMapping(prompt_field=prompt, completion_field=completion)
    (note,) = notes
    assert re.fullmatch(
        rf"Read as (Alpaca|Dolly|prompt and completion|question and answer): the prompt from {prompt!r} "
        rf"\(--prompt-field\), the completion from {completion!r} \(--completion-field\)\.",
        note,
    )


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["messages", "id"], FieldMapping(messages_field="messages")),
        (["conversations"], FieldMapping(messages_field="conversations")),
        (["text", "label"], FieldMapping(text_field="text", label_field="label")),
        (["query", "label", "target"], FieldMapping("query", "target", "label")),
    ],
)
def test_resolve_fields_guesses_the_only_way_of_reading(columns, expected):
    mapping, notes = resolve_fields(FieldMapping(), columns)
    assert mapping == expected
    for field in fields(expected):
        assert (f"--{field.name.replace('_', '-')}" in notes[0]) == (getattr(expected, field.name) is not None)


def test_resolve_fields_guesses_only_what_is_missing():
    columns = ["instruction", "input", "output", "label"]
    mapping, notes = resolve_fields(FieldMapping(template="{instruction}\n{input}", label_field="label"), columns)
    assert (mapping.completion_field, mapping.prompt_field) == ("output", None)
    assert len(notes) == 1
    assert resolve_fields(FieldMapping(completion_field="input"), ["instruction", "input"])[0].prompt_field == (
        "instruction"
    )
    assert resolve_fields(FieldMapping(text_field="output"), columns[:3]) == (FieldMapping(text_field="output"), [])


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["prompt", "question", "completion", "answer", "text", "messages", "label"]), unique=True)
)
def test_resolve_fields_leaves_a_resolved_mapping_alone(columns):
    try:
        mapping, _ = resolve_fields(FieldMapping(), columns)
    except DataError:
        return
    assert resolve_fields(mapping, columns) == (mapping, [])


@pytest.mark.parametrize(
    ("mapping", "columns", "expected"),
    [
        ({}, ["instruction", "input", "answer"], "'instruction' and 'input' could each be the prompt"),
        ({}, ["prompt", "answer", "output"], "'answer' and 'output' could each be the completion"),
        ({}, ["prompt", "label"], "no column is called completion or answer or output or response or target"),
        ({}, ["messages", "conversations"], "'messages' and 'conversations' could each be the messages"),
        ({}, ["prompt", "completion", "text"], "could be read as prompt and completion or as plain text"),
        ({}, ["answer", "messages"], "could be read as prompt and completion or as chat messages"),
        ({}, ["a", "b"], "no column has a name that says what it is"),
        ({"label_field": "a"}, ["a", "b"], "no column has a name that says what it is"),
        ({"prompt_field": "promt"}, ["prompt", "completion"], "--prompt-field: no column 'promt'"),
        ({"label_field": "x"}, ["text"], "--label-field: no column 'x'"),
        (
            {"label_field": "prompt"},
            ["prompt", "completion"],
            "'prompt' is the label (--label-field), and no other column can be the prompt",
        ),
        ({"template": "{a} {x}"}, ["a", "target"], "--template: no column 'x'"),
        ({"template": "fixed"}, ["target"], "--template names no column"),
        ({"template": "{}"}, ["target"], "--template: {} names no column"),
        ({"template": "{a"}, ["a", "target"], "--template: expected '}' before end of string"),
        ({"template": "{a:>5}"}, ["a", "target"], "--template: {a} may hold a column name only"),
        ({"template": "{a!r}"}, ["a", "target"], "--template: {a} may hold a column name only"),
        ({"template": "{a.__class__}"}, ["a", "target"], "--template: no column 'a.__class__'"),
        ({"template": "{a} {b}", "completion_field": "b"}, ["a", "b"], "--template shows the completion 'b'"),
        ({"prompt_field": "a", "completion_field": "a"}, ["a"], "prompt and completion are the same column 'a'"),
    ],
)
def test_resolve_fields_refuses_what_is_not_clear(mapping, columns, expected):
    message = refusal(FieldMapping(**mapping), columns)
    assert expected in message
    assert f"Columns found: {', '.join(columns)}." in message
    flags = "--prompt-field, --completion-field, --label-field, --template, --messages-field, --text-field."
    assert message.endswith(flags)


def test_resolve_fields_tells_all_problems_at_once():
    everything = FieldMapping("a", "b", "x", "{y}", "m", "t")
    message = refusal(everything, ["a", "b", "m", "t"])
    for single in ("--messages-field", "--text-field"):
        for other in ("--prompt-field", "--template", "--completion-field"):
            assert f"{single} excludes {other}" in message
    assert "--messages-field excludes --text-field" in message
    assert "--template excludes --prompt-field" in message
    assert "--label-field: no column 'x'" in message
    assert "--template: no column 'y'" in message


def test_example_from_row_reads_prompt_completion_and_label():
    row = {"prompt": "Q: ", "completion": "A", "label": "x", "more": 3}
    assert example_from_row(row, 5, PAIR) == Example((Segment("Q: ", False), Segment("A", True)), "x", 5)


def test_example_from_row_fills_the_template():
    mapping = FieldMapping(template="{my col}\\n{a.b}{{}}\n", completion_field="c")
    row = {"my col": "one {a.b}", "a.b": None, "c": "two"}
    example = example_from_row(row, 0, mapping)
    assert (example.prompt, example.completion) == ("one {a.b}\n{}\n", "two")


def test_example_from_row_supervises_plain_text_whole():
    assert example_from_row({"text": "abc"}, 2, TEXT) == Example((Segment("abc", True),), None, 2)


@pytest.mark.parametrize("empty", ["", " \n", None])
def test_example_from_row_is_none_when_nothing_is_supervised(empty):
    assert example_from_row({"prompt": "a", "completion": empty, "label": "x"}, 0, PAIR) is None
    assert example_from_row({"text": empty}, 0, TEXT) is None
    assert example_from_row({"messages": []}, 0, CHAT, lambda messages: ()) is None


@pytest.mark.parametrize(
    ("label", "expected"), [("a", "a"), (3, "3"), (True, "True"), (False, "False"), (0, "0"), ("", None), (None, None)]
)
def test_example_from_row_turns_labels_into_text(label, expected):
    assert example_from_row({"prompt": "a", "completion": "b", "label": label}, 0, PAIR).label == expected


def test_example_from_row_allows_a_row_without_its_label():
    assert example_from_row({"prompt": "a", "completion": "b"}, 0, PAIR).label is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (4, "a number (int 4)"),
        (0.5, "a number (float 0.5)"),
        (True, "true or false (bool True)"),
        (["x"], "a list of 1"),
        ({"k": 1}, "an object with the keys 'k'"),
        (b"x", "a value of type bytes"),
    ],
)
def test_example_from_row_names_row_field_and_kind_of_a_wrong_value(value, kind):
    row = {"prompt": "a", "completion": "b", "text": "c"}
    assert row_refusal(row | {"completion": value}, PAIR) == f"row 17: field 'completion' is {kind}, expected text"
    assert row_refusal(row | {"prompt": value}, PAIR) == f"row 17: field 'prompt' is {kind}, expected text"
    assert row_refusal(row | {"text": value}, TEXT) == f"row 17: field 'text' is {kind}, expected text"


@pytest.mark.parametrize("label", [0.5, ["a"], {"a": 1}])
def test_example_from_row_refuses_a_label_that_is_no_class(label):
    row = {"prompt": "a", "completion": "b", "label": label}
    assert "row 17: field 'label' is" in row_refusal(row, PAIR)
    assert "expected a class: text, a whole number or true/false" in row_refusal(row, PAIR)


def test_example_from_row_refuses_other_broken_rows():
    assert row_refusal({"prompt": None, "completion": "b"}, PAIR) == "row 17: field 'prompt' is null, expected text"
    missing = "row 17: field 'completion' is missing; the row has 'prompt', 'x'"
    assert row_refusal({"prompt": "a", "x": 1}, PAIR) == missing
    assert row_refusal({}, TEXT) == "row 17: field 'text' is missing; the row has no fields"
    half = "row 17: field 'text' holds half a character (\\ud83d) at 1"
    assert row_refusal({"text": "a\ud83d"}, TEXT) == half
    assert "need a model's tokenizer" in row_refusal({"messages": []}, CHAT)


def test_example_from_row_needs_a_resolved_mapping():
    with pytest.raises(ValueError, match="resolve_fields makes it so"):
        example_from_row({"prompt": "a"}, 0, FieldMapping(prompt_field="prompt"))


def test_example_from_row_reads_both_spellings_of_a_conversation():
    conversations = []

    def render(messages):
        conversations.append(messages)
        return (Segment("hi", True),)

    standard = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u", "tool_calls": None},
        {"role": "assistant", "content": "a", "weight": 1},
    ]
    sharegpt = [{"from": "system", "value": "s"}, {"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]
    for value in (standard, sharegpt):
        assert example_from_row({"messages": value}, 3, CHAT, render) == Example((Segment("hi", True),), None, 3, True)
    assert conversations[0] == conversations[1] == [{"role": m["role"], "content": m["content"]} for m in standard]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ("hi", "field 'messages' is text, expected a list of messages"),
        (None, "field 'messages' is null, expected a list of messages"),
        ({"role": "user"}, "field 'messages' is an object with the keys 'role', expected a list"),
        (["hi"], "message 0 of field 'messages' is text, expected role and content"),
        ([{"role": "user", "text": "x"}], "message 0 of field 'messages' has the keys 'role', 'text', expected 'role'"),
        (
            [{"role": "boss", "content": "x"}],
            "message 0 of field 'messages' has the role 'boss', expected one of system",
        ),
        ([{"from": [], "value": "x"}], "message 0 of field 'messages' has the from [], expected one of"),
        ([{"role": "user", "content": None}], "the content of message 0 of field 'messages' is null, expected text"),
        (
            [{"role": "assistant", "content": "", "tool_calls": [1]}],
            "a tool call of message 0 of field 'messages' is a number",
        ),
    ],
)
def test_example_from_row_refuses_a_malformed_conversation(messages, expected):
    message = row_refusal({"messages": messages}, CHAT, lambda messages: ())
    assert message.startswith("row 17: ")
    assert expected in message


def chat_messages(*messages, **columns):
    """The messages, and tools if any, that a template is given for a row."""
    given = []

    def render(*what):
        given.extend(what)
        return (Segment("hi", True),)

    example_from_row({"messages": list(messages), **columns}, 0, CHAT, render)
    return given


@pytest.mark.parametrize(
    ("flag", "untrained"),
    [
        ({"weight": 0}, True),
        ({"weight": 1}, False),
        ({"weight": 0.0}, True),
        ({"train": False}, True),
        ({"train": True}, False),
        ({"training": False}, True),
        ({}, False),
    ],
)
def test_a_message_that_is_not_to_be_trained_on_is_marked(flag, untrained):
    ((message,),) = chat_messages({"role": "assistant", "content": "a", **flag})
    assert message == {"role": "assistant", "content": "a"} | ({"untrained": True} if untrained else {})


def test_what_templates_show_of_a_message_is_passed_on():
    call = {"name": "look", "arguments": '{"a": 1}'}
    called = [{"type": "function", "function": {"name": "look", "arguments": {"a": 1}}}]
    spoken = {"role": "assistant", "content": None}
    (given,) = chat_messages(
        {"role": "assistant", "content": "a", "reasoning_content": "r", "refusal": None, "id": 7},
        {"role": "assistant", "content": "a", "thinking": " "},
        spoken | {"tool_calls": [{"id": "c1", "type": "function", "function": call}]},
        spoken | {"function_call": call},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "found", "tool_call_id": "c1"},
        {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
    )
    assert given[0] == {"role": "assistant", "content": "a", "reasoning_content": "r"}
    assert given[1] == {"role": "assistant", "content": "a"}
    assert given[2] == {"role": "assistant", "content": "", "tool_calls": [{"id": "c1"} | called[0]]}
    assert given[3] == given[4] == {"role": "assistant", "content": "", "tool_calls": called}
    assert given[5] == {"role": "tool", "content": "found", "tool_call_id": "c1"}
    assert given[6] == {"role": "user", "content": "one two"}


def test_tools_beside_a_chat_are_passed_on_from_a_list_or_from_json():
    tools = [{"name": "look", "parameters": {"a": None, "b": 1}}]
    hello = {"role": "user", "content": "a"}
    for value in (tools, '[{"name": "look", "parameters": {"b": 1}}]'):
        assert chat_messages(hello, tools=value)[1] == [{"name": "look", "parameters": {"b": 1}}]
    for value in (None, "", "[]", []):
        assert len(chat_messages(hello, tools=value)) == 1
    for value in ("look", 3, ["look"]):
        message = row_refusal({"messages": [hello], "tools": value}, CHAT, lambda *what: ())
        assert "field 'tools' is" in message


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"weight": 0.5}, "the weight of message 0 of field 'messages' is a number (float 0.5), expected 0 or 1"),
        ({"train": "no"}, "the train of message 0 of field 'messages' is text, expected 0 or 1, true or false"),
        ({"tools": [{"name": "look"}]}, "message 0 of field 'messages' has 'tools', which is not read: put the tools"),
        ({"images": ["x"]}, "has 'images', which is not read: semfreeze reads text only"),
        ({"content": [{"type": "image"}]}, "has parts of type image, expected text only"),
        ({"reasoning_content": 3}, "the reasoning_content of message 0 of field 'messages' is a number"),
        ({"tool_calls": "look"}, "the tool calls of message 0 of field 'messages' are null"),
        ({"role": "function_call"}, "is not JSON, expected a tool call with name and arguments"),
    ],
)
def test_what_would_change_the_meaning_of_a_message_is_refused_by_name(more, expected):
    message = {"role": "assistant", "content": "a"} | more
    assert expected in row_refusal({"messages": [message]}, CHAT, lambda *what: ())


def test_a_refusal_names_some_columns_of_very_many():
    columns = [f"c{i}" for i in range(100_000)]
    assert len(refusal(FieldMapping(), columns)) < 700
    assert "and 99,980 more" in refusal(FieldMapping(), columns)
    assert len(row_refusal(dict.fromkeys(columns, "x"), TEXT)) < 400
