"""Plans of tiny models, exported, and what the exports say."""

import ast
import json
import re
import shlex
from dataclasses import replace

import yaml

from semfreeze_core.export import export_plan
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.training import LoraSetup
from tests.core.finetune.plans import SETUP, plan_of
from tests.core.tiny_models import TIED_BY_DEFAULT, VARIANTS

# Every variant as its family ties head and embedding, and of each style one the other way too.
OTHER_WAY = ("llama", "gpt2", "gpt_neox", "mixtral")
MODELS = [(family, TIED_BY_DEFAULT[family]) for family in VARIANTS]
MODELS += [(family, not TIED_BY_DEFAULT[family]) for family in OTHER_WAY]
LORA = LoraSetup(4)
ADAPTERS_ONLY = ("peft", "unsloth")

# Rows of a task, and how they are read.
PAIRS = [{"ask": "What?", "say": "That.", "input": "none"}]
CHAT = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
NAMED = FieldMapping(prompt_field="ask", completion_field="say")


def task_of(target):
    """Rows of prompts and completions that a target reads, and how they are read; oumi takes TRL's own names alone."""
    if target == "oumi":
        return [{"prompt": "What?", "completion": "That."}], FieldMapping()
    return PAIRS, NAMED


def tiny_plan(model, k, *, lora=None, parts=None, **setup):
    """A plan for a tiny model."""
    return plan_of(model, k, setup=replace(SETUP, lora=lora, **setup), parts=parts)


def plan_for(tiny, target, **setup):
    """A plan that the target takes."""
    return tiny_plan(tiny, 2, **{"lora": LORA if target in ADAPTERS_ONLY else None, **setup})


def planned_names(plan, model):
    """Names that the plan itself trains."""
    return {name for name, _ in model.named_parameters() if re.match(plan.trainable_regex, name)}


def names_of(model):
    return [name for name, _ in model.named_parameters()]


def exported_yaml(plan, target, **data):
    return yaml.safe_load(export_plan(plan, target, **data).text)


def leaves(value):
    """Every scalar of a parsed YAML file."""
    if isinstance(value, dict | list):
        return [leaf for part in (value.values() if isinstance(value, dict) else value) for leaf in leaves(part)]
    return [value]


def exported_flags(plan, **data):
    """The flags of the ms-swift script, as a shell reads them."""
    text = export_plan(plan, "ms-swift", **data).text.replace("\\\n", "")
    arguments = shlex.split(text, comments=True)
    assert arguments[:2] == ["swift", "sft"]
    flags = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    return {name.removeprefix("--"): value for name, value in flags.items()}


def call_arguments(text, function):
    """The literal keyword arguments of a script's one call of a function."""
    calls = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(function)
    ]
    (call,) = calls
    return {k.arg: ast.literal_eval(k.value) for k in call.keywords if isinstance(k.value, ast.Constant | ast.List)}


def dataset_info(text):
    """The entry for LLaMA-Factory's dataset_info.json, from the comment in its configuration."""
    comment = text[text.index("dataset_info.json must contain:") :].partition("\nstage")[0]
    return json.loads("".join(line.removeprefix("#") for line in comment.splitlines()[1:]))["task"]
