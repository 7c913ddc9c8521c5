"""Published shapes of rows: which one a file has, what is read of it, and what is named because it is not."""

import json

import pytest

from semfreeze_core.errors import DataError
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.examples import read_examples
from semfreeze_core.sources.data.fields import example_from_row, resolve_fields
from semfreeze_core.sources.data.schemas import SCHEMAS, proposed_fields
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer

CHATTY = build_tiny_tokenizer(chat_template=CHATML)


def read(tmp_path, rows, **options):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_examples(str(path), mapping=FieldMapping(), n=None, seed=0, **options)


def first(tmp_path, row, **options):
    """The one example of a row, and the notes."""
    example_set = read(tmp_path, [row], **options)
    (example,) = example_set.examples
    return example, example_set.notes


@pytest.mark.parametrize(
    ("row", "name", "prompt", "completion"),
    [
        ({"instruction": "Add.", "input": "1 + 1", "output": "2"}, "Alpaca", "Add.\n1 + 1\n", "2"),
        ({"instruction": "Say hi.", "input": "", "output": "hi"}, "Alpaca", "Say hi.\n", "hi"),
        ({"instruction": "Say hi.", "input": None, "output": "hi", "text": "all"}, "Alpaca", "Say hi.\n", "hi"),
        (
            {"system": "Be short.", "instruction": "Add.", "input": "1", "output": "2"},
            "Alpaca",
            "Be short.\nAdd.\n1\n",
            "2",
        ),
        (
            {"instruction": "Who?", "context": "Ann came.", "response": "Ann", "category": "qa"},
            "Dolly",
            "Who?\nAnn came.\n",
            "Ann",
        ),
        (
            {"context": "Ann came.", "question": "Who?", "answer": "Ann"},
            "question and answer",
            "Ann came.\nWho?\n",
            "Ann",
        ),
        ({"prompt": "a", "completion": "b"}, "prompt and completion", "a", "b"),
        ({"Question": "a", "Answer": "b"}, "question and answer", "a", "b"),
        ({"text": "a b"}, "plain text", "", "a b"),
    ],
)
def test_a_schema_is_recognized_and_every_part_of_its_prompt_is_read(tmp_path, row, name, prompt, completion):
    example, notes = first(tmp_path, row)
    assert notes[0].startswith(f"Read as {name}: the {'text' if 'text' in name else 'prompt'} from ")
    assert (example.prompt, example.completion) == (prompt, completion)


@pytest.mark.parametrize(
    ("column", "role", "text", "user", "assistant"),
    [
        ("conversations", "from", "value", "human", "gpt"),
        ("conversations", "from", "value", "user", "chatgpt"),
        ("conversations", "from", "value", "user", "bing"),
        ("messages", "role", "content", "user", "assistant"),
    ],
)
def test_chats_are_recognized_in_any_usual_words(tmp_path, column, role, text, user, assistant):
    talk = [{role: user, text: "Hi"}, {role: assistant, text: "Yes"}]
    example, notes = first(tmp_path, {column: talk, "id": "1"}, tokenizer=CHATTY)
    assert notes[0].startswith(f"Read as {'ShareGPT' if role == 'from' else 'chat messages'}: the messages from")
    assert "user\nHi" in example.prompt
    assert example.completion.startswith("Yes")


def test_a_system_column_opens_the_chat_unless_it_has_its_own(tmp_path):
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]
    example, notes = first(tmp_path, {"system": "Be short.", "conversations": talk}, tokenizer=CHATTY)
    assert example.prompt.startswith("<|im_start|>system\nBe short.")
    assert "the system prompt from 'system'" in notes[0]
    opened = [{"from": "system", "value": "Be long."}, *talk]
    example, _ = first(tmp_path, {"system": "Be short.", "conversations": opened}, tokenizer=CHATTY)
    assert "Be long." in example.prompt
    assert "Be short." not in example.prompt
    example, _ = first(tmp_path, {"system": " ", "conversations": talk}, tokenizer=CHATTY)
    assert example.prompt.startswith("<|im_start|>user")


@pytest.mark.parametrize(
    ("history", "lines"),
    [([["Hi", "Yes?"], ["Add.", "What?"]], "Hi\nYes?\nAdd.\nWhat?\n"), ([], ""), (None, ""), ("Hi", "Hi\n")],
)
def test_earlier_turns_of_alpaca_stand_in_the_prompt(tmp_path, history, lines):
    rows = [
        {"instruction": "1 + 1", "input": "", "output": "2", "history": history},
        {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]},
    ]
    example_set = read(tmp_path, rows)
    assert {example.prompt for example in example_set.examples} == {f"{lines}1 + 1\n", "d\ne\na\nb\n"}
    assert "Turns in 'history' stand in the prompt as earlier lines; they are no targets." in example_set.notes
    assert not any("Not read" in note for note in example_set.notes)


@pytest.mark.parametrize("history", [[["only"]], [["a", 1]], ["a", "b"], {"a": "b"}, [["a", "b", "c"]], 3])
def test_a_history_of_another_shape_is_refused_by_name(tmp_path, history):
    with pytest.raises(DataError, match=r"field 'history' is"):
        read(tmp_path, [{"instruction": "a", "output": "b", "history": history}])


ASK, SAY = [{"role": "user", "content": "Hi"}], [{"role": "assistant", "content": "Yes"}]


def test_prompts_and_completions_that_are_messages_are_read_as_one_chat(tmp_path):
    before = [{"role": "system", "content": "Be short."}, *ASK, *SAY, {"role": "user", "content": "So?"}]
    row = {"prompt": before, "completion": [{"role": "assistant", "content": "No"}]}
    example, notes = first(tmp_path, row, tokenizer=CHATTY)
    joined, _ = first(tmp_path, {"messages": [*before, *row["completion"]]}, tokenizer=CHATTY)
    assert example.complete
    assert "".join(s.text for s in example.segments) == "".join(s.text for s in joined.segments)
    assert [s.text.strip() for s in example.segments if s.supervised] == ["No</s>"], "the prompt has no targets"
    assert len([s for s in joined.segments if s.supervised]) == 2
    assert notes[:2] == (
        "Read as prompt and completion: the prompt from 'prompt' (--prompt-field), the completion from 'completion' "
        "(--completion-field).",
        "'prompt' and 'completion' hold messages: each row is a chat, and the messages of the completion are its "
        "targets.",
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "Hi", "completion": SAY}, "field 'prompt' is text, expected a list of messages"),
        ({"prompt": [], "completion": SAY}, "field 'prompt' holds no messages"),
        ({"prompt": ASK, "completion": [{"role": "assistant"}]}, "message 0 of field 'completion' has the keys 'role'"),
        ({"prompt": ASK, "completion": "Yes"}, "field 'prompt' is a list of 1, expected text"),
        ({"system": "a", "prompt": ASK, "completion": SAY}, "'completion' is a list of messages, which no template"),
    ],
)
def test_half_of_a_chat_is_refused_by_name(tmp_path, row, problem):
    with pytest.raises(DataError, match=problem):
        first(tmp_path, row, tokenizer=CHATTY)


def test_prompts_and_completions_that_are_messages_need_a_chat_template(tmp_path):
    with pytest.raises(DataError, match="has no chat template"):
        first(tmp_path, {"prompt": ASK, "completion": SAY}, tokenizer=build_tiny_tokenizer())


@pytest.mark.parametrize("columns", [["prompt", "chosen", "rejected"], ["Chosen", "Rejected", "label"]])
def test_preferences_are_refused_with_the_way_to_read_the_better_answers(columns):
    with pytest.raises(DataError, match=r"'(c|C)hosen', '(r|R)ejected' are preference data.*--completion-field (c|C)h"):
        resolve_fields(FieldMapping(), columns)
    named = FieldMapping(messages_field=columns[-2])
    assert resolve_fields(named, columns)[0].messages_field == columns[-2]


def test_a_file_of_preferences_with_messages_of_its_own_is_read(tmp_path):
    row = {"prompt": "Hi", "messages": [*ASK, *SAY], "chosen": [*ASK, *SAY], "rejected": [*ASK, *SAY]}
    assert first(tmp_path, row, tokenizer=CHATTY)[0].completion.startswith("Yes")


def test_what_may_be_a_part_of_the_prompt_and_is_not_read_is_named(tmp_path):
    row = {"prompt": "Add.", "completion": "2", "history": [["a", "b"]], "id": 1}
    assert "Not read: the column 'history'" in first(tmp_path, row)[1][1]
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    notes = first(tmp_path, {"prompt": "Hi", "prompt_id": "1", "messages": talk}, tokenizer=CHATTY)[1]
    assert "Not read: the column 'prompt'" in notes[1]
    named = FieldMapping(prompt_field="prompt", completion_field="answer")
    _, notes = resolve_fields(named, ["prompt", "answer", "system", "context"])
    assert notes[0].startswith("Not read: the columns 'system', 'context', which may be a part of the prompt.")
    assert resolve_fields(named, ["prompt", "answer", "id"]) == (named, [])
    for column in ("system", "context", "history", "tools", "input"):
        assert f"Not read: the column '{column}'" in resolve_fields(named, ["prompt", "answer", column])[1][0]


def test_columns_that_could_be_read_in_another_way_too_fit_no_schema():
    for columns in (["prompt", "completion", "text"], ["prompt", "completion", "answer"], ["Text", "text"]):
        with pytest.raises(DataError, match="The fields are not clear"):
            resolve_fields(FieldMapping(), columns)


def test_every_schema_is_recognized_by_its_own_columns():
    for schema in SCHEMAS:
        target = schema.completion or schema.messages or schema.text
        columns = [*(name for name in schema.prompt if not name.endswith("?")), target]
        assert resolve_fields(FieldMapping(), columns)[1][0].startswith(f"Read as {schema.name}: ")


def test_an_optional_column_takes_its_line_break_along():
    mapping = FieldMapping(template="{a?}\\n{b?}\n{c} {d?}\\n", completion_field="e")

    def prompt(**row):
        return example_from_row({"c": "C", "e": "E", **row}, 0, mapping).prompt

    assert prompt(a="A", b="B", d="D") == "A\nB\nC D\n"
    assert prompt(a="A", b=None, d="") == "A\nC "
    assert prompt() == "C "
    assert resolve_fields(mapping, ["a", "b", "c", "d", "e"]) == (mapping, [])
    with pytest.raises(DataError, match=r"--template: no column 'x'"):
        resolve_fields(FieldMapping(template="{x?}{c}", completion_field="e"), ["c", "e"])
    question_mark = FieldMapping(template="{a?}", completion_field="e")
    assert example_from_row({"a?": "own name", "e": "E"}, 0, question_mark).prompt == "own name"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["instruction", "input", "output"], ("{instruction}\\n{input?}\\n", "output")),
        (["id", "query", "target"], ("{query}\\n", "target")),
        (["a", "b"], ("{a}\\n", None)),
        ([], ("", None)),
    ],
)
def test_a_form_starts_from_the_likely_template_and_completion(columns, expected):
    proposed = proposed_fields(columns)
    assert (proposed.template, proposed.completion_field) == expected


def test_a_column_of_tools_is_named_where_the_template_shows_none(tmp_path):
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    row = {"messages": talk, "tools": [{"name": "look"}]}
    example, notes = first(tmp_path, row, tokenizer=CHATTY)
    assert "Not read: the column 'tools'. The model's chat template has no place for tools." in notes
    assert notes[0] == "Read as chat messages: the messages from 'messages' (--messages-field)."
    showing = build_tiny_tokenizer(chat_template="{{ tools | tojson }}" + CHATML)
    example, notes = first(tmp_path, row, tokenizer=showing)
    assert notes[0].endswith("the messages from 'messages' (--messages-field), the tools from 'tools'.")
    assert example.prompt.startswith('[{"name": "look"}]<|im_start|>')
    assert not any("no place for tools" in note for note in notes)
