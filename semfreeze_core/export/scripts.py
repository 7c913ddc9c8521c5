"""Scripts for transformers' Trainer, PEFT and TRL: the targets on which FreezePlanCallback keeps the saving."""

import re
from dataclasses import asdict

from semfreeze_core.export.literals import python_value
from semfreeze_core.export.notes import comments, cost_notes, header
from semfreeze_core.export.request import OPTIMIZERS, SCHEDULE, ExportRequest
from semfreeze_core.records.defaults import LORA_SCALE
from semfreeze_core.records.training import ALL_LINEAR

_CALLBACK_NOTE = (
    "FreezePlanCallback runs the frozen layers without a graph, so that no hook or checkpointing loses the saving. It "
    "needs one process on one device. Add AuditCallback(plan) to count the saving."
)


def write_hf_trainer(request: ExportRequest) -> tuple[str, list[str]]:
    """A script with transformers' Trainer."""
    notes = _notes(request)
    body = [*_load(request), *_rows(request), *_transformers_trainer(request)]
    return _script(request, notes, [_AUTO, _TRAINER], body), notes


def write_peft(request: ExportRequest) -> tuple[str, list[str]]:
    """A script with PEFT's adapters in transformers' Trainer."""
    notes = _notes(request)
    imports = ["from peft import LoraConfig, get_peft_model", _MODULES, _AUTO, _TRAINER, _CONV1D]
    wrap = ["model = get_peft_model(model, adapters)", ""]
    body = [*_load(request), *_rows(request), *_adapters(request), *wrap, *_transformers_trainer(request)]
    return _script(request, notes, imports, body), notes


def write_trl(request: ExportRequest) -> tuple[str, list[str]]:
    """A script with TRL's SFTTrainer, with adapters where the plan has them."""
    notes = _notes(request)
    dataset, trl = "from datasets import Dataset", "from trl import SFTConfig, SFTTrainer"
    lora = request.setup.lora is not None
    imports = [dataset, _AUTO, trl]
    if lora:
        imports = [dataset, "from peft import LoraConfig", _MODULES, _AUTO, _CONV1D, trl]
    extra = {"max_length": str(request.setup.sequence_length)}
    if request.setup.checkpointing == "none":
        extra["gradient_checkpointing"] = "False"  # TRL's own default is True
    body = [
        *_load(request),
        *_rows(request),
        *(_adapters(request) if lora else []),
        *_arguments(request, "SFTConfig", extra),
        "trainer = SFTTrainer(",
        "    model=model,",
        "    args=arguments,",
        "    train_dataset=Dataset.from_list(rows),",
        "    processing_class=tokenizer,",
        *(["    peft_config=adapters,"] if lora else []),
        "    callbacks=[FreezePlanCallback(plan)],",
        ")",
    ]
    return _script(request, notes, imports, body), notes


_AUTO = "from transformers import AutoModelForCausalLM, AutoTokenizer"
_TRAINER = "from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments"
_MODULES = "from torch import nn"
_CONV1D = "from transformers.pytorch_utils import Conv1D"


def _notes(request: ExportRequest) -> list[str]:
    notes = [_CALLBACK_NOTE, *cost_notes(request)]
    if request.setup.optimizer == "adamw8bit":
        notes.append("8-bit AdamW needs the package bitsandbytes and a GPU.")
    if request.setup.checkpointing == "transformers-5":
        notes.append("The cost estimate assumes transformers 5 checkpointing; with the callback, training costs less.")
    return notes


def _script(request: ExportRequest, notes: list[str], imports: list[str], body: list[str]) -> str:
    needs = {"hf-trainer": "", "trl": " trl datasets", "peft": " peft"}[request.target]
    if request.target == "trl" and request.setup.lora is not None:
        needs += " peft"
    how = f"Needs: pip install semfreeze{needs}. Run it with python where the paths below are valid."
    lines = [
        header(request, how, notes),
        *(["import re"] if request.setup.lora else []),
        "from pathlib import Path",
        "",
        *(["import torch"] if request.setup.precision == "bf16-autocast" else []),
        *imports,
        "",
        "from semfreeze_core import FieldMapping, FreezePlanCallback, read_plan, training_rows",
        "",
        f"PLAN = {python_value(request.plan_path)}",
        f"MODEL, REVISION = {python_value(request.model)}, {python_value(request.revision)}",
        f"DATA = {python_value(request.data.path)}",
        'OUT = "finetuned"',
        "",
        *body,
        "trainer.train()",
        "trainer.save_model(OUT)",
        "tokenizer.save_pretrained(OUT)",
    ]
    return "\n".join(lines)


def _load(request: ExportRequest) -> list[str]:
    dtype = "bfloat16" if request.setup.precision == "bf16" else "float32"
    return [
        "plan = read_plan(Path(PLAN))",
        "tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)",
        "if tokenizer.pad_token is None:",
        "    tokenizer.pad_token = tokenizer.eos_token",
        "if tokenizer.pad_token is None:",
        '    raise SystemExit("The tokenizer has no padding and no end-of-sequence token: set tokenizer.pad_token.")',
        f'model = AutoModelForCausalLM.from_pretrained(MODEL, revision=REVISION, dtype="{dtype}")',
        "",
    ]


def _rows(request: ExportRequest) -> list[str]:
    fields = {name: value for name, value in asdict(request.data.fields).items() if value is not None}
    named = ", ".join(f"{name}={python_value(value)}" for name, value in fields.items() if name != "label_field")
    return [
        comments(["The examples as in the analysis; tokens labeled -100 have no loss."]),
        f"fields = FieldMapping({named})",
        f"rows = training_rows(DATA, tokenizer, mapping=fields, max_length={request.setup.sequence_length})",
        "",
    ]


def _adapters(request: ExportRequest) -> list[str]:
    lora, parts = request.setup.lora, request.parts
    assert lora is not None  # callers check it
    layers = rf"{re.escape(parts.layer_prefix)}(?:{'|'.join(map(str, parts.layers))})\."
    which = "isinstance(module, nn.Linear | Conv1D)"
    if ALL_LINEAR not in lora.targets:
        ends = ", ".join(python_value(f".{target}") for target in lora.targets)
        which += f" and name.endswith(({ends},))"
    return [
        comments(["Adapters on matrices of the trained layers only, named in full so that no other layer gets one."]),
        f'LAYERS = r"{layers}"',
        "targets = [",
        "    name",
        "    for name, module in model.named_modules()",
        f"    if re.match(LAYERS, name) and {which}",
        "]",
        "adapters = LoraConfig(",
        f"    r={lora.rank},",
        f"    lora_alpha={LORA_SCALE * lora.rank},",
        "    lora_dropout=0.0,",
        "    target_modules=targets,",
        "    fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in targets),",
        '    task_type="CAUSAL_LM",',
        ")",
        "",
    ]


def _arguments(request: ExportRequest, made_by: str, extra: dict[str, str]) -> list[str]:
    setup = request.setup
    given = {
        "output_dir": "OUT",
        "max_steps": str(setup.steps),
        "per_device_train_batch_size": str(setup.examples_per_pass),
        "learning_rate": str(request.learning_rate),
        "lr_scheduler_type": f'"{SCHEDULE}"',
        "warmup_steps": str(request.warmup_steps),
        "optim": f'"{OPTIMIZERS[setup.optimizer]}"',
        "bf16": str(setup.precision == "bf16-autocast"),
        "report_to": '"none"',
        **extra,
    }
    if setup.passes_per_step > 1:
        given["gradient_accumulation_steps"] = str(setup.passes_per_step)
    if setup.precision == "bf16-autocast":
        given["use_cpu"] = "not torch.accelerator.is_available()"  # else bf16 without a GPU is refused
    if setup.checkpointing != "none":
        given["gradient_checkpointing"] = "True"
        given["gradient_checkpointing_kwargs"] = f'{{"use_reentrant": {request.reentrant}}}'
    return [f"arguments = {made_by}(", *(f"    {name}={value}," for name, value in given.items()), ")"]


def _transformers_trainer(request: ExportRequest) -> list[str]:
    return [
        *_arguments(request, "TrainingArguments", {}),
        "trainer = Trainer(",
        "    model=model,",
        "    args=arguments,",
        "    train_dataset=rows,",
        "    data_collator=DataCollatorForSeq2Seq(tokenizer),",
        "    callbacks=[FreezePlanCallback(plan)],",
        ")",
    ]
