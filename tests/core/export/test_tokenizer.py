"""What an export tells of the model's tokenizer and chat template."""

import json

import pytest

from semfreeze_core.export import TARGETS, export_plan
from tests.core.export.exports import CHAT, NAMED, PAIRS, plan_for, task_of


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
@pytest.mark.parametrize("target", ["axolotl", "nemo-automodel", "oumi", "unsloth", "mlx-lm"])
def test_the_chat_template_is_looked_at(tiny, rows_in, tmp_path, target, template, marked, said):
    name = rows_in("train.jsonl", CHAT)
    model = write_tokenizer(tmp_path / "model", template)
    notes = " ".join(export_plan(plan_for(tiny, target), target, data=name, model=model).notes)
    assert "was not looked at" not in notes
    assert ("chat template n" in notes or "has no chat template" in notes) == (said is not None)
    assert said is None or said in notes
    assert ("assistant_only_loss needs" in notes) == (target in ("unsloth", "oumi") and not marked)
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
    assert ("nothing adds an end-of-sequence token </s> after completions" in notes(model)) == (
        target == "llama-factory"
    )
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    assert "beginning-of-sequence" not in notes(model)


@pytest.mark.quick_cases(5)
@pytest.mark.parametrize("target", TARGETS)
def test_a_tokenizer_that_names_no_end_is_said_to(tiny, rows_in, tmp_path, target):
    rows, mapping = task_of(target)
    name, model = rows_in("train.jsonl", rows), write_tokenizer(tmp_path / "model")

    def notes():
        request = {"data": name, "mapping": mapping, "model": model}
        return " ".join(export_plan(plan_for(tiny, target), target, **request).notes)

    said = "tokenizer_config.json names no end-of-sequence token. Where its tokenizer has none, texts end without one"
    assert said not in notes()
    for end in ("null", '""'):
        (tmp_path / "model" / "tokenizer_config.json").write_text(f'{{"eos_token": {end}}}')
        assert said in notes()
