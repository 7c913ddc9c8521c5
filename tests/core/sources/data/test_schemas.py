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
    found = read(tmp_path, [row], **options)
    (example,) = found.examples
    return example, found.notes


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
    own = [{"from": "system", "value": "Be long."}, *talk]
    example, _ = first(tmp_path, {"system": "Be short.", "conversations": own}, tokenizer=CHATTY)
    assert "Be long." in example.prompt
    assert "Be short." not in example.prompt
    example, _ = first(tmp_path, {"system": " ", "conversations": talk}, tokenizer=CHATTY)
    assert example.prompt.startswith("<|im_start|>user")


def test_what_may_be_a_part_of_the_prompt_and_is_not_read_is_named(tmp_path):
    row = {"instruction": "Add.", "input": "1", "output": "2", "history": [["a", "b"]], "id": 1}
    assert "Not read: the column 'history'" in first(tmp_path, row)[1][1]
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    notes = first(tmp_path, {"prompt": "Hi", "prompt_id": "1", "messages": talk}, tokenizer=CHATTY)[1]
    assert "Not read: the column 'prompt'" in notes[1]
    named = FieldMapping(prompt_field="prompt", completion_field="answer")
    _, notes = resolve_fields(named, ["prompt", "answer", "system", "context"])
    assert notes[0].startswith("Not read: the columns 'system', 'context', which may be a part of the prompt.")
    assert resolve_fields(named, ["prompt", "answer", "id"]) == (named, [])


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
    showing = build_tiny_tokenizer(chat_template="{{ tools | tojson }}" + CHATML)
    example, notes = first(tmp_path, row, tokenizer=showing)
    assert example.prompt.startswith('[{"name": "look"}]<|im_start|>')
    assert not any("no place for tools" in note for note in notes)
