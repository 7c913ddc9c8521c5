"""What an export holds, what it says it does not carry over, and what is refused."""

import ast
import io
import json
import shlex
import tokenize
from dataclasses import replace

import pandas as pd
import pytest
import yaml

import semfreeze_core
from semfreeze_core.errors import DataError, PlanError
from semfreeze_core.export import TARGETS, export_plan
from semfreeze_core.export.parts import named_parts
from semfreeze_core.finetune.arm.arms import DEFAULT_RATES
from semfreeze_core.records.defaults import LEARNING_RATES
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.training import LoraSetup, TrainableParts
from semfreeze_core.wording.escaping import terminal_text
from tests.core.export.exports import LORA, call_arguments, exported_flags, exported_yaml, tiny_plan
from tests.core.tiny_models import build_tiny

TEXT_READERS = {"yaml": ("axolotl", "llama-factory", "mlx-lm"), "py": ("hf-trainer", "trl", "peft", "unsloth")}
ADAPTERS_ONLY = ("peft", "unsloth")


@pytest.fixture(scope="module")
def tiny():
    return build_tiny("llama")


def plan_for(tiny, target, **setup):
    """A plan that the target takes."""
    return tiny_plan(tiny, 2, **{"lora": LORA if target in ADAPTERS_ONLY else None, **setup})


@pytest.fixture
def rows_in(tmp_path, monkeypatch):
    """Write rows as a file in a folder one is in, and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, rows):
        frame = pd.DataFrame(rows)
        match name.rpartition(".")[2]:
            case "jsonl":
                (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
            case "json":
                (tmp_path / name).write_text(json.dumps(rows))
            case "csv":
                frame.to_csv(name, index=False)
            case "tsv":
                frame.to_csv(name, index=False, sep="\t")
            case "parquet":
                frame.to_parquet(name)
        return name

    return write


PAIRS = [{"ask": "What?", "say": "That.", "input": "none"}]
CHAT = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
NAMED = FieldMapping(prompt_field="ask", completion_field="say")


@pytest.mark.parametrize("target", TARGETS)
def test_export_is_a_whole_file_in_its_language_with_its_notes_on_top(tiny, target):
    exported = export_plan(plan_for(tiny, target), target)
    assert exported.target == target
    assert exported.text.endswith("\n")
    suffix = exported.filename.rpartition(".")[2]
    match suffix:
        case "yaml":
            assert isinstance(yaml.safe_load(exported.text), dict)
        case "py":
            ast.parse(exported.text)
        case "sh":
            assert shlex.split(exported.text, comments=True)[0] == "swift"
    lines = exported.text.splitlines()
    comment = [line.removeprefix("#").strip() for line in lines[: next(i for i, x in enumerate(lines) if x[0] != "#")]]
    for note in exported.notes:
        assert note in " ".join(comment)
    assert exported.notes


@pytest.mark.parametrize("target", TARGETS)
def test_scripts_import_public_names_only(tiny, target):
    exported = export_plan(plan_for(tiny, target), target)
    if not exported.filename.endswith(".py"):
        assert "semfreeze_core" not in exported.text
        return
    imports = [node for node in ast.walk(ast.parse(exported.text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    for node in imports:
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        assert not any(module.startswith("semfreeze_core.") for module in modules)
        if modules == ["semfreeze_core"]:
            assert {alias.name for alias in node.names} <= set(semfreeze_core.__all__)


@pytest.mark.parametrize(
    "name",
    [
        "a\"b'c\n# d: {e}\\ $(f) `g` é \u2028 h",
        "x coding: utf-7 +AAo-raise SystemExit",
        "x\n-*- coding=latin-1 -*-",
        "a\x0b\x0c\r\x85\u2029b\x1b[2J\x9b2J",
        "abc\u202egnp.\u2066exe\u2069\u200f",
        "#!/bin/sh\n$(touch x)\n---\n%YAML 1.1\n...",
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_no_text_of_a_plan_gets_out_of_its_place(tiny, target, name):
    """A model's name with quotes, line breaks and comment signs stays a name, and shows itself whole."""
    plan = plan_for(tiny, target)
    plan = plan.model_copy(update={"model": replace(plan.model, source=name)})
    exported = export_plan(plan, target)
    comments = [line for line in exported.text.splitlines() if line.startswith("#")]
    assert not set("\x1b\x9b\x85\r\x0b\u202e\u2066\u2028") & set("".join(comments))
    match exported.filename.rpartition(".")[2]:
        case "yaml":
            assert terminal_text(exported.text) == exported.text
            assert name in yaml.safe_load(exported.text).values()
        case "py":
            assert terminal_text(exported.text) == exported.text
            assert tokenize.detect_encoding(io.BytesIO(exported.text.encode()).readline)[0] == "utf-8"
            assert name in [n.value for n in ast.walk(ast.parse(exported.text)) if isinstance(n, ast.Constant)]
        case "sh":
            assert exported_flags(plan)["model"] == name


@pytest.mark.parametrize("target", TARGETS)
def test_finetune_is_told_in_the_trainers_words(tiny, target):
    plan = plan_for(tiny, target, steps=100, batch_size=4, sequence_length=48, optimizer="sgd")
    exported = export_plan(plan, target)
    steps, batch, length, optimizer = {
        "axolotl": ("max_steps", "micro_batch_size", "sequence_len", "optimizer"),
        "llama-factory": ("max_steps", "per_device_train_batch_size", "cutoff_len", "optim"),
        "mlx-lm": ("iters", "batch_size", "max_seq_length", "optimizer"),
        "ms-swift": ("max_steps", "per_device_train_batch_size", "max_length", "optim"),
    }.get(target, ("max_steps", "per_device_train_batch_size", "max_length", "optim"))
    if exported.filename.endswith(".yaml"):
        said = yaml.safe_load(exported.text)
    elif target == "ms-swift":
        said = exported_flags(plan)
    else:
        made_by = "SFTConfig" if target in ("trl", "unsloth") else "TrainingArguments"
        said = call_arguments(exported.text, made_by)
        if made_by == "TrainingArguments":  # rows come at their length
            said[length] = call_arguments(exported.text, "training_rows")["max_length"]
    assert [str(said[key]) for key in (steps, batch, length, optimizer)] == ["100", "4", "48", "sgd"]
    rate = LEARNING_RATES["lora" if target in ADAPTERS_ONLY else "frozen"]
    schedule = said.get("lr_schedule", {"arguments": [said.get("learning_rate")], "warmup": said.get("warmup_steps")})
    assert (float(schedule["arguments"][0]), int(schedule["warmup"])) == (rate, 5)


def test_learning_rates_are_those_of_semfreeze_train():
    assert DEFAULT_RATES["frozen"] == LEARNING_RATES["frozen"]
    assert DEFAULT_RATES["lora"] == LEARNING_RATES["lora"]


def test_what_a_price_counts_on_and_a_trainer_lacks_is_said(tiny):
    plan = tiny_plan(tiny, 2, prefix_cache=True, loss="fused", frozen_bits=8)
    for target in set(TARGETS) - {*ADAPTERS_ONLY}:
        notes = " ".join(export_plan(plan, target).notes)
        assert "has chunked cross-entropy, which is not configured" in notes
        assert "assumes 8-bit frozen layers" in notes
        assert "semfreeze train takes" not in notes, "it does not train with a fused loss"


def test_exported_files_lead_with_the_cost_in_a_stock_trainer(tiny):
    plan = tiny_plan(tiny, 2, train_examples=10)
    here, there = plan.cost.alternative.planned.relative_flop, plan.cost.planned.relative_flop
    assert there < here
    for target in set(TARGETS) - {*ADAPTERS_ONLY}:
        exported = export_plan(plan, target)
        assert f"(estimated here: {100 * here:.0f}% of full finetuning's" in " ".join(exported.text.split()).replace(
            "# ", ""
        )
        assert any(note.startswith(f"semfreeze train takes {100 * there:.0f}% of full") for note in exported.notes)
    stock = tiny_plan(tiny, 2, loss="materialised", prefix_cache=False)
    assert not any(note.startswith("semfreeze train takes") for note in export_plan(stock, "axolotl").notes)


def test_quantized_bases_are_told_where_adapters_can_stand_on_one(tiny):
    plan = tiny_plan(tiny, 2, lora=LORA, frozen_bits=4)
    config = exported_yaml(plan, "axolotl")
    assert (config["adapter"], config["load_in_4bit"]) == ("qlora", True)
    assert call_arguments(export_plan(plan, "unsloth").text, "from_pretrained")["load_in_4bit"] is True
    named = tiny_plan(tiny, 2, lora=LoraSetup(4, ("q_proj",)), frozen_bits=4)
    assert exported_flags(named)["quant_bits"] == "4"
    assert any(
        "4-bit frozen layers; here they keep their precision" in note for note in export_plan(plan, "peft").notes
    )


@pytest.mark.parametrize("target", ["axolotl", "ms-swift"])
def test_checkpointing_stays_off_or_its_loss_is_told_in_percent(tiny, target):
    def said(plan):
        return exported_flags(plan) if target == "ms-swift" else exported_yaml(plan, target)

    off = tiny_plan(tiny, 2)
    assert said(off)["gradient_checkpointing"] in (False, "false")
    assert any("Gradient checkpointing is off" in note for note in export_plan(off, target).notes)
    on = tiny_plan(tiny, 2, checkpointing="non-reentrant")
    here = on.cost.alternative.planned.model_copy(update={"relative_flop": 0.44})
    lost = on.cost.planned.model_copy(update={"relative_flop": 0.77})
    alternative = on.cost.alternative.model_copy(update={"planned": here})
    cost = on.cost.model_copy(update={"alternative": alternative, "transformers_5": lost})
    on = on.model_copy(update={"cost": cost})
    assert said(on)["gradient_checkpointing"] in (True, "true")
    (note,) = [note for note in export_plan(on, target).notes if note.startswith("Gradient checkpointing is on")]
    assert "takes 77% of full finetuning's compute instead of 44%" in note


def test_axolotl_gets_no_reentrant_checkpointing_with_frozen_parameters(tiny):
    plan = tiny_plan(tiny, 2, checkpointing="reentrant")
    assert exported_yaml(plan, "axolotl")["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    assert any("refuses reentrant" in note for note in export_plan(plan, "axolotl").notes)
    adapters = tiny_plan(tiny, 2, lora=LORA, checkpointing="reentrant")
    assert exported_yaml(adapters, "axolotl")["gradient_checkpointing_kwargs"] == {"use_reentrant": True}


def test_adapters_that_lose_the_saving_are_told(tiny):
    plan = tiny_plan(tiny, 2, lora=LORA)
    assert any("With any adapter, axolotl" in note for note in export_plan(plan, "axolotl").notes)
    script = export_plan(plan, "unsloth")
    assert "model.disable_input_require_grads()" in script.text
    assert any("reverts that" in note for note in script.notes)
    checkpointed = export_plan(tiny_plan(tiny, 2, lora=LORA, checkpointing="reentrant"), "unsloth")
    assert "disable_input_require_grads" not in checkpointed.text  # reentrant layers would then learn nothing
    assert any("Unsloth's gradient checkpointing needs" in note for note in checkpointed.notes)


@pytest.mark.parametrize(
    ("target", "precision", "said"),
    [
        ("axolotl", "float32", {"float32": True}),
        ("axolotl", "bf16", {"bf16": True}),
        ("llama-factory", "float32", {"bf16": False, "pure_bf16": False}),
        ("llama-factory", "bf16-autocast", {"bf16": True, "pure_bf16": False}),
        ("llama-factory", "bf16", {"bf16": True, "pure_bf16": True}),
        ("ms-swift", "float32", {"torch_dtype": "float32", "bf16": "false"}),
        ("ms-swift", "bf16-autocast", {"torch_dtype": "float32", "bf16": "true"}),
        ("ms-swift", "bf16", {"torch_dtype": "bfloat16", "bf16": "false"}),
    ],
)
def test_precision_is_told_in_the_trainers_words(tiny, target, precision, said):
    plan = tiny_plan(tiny, 2, precision=precision)
    config = exported_flags(plan) if target == "ms-swift" else exported_yaml(plan, target)
    assert said.items() <= config.items()


# Data


@pytest.mark.parametrize("target", TARGETS)
def test_prompt_and_completion_are_told(tiny, rows_in, target):
    file = rows_in("train.jsonl", PAIRS)
    exported = export_plan(plan_for(tiny, target), target, data=file, mapping=NAMED)
    for told in ('"ask"', '"say"', "train.jsonl"):
        assert told in exported.text
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
    told = {"data": rows_in("train.jsonl", CHATS[keys]), "mapping": FieldMapping(messages_field="talk")}
    plan = tiny_plan(tiny, 2)
    entry = exported_yaml(plan, "axolotl", **told)["datasets"][0]
    assert (entry["type"], entry["field_messages"]) == ("chat_template", "talk")
    assert tuple(entry["message_property_mappings"].values()) == keys
    assert json.loads(exported_flags(plan, **told)["columns"]) == {"talk": "messages"}
    assert f'"role_tag": "{keys[0]}"' in export_plan(plan, "llama-factory", **told).text
    if keys == ("from", "value"):
        for target, setup in (("mlx-lm", {}), ("unsloth", {"lora": LORA})):
            with pytest.raises(DataError, match="reads messages with the keys role and content, and those of train"):
                export_plan(tiny_plan(tiny, 2, **setup), target, **told)
        return
    mlx = export_plan(plan, "mlx-lm", **told)
    assert yaml.safe_load(mlx.text)["chat_feature"] == "talk"
    assert any("the loss on the last message of a chat only" in note for note in mlx.notes)
    script = export_plan(tiny_plan(tiny, 2, lora=LORA), "unsloth", **told).text
    assert 'rename_columns({"talk": "messages"})' in script
    assert call_arguments(script, "SFTConfig")["assistant_only_loss"] is True


def dataset_info(text):
    """The entry for LLaMA-Factory's dataset_info.json, from the comment in its configuration."""
    comment = text[text.index("dataset_info.json must contain:") :].partition("\nstage")[0]
    return json.loads("".join(line.removeprefix("#") for line in comment.splitlines()[1:]))["task"]


def test_llama_factory_gets_the_roles_that_the_chats_have(tiny, rows_in):
    words = ("human", "chatgpt", "system", "observation", "function_call")
    chat = [{"from": word, "value": '{"name": "f"}' if word == "function_call" else "a"} for word in words]
    told = {"data": rows_in("train.jsonl", [{"talk": chat, "system": "Be kind.", "tools": "[]"}])}
    told["mapping"] = FieldMapping(messages_field="talk")
    plan = tiny_plan(tiny, 2)
    entry = dataset_info(export_plan(plan, "llama-factory", **told).text)
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
    told["data"] = rows_in("lists.jsonl", [{"talk": chat, "system": "Be kind.", "tools": []}])  # axolotl takes no texts
    roles = exported_yaml(plan, "axolotl", **told)["datasets"][0]["roles"]
    assert (roles["user"], roles["tool"]) == (["human"], ["observation"])
    assert set(roles["assistant"]) == {"chatgpt", "function_call"}
    with pytest.raises(DataError, match="ms-swift does not know the roles chatgpt, observation, function_call of"):
        export_plan(plan, "ms-swift", **told)


def test_words_of_roles_are_known_whatever_their_case(tiny, rows_in):
    chat = [{"from": "Human", "value": "a"}, {"from": "GPT", "value": "b"}]
    told = {"data": rows_in("train.jsonl", [{"talk": chat}]), "mapping": FieldMapping(messages_field="talk")}
    tags = dataset_info(export_plan(tiny_plan(tiny, 2), "llama-factory", **told).text)["tags"]
    assert (tags["user_tag"], tags["assistant_tag"]) == ("Human", "GPT")
    with pytest.raises(DataError, match="ms-swift does not know the roles Human, GPT of"):
        export_plan(tiny_plan(tiny, 2), "ms-swift", **told)


def test_llama_factory_refuses_two_words_for_one_role(tiny, rows_in):
    rows = [{"talk": [{"from": word, "value": "a"}, {"from": "gpt", "value": "b"}]} for word in ("human", "user")]
    told = {"data": rows_in("train.jsonl", rows), "mapping": FieldMapping(messages_field="talk")}
    with pytest.raises(DataError, match=r"takes one word for each role, and messages in train\.jsonl have human"):
        export_plan(tiny_plan(tiny, 2), "llama-factory", **told)


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
    if target in ("hf-trainer", "trl", "peft", "unsloth"):
        assert '"prompt"' in export_plan(plan_for(tiny, target), target, data=name).text
        return
    with pytest.raises(DataError, match=r"reads prompts and completions as texts, and those of .* are lists of mess"):
        export_plan(plan_for(tiny, target), target, data=name)


def write_tokenizer(folder, template=None, **config):
    """Files of a tokenizer that begins texts with <s>, as released models have them."""
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>"}, **config}))
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    step = {"type": "TemplateProcessing", "single": single}
    tokenizer = {"post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, step]}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return str(folder)


MARKED = "{% for m in messages %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "marked", "said"),
    [
        (MARKED, True, None),
        ("{{ messages[0].content }}</s>", False, None),
        ("{{ messages[0].content }}", False, "template never writes the end-of-sequence token </s>"),
        (None, False, "The model has no chat template"),
    ],
)
@pytest.mark.parametrize("target", ["axolotl", "unsloth", "mlx-lm"])
def test_the_chat_template_is_looked_at(tiny, rows_in, tmp_path, target, template, marked, said):
    name = rows_in("train.jsonl", CHAT)
    model = write_tokenizer(tmp_path / "model", template)
    notes = " ".join(export_plan(plan_for(tiny, target), target, data=name, model=model).notes)
    assert "was not looked at" not in notes
    assert ("chat template n" in notes or "has no chat template" in notes) == (said is not None)
    assert said is None or said in notes
    assert ("assistant_only_loss needs" in notes) == (target == "unsloth" and not marked)
    absent = " ".join(export_plan(plan_for(tiny, target), target, data=name, model="owner/absent").notes)
    assert "The model's files are not here, so its chat template was not looked at" in absent


def test_a_template_of_the_config_is_found_among_several(tiny, rows_in, tmp_path):
    name = rows_in("train.jsonl", CHAT)
    several = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": MARKED}]
    model = write_tokenizer(tmp_path / "model", chat_template=several)
    notes = export_plan(plan_for(tiny, "unsloth"), "unsloth", data=name, model=model).notes
    assert not any("chat template" in note for note in notes)
    (tmp_path / "model" / "tokenizer_config.json").write_text("[")
    notes = export_plan(plan_for(tiny, "unsloth"), "unsloth", data=name, model=model).notes
    assert any("was not looked at" in note for note in notes)


@pytest.mark.parametrize("target", ["llama-factory", "ms-swift"])
def test_the_token_that_begins_texts_is_named_where_a_trainer_leaves_it_out(tiny, rows_in, tmp_path, target):
    name, model = rows_in("train.jsonl", PAIRS), write_tokenizer(tmp_path / "model")

    def notes(model):
        return " ".join(export_plan(plan_for(tiny, target), target, data=name, mapping=NAMED, model=model).notes)

    assert "The model's tokenizer begins sequences with <s>: write it before your prompts." in notes(model)
    assert "If your model's tokenizer begins sequences with one" in notes("owner/absent")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    assert "beginning-of-sequence" not in notes(model)


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
    told = {"data": rows_in("train.jsonl", [{"words": "Once."}]), "mapping": FieldMapping(text_field="words")}
    plan = tiny_plan(tiny, 2)
    assert exported_yaml(plan, "axolotl", **told)["datasets"][0]["field"] == "words"
    assert exported_yaml(plan, "llama-factory", **told)["stage"] == "pt"
    assert exported_yaml(plan, "mlx-lm", **told)["text_feature"] == "words"
    assert json.loads(exported_flags(plan, **told)["columns"]) == {"words": "response"}


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("target", TARGETS)
def test_kinds_of_files_are_read_or_refused(tiny, rows_in, target):
    kinds = ("jsonl", "json", "csv", "tsv", "parquet")
    able = {"ms-swift": kinds[:3], "mlx-lm": kinds[:1], "axolotl": {*kinds} - {"tsv"}}
    able |= {"llama-factory": able["axolotl"], "unsloth": able["axolotl"]}
    for kind in kinds:
        file = rows_in(f"rows.{kind}", PAIRS)
        if kind in able.get(target, kinds):
            assert (
                file in export_plan(plan_for(tiny, target), target, data=file, mapping=NAMED).text or target == "mlx-lm"
            )
        else:
            with pytest.raises(DataError, match=r"does not read .* files\. Save rows\.\w+ as rows\.jsonl"):
                export_plan(plan_for(tiny, target), target, data=file, mapping=NAMED)


@pytest.mark.parametrize("target", TARGETS)
def test_tables_with_another_separator_are_read_by_our_own_scripts_alone(tiny, tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("ask;say\none, two;three\nfour;five\n")
    if target in ("hf-trainer", "trl", "peft"):
        assert "rows.csv" in export_plan(plan_for(tiny, target), target, data="rows.csv", mapping=NAMED).text
        return
    with pytest.raises(DataError, match=r"does not read csv with ';' between fields files|mlx-lm does not read"):
        export_plan(plan_for(tiny, target), target, data="rows.csv", mapping=NAMED)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("flag", [{"weight": 0}, {"train": False}])
def test_messages_that_are_no_targets_are_honored_by_our_own_scripts_alone(tiny, rows_in, target, flag):
    chat = [*CHAT[0]["messages"], {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    marked = [{"messages": [*chat[:1], chat[1] | flag, *chat[2:]]}]
    told = {"mapping": FieldMapping(messages_field="messages")}
    if target in ("hf-trainer", "trl", "peft"):
        export_plan(plan_for(tiny, target), target, data=rows_in("train.jsonl", marked), **told)
        return
    with pytest.raises(DataError, match=r"would train on the messages that .* marks as no targets"):
        export_plan(plan_for(tiny, target), target, data=rows_in("train.jsonl", marked), **told)
    trained = [{"messages": [chat[0], chat[1] | {"weight": 1}]}]
    export_plan(plan_for(tiny, target), target, data=rows_in("train.jsonl", trained), **told)


def test_prompts_by_a_template_are_read_by_our_own_scripts_alone(tiny, rows_in):
    told = {
        "data": rows_in("train.jsonl", PAIRS),
        "mapping": FieldMapping(template="{ask}\\n", completion_field="say"),
    }
    for target in TARGETS:
        if target in ("hf-trainer", "trl", "peft"):
            assert r'template="{ask}\\n"' in export_plan(plan_for(tiny, target), target, **told).text
        else:
            with pytest.raises(DataError, match="cannot use prompts made by --template"):
                export_plan(plan_for(tiny, target), target, **told)


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


# Plans and models


def test_unknown_target_is_refused_with_those_there_are(tiny):
    with pytest.raises(PlanError, match=r"no export to 'keras'. Available: hf-trainer, trl, peft, .*, mlx-lm\."):
        export_plan(tiny_plan(tiny, 2), "keras")


@pytest.mark.parametrize("target", TARGETS)
def test_abstention_is_refused_with_the_way_out(tiny, target):
    plan = tiny_plan(tiny, None).model_copy(update={"run": "mine"})
    with pytest.raises(PlanError, match=r"makes no recommendation.*semfreeze plan mine --depth K --out plan\.json"):
        export_plan(plan, target)


@pytest.mark.parametrize(
    ("target", "lora", "told"),
    [
        ("hf-trainer", LORA, "without --lora, or export it to trl, peft, axolotl, unsloth or mlx-lm"),
        ("llama-factory", LORA, "without --lora, or export it to trl, peft, axolotl, unsloth or mlx-lm"),
        ("peft", None, "with --lora, or export it to hf-trainer, trl, axolotl, llama-factory, ms-swift or mlx-lm"),
        ("unsloth", None, "with --lora, or export it to hf-trainer"),
    ],
)
def test_targets_that_cannot_train_the_plans_kind_refuse_and_name_those_that_can(tiny, target, lora, told):
    with pytest.raises(PlanError, match=told):
        export_plan(tiny_plan(tiny, 2, lora=lora), target)


SOME = TrainableParts((False, True, False, True), False, True, False)
MATRICES = (None, LORA, replace(LORA, targets=("q_proj",)))


@pytest.mark.parametrize("lora", MATRICES, ids=["weights", "all matrices", "one matrix"])
@pytest.mark.parametrize("parts", [None, SOME], ids=["the last layers", "some layers"])
def test_a_refusal_names_all_the_targets_that_can_train_the_plan(tiny, parts, lora):
    if parts is not None and lora is not None:
        parts = replace(parts, final_norm=False)
    plan = tiny_plan(tiny, 2 if parts is None else 1, lora=lora, parts=parts)
    refusals = {}
    for target in TARGETS:
        try:
            export_plan(plan, target)
        except PlanError as error:
            refusals[target] = str(error)
    *able, last = [target for target in TARGETS if target not in refusals]
    assert refusals
    for refusal in refusals.values():
        assert refusal.endswith(f"xport it to {', '.join(able)} or {last}.")


def test_ms_swift_refuses_adapters_on_every_matrix(tiny):
    with pytest.raises(PlanError, match="Make the plan with --lora-targets, such as q_proj,v_proj"):
        export_plan(tiny_plan(tiny, 2, lora=LORA), "ms-swift")


@pytest.mark.parametrize("target", ["trl", "peft", "axolotl", "ms-swift", "unsloth", "mlx-lm"])
def test_adapters_beside_other_trained_parts_are_refused(tiny, target):
    parts = TrainableParts((False, False, True, True), False, True, False)
    with pytest.raises(PlanError, match=r"this LoRA plan cannot be exported\. Make it .* without --train-norm"):
        export_plan(tiny_plan(tiny, 2, lora=LORA, parts=parts), target)


@pytest.mark.parametrize(
    "change",
    [
        {"trainable_regex": r"model\.layers\.(?:1|3)\.|model\.norm\.weight$"},
        {"trainable_regex": r"model\.layers\.(?:2|3)\."},
        {"trainable_regex": r".*"},
        {"trainable_regex": r"model\.layers\.(?:2|3)\.|model\.norm\.weight$|"},
        {"n_layers": 6},
    ],
)
def test_plans_that_contradict_themselves_are_refused(tiny, change):
    plan = tiny_plan(tiny, 2)
    assert plan.trainable_regex == r"model\.layers\.(?:2|3)\.|model\.norm\.weight$"
    with pytest.raises(PlanError, match=r"Make (the plan|it) again"):
        export_plan(plan.model_copy(update=change), "axolotl")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("tiny.GGUF", "a GGUF file"),
        ("embedded", "semfreeze's bundled model"),
        ("adapters", "a folder or repository of adapters"),
    ],
)
def test_models_that_trainers_do_not_load_are_refused_unless_told_where_they_are(
    tiny, tmp_path, monkeypatch, source, what
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "adapter_config.json").write_text("{}")
    plan = tiny_plan(tiny, 2)
    plan = plan.model_copy(update={"model": replace(plan.model, source=source)})
    with pytest.raises(PlanError, match=f"The plan's model is {what}"):
        export_plan(plan, "axolotl")
    assert exported_yaml(plan, "axolotl", model="folder")["base_model"] == "folder"


def test_revision_is_told_of_the_plans_own_model_alone(tiny):
    plan = tiny_plan(tiny, 2)
    plan = plan.model_copy(update={"model": replace(plan.model, source="a/b", revision="c0ffee")})
    for target, told in (("axolotl", "revision_of_model: "), ("llama-factory", "model_revision: ")):
        assert f'{told}"c0ffee"' in export_plan(plan, target).text
        assert "c0ffee" not in export_plan(plan, target, model="elsewhere").text
    assert exported_flags(plan)["model_revision"] == "c0ffee"
    assert 'MODEL, REVISION = "a/b", "c0ffee"' in export_plan(plan, "hf-trainer").text
    assert any("c0ffee" in note for note in export_plan(plan, "mlx-lm").notes)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            TrainableParts((False, False, True, True), False, True, False),
            "layers 2 to 3 of 4 (0-based) and model.norm.weight",
        ),
        (TrainableParts((True, False, True, True), False, False, False), "layers 0, 2 to 3 of 4 (0-based)"),
        (TrainableParts((False,) * 4, False, True, True), "model.norm.weight, lm_head.weight"),
    ],
)
def test_named_parts_words_say_what_is_trained(parts, words):
    untied = build_tiny("llama", tied=False)
    assert named_parts(tiny_plan(untied, parts.freeze_depth, parts=parts)).summary == words
