"""What an export tells of the data, and what data it refuses."""

import ast
import json

import pytest
import yaml

import semfreeze_core
from semfreeze_core.errors import DataError
from semfreeze_core.export import TARGETS, export_plan
from semfreeze_core.records.fields import FieldMapping
from tests.core.export.exports import (
    CHAT,
    LORA,
    NAMED,
    PAIRS,
    call_arguments,
    dataset_info,
    exported_flags,
    exported_yaml,
    plan_for,
    task_of,
    tiny_plan,
)


@pytest.mark.parametrize("target", TARGETS)
def test_prompt_and_completion_are_told(tiny, rows_in, target):
    rows, mapping = task_of(target)
    file = rows_in("train.jsonl", rows)
    exported = export_plan(plan_for(tiny, target), target, data=file, mapping=mapping)
    for text in ("train.jsonl", *([] if target == "oumi" else ['"ask"', '"say"'])):
        assert text in exported.text
    assert not any("No data was given" in note for note in exported.notes)
    unnamed = export_plan(plan_for(tiny, target), target)
    assert any("No data was given" in note for note in unnamed.notes)


def test_axolotl_puts_nothing_around_a_prompt_and_takes_no_other_field(tiny, rows_in):
    config = exported_yaml(tiny_plan(tiny, 2), "axolotl", data=rows_in("train.jsonl", PAIRS), mapping=NAMED)
    ((entry),) = config["datasets"]
    assert (entry["path"], entry["ds_type"]) == ("train.jsonl", "json")
    assert entry["type"]["format"] == "{instruction}"
    assert entry["type"]["field_input"] == entry["type"]["field_system"] == ""


def test_llama_factory_is_told_the_entry_of_dataset_info(tiny, rows_in):
    text = export_plan(tiny_plan(tiny, 2), "llama-factory", data=rows_in("train.jsonl", PAIRS), mapping=NAMED).text
    comment = text[text.index("dataset_info.json must contain:") :].partition("\nstage")[0]
    entry = json.loads("".join(line.removeprefix("#") for line in comment.splitlines()[1:]))
    assert entry == {"task": {"file_name": "train.jsonl", "columns": {"prompt": "ask", "response": "say"}}}


CHATS = {
    ("role", "content"): [{"talk": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}],
    ("from", "value"): [{"talk": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}],
}


@pytest.mark.parametrize("keys", CHATS)
def test_chats_are_told(tiny, rows_in, keys):
    request = {"data": rows_in("train.jsonl", CHATS[keys]), "mapping": FieldMapping(messages_field="talk")}
    plan = tiny_plan(tiny, 2)
    entry = exported_yaml(plan, "axolotl", **request)["datasets"][0]
    assert (entry["type"], entry["field_messages"]) == ("chat_template", "talk")
    assert tuple(entry["message_property_mappings"].values()) == keys
    assert json.loads(exported_flags(plan, **request)["columns"]) == {"talk": "messages"}
    assert f'"role_tag": "{keys[0]}"' in export_plan(plan, "llama-factory", **request).text
    if keys == ("from", "value"):
        for target, setup in (("mlx-lm", {}), ("unsloth", {"lora": LORA})):
            with pytest.raises(DataError, match="reads messages with the keys role and content, and those of train"):
                export_plan(tiny_plan(tiny, 2, **setup), target, **request)
        return
    mlx = export_plan(plan, "mlx-lm", **request)
    assert yaml.safe_load(mlx.text)["chat_feature"] == "talk"
    assert any("the loss on the last message of a chat only" in note for note in mlx.notes)
    script = export_plan(tiny_plan(tiny, 2, lora=LORA), "unsloth", **request).text
    assert 'rename_columns({"talk": "messages"})' in script
    assert call_arguments(script, "SFTConfig")["assistant_only_loss"] is True


def test_nemo_automodel_reads_chats_in_its_two_layouts_alone(tiny, rows_in):
    plan, (chat, sharegpt) = tiny_plan(tiny, 2), (rows[0]["talk"] for rows in CHATS.values())

    def entry(column, messages):
        request = {"data": rows_in("train.jsonl", [{column: messages}]), "mapping": FieldMapping(messages_field=column)}
        return exported_yaml(plan, "nemo-automodel", **request)["dataset"]

    for column, messages in (("messages", chat), ("conversations", sharegpt)):
        assert entry(column, messages)["_target_"].endswith(".ChatDataset")
    with pytest.raises(DataError, match=r"reads chats from a column messages, and train\.jsonl has them in talk\."):
        entry("talk", chat)
    with pytest.raises(DataError, match="reads messages with the keys role and content"):
        entry("messages", sharegpt)
    with pytest.raises(DataError, match="does not know the roles observation of"):
        entry("conversations", [*sharegpt[:1], {"from": "observation", "value": "c"}, *sharegpt[1:]])


def test_oumi_takes_the_columns_that_trl_reads(tiny, rows_in):
    plan = tiny_plan(tiny, 2)
    talk = {"data": rows_in("talk.jsonl", CHATS["role", "content"]), "mapping": FieldMapping(messages_field="talk")}
    with pytest.raises(
        DataError, match=r"columns called prompt and completion\. Rename ask to prompt and say to compl"
    ):
        export_plan(plan, "oumi", data=rows_in("train.jsonl", PAIRS), mapping=NAMED)
    with pytest.raises(DataError, match=r"columns called messages\. Rename talk to messages, or"):
        export_plan(plan, "oumi", **talk)
    config = exported_yaml(plan, "oumi", data=rows_in("train.jsonl", CHAT))
    (entry,) = config["data"]["train"]["datasets"]
    assert entry == {"dataset_name": "json", "dataset_kwargs": {"data_files": "train.jsonl"}}
    assert config["training"]["trainer_kwargs"] == {"assistant_only_loss": True}
    assert config["model"]["chat_template"] == "auto"
    assert "chat_template" not in exported_yaml(plan, "oumi")["model"]


def test_llama_factory_gets_the_roles_that_the_chats_have(tiny, rows_in):
    role_names = ("human", "chatgpt", "system", "observation", "function_call")
    chat = [{"from": word, "value": '{"name": "f"}' if word == "function_call" else "a"} for word in role_names]
    request = {"data": rows_in("train.jsonl", [{"talk": chat, "system": "Be kind.", "tools": "[]"}])}
    request["mapping"] = FieldMapping(messages_field="talk")
    plan = tiny_plan(tiny, 2)
    entry = dataset_info(export_plan(plan, "llama-factory", **request).text)
    assert entry["tags"] == {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "chatgpt",
        "system_tag": "system",
        "observation_tag": "observation",
        "function_tag": "function_call",
    }
    assert entry["columns"] == {"messages": "talk", "system": "system", "tools": "tools"}
    request["data"] = rows_in(
        "lists.jsonl", [{"talk": chat, "system": "Be kind.", "tools": []}]
    )  # axolotl takes no texts
    roles = exported_yaml(plan, "axolotl", **request)["datasets"][0]["roles"]
    assert (roles["user"], roles["tool"]) == (["human"], ["observation"])
    assert set(roles["assistant"]) == {"chatgpt", "function_call"}
    with pytest.raises(DataError, match="ms-swift does not know the roles chatgpt, observation, function_call of"):
        export_plan(plan, "ms-swift", **request)


def test_words_of_roles_are_known_whatever_their_case(tiny, rows_in):
    chat = [{"from": "Human", "value": "a"}, {"from": "GPT", "value": "b"}]
    request = {"data": rows_in("train.jsonl", [{"talk": chat}]), "mapping": FieldMapping(messages_field="talk")}
    tags = dataset_info(export_plan(tiny_plan(tiny, 2), "llama-factory", **request).text)["tags"]
    assert (tags["user_tag"], tags["assistant_tag"]) == ("Human", "GPT")
    with pytest.raises(DataError, match="ms-swift does not know the roles Human, GPT of"):
        export_plan(tiny_plan(tiny, 2), "ms-swift", **request)


def test_llama_factory_refuses_two_words_for_one_role(tiny, rows_in):
    rows = [{"talk": [{"from": word, "value": "a"}, {"from": "gpt", "value": "b"}]} for word in ("human", "user")]
    request = {"data": rows_in("train.jsonl", rows), "mapping": FieldMapping(messages_field="talk")}
    with pytest.raises(DataError, match=r"takes one word for each role, and messages in train\.jsonl have human"):
        export_plan(tiny_plan(tiny, 2), "llama-factory", **request)


@pytest.mark.parametrize("target", ["hf-trainer", "trl", "peft"])
def test_scripts_import_public_names_and_say_when_there_is_nothing_to_pad_with(tiny, target):
    text = export_plan(plan_for(tiny, target), target).text
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imported if str(node.module).startswith("semfreeze")]
    assert [node.module for node in ours] == ["semfreeze_core"]
    assert {name.name for node in ours for name in node.names} <= set(semfreeze_core.__all__)
    assert "has no padding and no end-of-sequence token" in text


@pytest.mark.parametrize("target", TARGETS)
def test_prompts_that_are_messages_go_where_they_are_understood(tiny, rows_in, target):
    """TRL takes them as they stand, and our own scripts read them; the others would take them for texts."""
    role, content = {"role": "user"}, {"content": "a"}
    name = rows_in("train.jsonl", [{"prompt": [role | content], "completion": [{"role": "assistant"} | content]}])
    if target in ("hf-trainer", "trl", "peft", "unsloth", "oumi"):
        assert "train.jsonl" in export_plan(plan_for(tiny, target), target, data=name).text
        return
    with pytest.raises(DataError, match=r"reads prompts and completions as texts, and those of .* are lists of mess"):
        export_plan(plan_for(tiny, target), target, data=name)


def test_axolotl_is_told_of_system_and_tools_beside_chats(tiny, rows_in):
    tool = {"type": "function", "function": {"name": "add"}}
    name = rows_in("train.jsonl", [{**CHAT[0], "system": "Be short.", "tools": [tool]}])
    notes = export_plan(tiny_plan(tiny, 2), "axolotl", data=name).notes
    assert "axolotl gives its chats the data's system and tools by the columns' names: keep those." in notes
    name = rows_in("texts.jsonl", [{**CHAT[0], "tools": json.dumps([tool])}])
    with pytest.raises(DataError, match=r"axolotl reads tools as lists, and those of texts.jsonl are JSON texts"):
        export_plan(tiny_plan(tiny, 2), "axolotl", data=name)
    entry = dataset_info(export_plan(tiny_plan(tiny, 2), "llama-factory", data=name).text)
    assert entry["columns"]["tools"] == "tools"


def test_plain_text_is_told(tiny, rows_in):
    request = {"data": rows_in("train.jsonl", [{"words": "Once."}]), "mapping": FieldMapping(text_field="words")}
    plan = tiny_plan(tiny, 2)
    assert exported_yaml(plan, "axolotl", **request)["datasets"][0]["field"] == "words"
    assert exported_yaml(plan, "llama-factory", **request)["stage"] == "pt"
    assert exported_yaml(plan, "mlx-lm", **request)["text_feature"] == "words"
    assert json.loads(exported_flags(plan, **request)["columns"]) == {"words": "response"}
    assert exported_yaml(plan, "oumi", **request)["training"]["trainer_kwargs"] == {"dataset_text_field": "words"}
    with pytest.raises(DataError, match=r"prompts with completions or chats from a file, and train\.jsonl has texts"):
        export_plan(plan, "nemo-automodel", **request)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("target", TARGETS)
def test_kinds_of_files_are_read_or_refused(tiny, rows_in, target):
    kinds = ("jsonl", "json", "csv", "tsv", "parquet")
    able = {"ms-swift": kinds[:3], "mlx-lm": kinds[:1], "axolotl": {*kinds} - {"tsv"}}
    able |= dict.fromkeys(("llama-factory", "unsloth", "oumi"), able["axolotl"])
    able["nemo-automodel"] = kinds[:2]
    rows, mapping = task_of(target)
    for kind in kinds:
        file = rows_in(f"rows.{kind}", rows)
        if kind in able.get(target, kinds):
            assert (
                file in export_plan(plan_for(tiny, target), target, data=file, mapping=mapping).text
                or target == "mlx-lm"
            )
        else:
            with pytest.raises(DataError, match=r"does not read .* files\. Save rows\.\w+ as rows\.jsonl"):
                export_plan(plan_for(tiny, target), target, data=file, mapping=mapping)


@pytest.mark.parametrize("target", TARGETS)
def test_tables_with_another_separator_are_read_by_our_own_scripts_alone(tiny, tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("ask;say\none, two;three\nfour;five\n")
    if target in ("hf-trainer", "trl", "peft"):
        assert "rows.csv" in export_plan(plan_for(tiny, target), target, data="rows.csv", mapping=NAMED).text
        return
    with pytest.raises(DataError, match=r"does not read ';'-separated csv files|mlx-lm does not read"):
        export_plan(plan_for(tiny, target), target, data="rows.csv", mapping=NAMED)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("flag", [{"weight": 0}, {"train": False}])
def test_messages_that_are_no_targets_are_honored_by_our_own_scripts_alone(tiny, rows_in, target, flag):
    chat = [*CHAT[0]["messages"], {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    marked = [{"messages": [*chat[:1], chat[1] | flag, *chat[2:]]}]
    request = {"mapping": FieldMapping(messages_field="messages")}
    if target in ("hf-trainer", "trl", "peft"):
        export_plan(plan_for(tiny, target), target, data=rows_in("train.jsonl", marked), **request)
        return
    with pytest.raises(DataError, match=r"would train on the messages that .* marks as no targets"):
        export_plan(plan_for(tiny, target), target, data=rows_in("train.jsonl", marked), **request)
    trained = [{"messages": [chat[0], chat[1] | {"weight": 1}]}]
    export_plan(plan_for(tiny, target), target, data=rows_in("train.jsonl", trained), **request)


def test_prompts_by_a_template_are_read_by_our_own_scripts_alone(tiny, rows_in):
    request = {
        "data": rows_in("train.jsonl", PAIRS),
        "mapping": FieldMapping(template="{ask}\\n", completion_field="say"),
    }
    for target in TARGETS:
        if target in ("hf-trainer", "trl", "peft"):
            assert r'template="{ask}\\n"' in export_plan(plan_for(tiny, target), target, **request).text
        else:
            with pytest.raises(DataError, match="cannot use prompts made by --template"):
                export_plan(plan_for(tiny, target), target, **request)


def test_fields_are_guessed_as_an_analysis_guesses_them(tiny, rows_in):
    file = rows_in("train.jsonl", [{"question": "?", "answer": "!"}])
    exported = export_plan(tiny_plan(tiny, 2), "mlx-lm", data=file)
    assert exported_yaml(tiny_plan(tiny, 2), "mlx-lm", data=file)["prompt_feature"] == "question"
    assert any(note.startswith("Read as ") for note in exported.notes)
    with pytest.raises(DataError, match="The fields are not clear"):
        export_plan(tiny_plan(tiny, 2), "mlx-lm", data=rows_in("train.jsonl", [{"a": "?", "b": "!"}]))


@pytest.mark.parametrize("target", ["trl", "axolotl"])
def test_rows_that_cannot_be_read_are_named_and_a_file_of_them_refused(tiny, rows_in, target):
    def notes(rows):
        data = rows_in("train.jsonl", rows)
        return " ".join(export_plan(plan_for(tiny, target), target, data=data, mapping=NAMED).notes)

    said = notes([*PAIRS * 2, {"ask": None, "say": "b"}])
    assert "1 of 3 rows cannot be read: line 3: field 'ask' is null, expected text. semfreeze skips them, but" in said
    assert "cannot be read" not in notes(PAIRS)
    with pytest.raises(DataError, match=r"none of 2 rows can be used\. 2 cannot be read, the first of them: line 1"):
        notes([{"ask": 1, "say": "b"}] * 2)


def test_hub_datasets_and_missing_files_are_refused(tiny, rows_in):
    with pytest.raises(DataError, match="an export needs a file"):
        export_plan(tiny_plan(tiny, 2), "trl", data="hf:a/b")
    with pytest.raises(DataError, match=r"nowhere.jsonl does not exist"):
        export_plan(tiny_plan(tiny, 2), "trl", data="nowhere.jsonl")
