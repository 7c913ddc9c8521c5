"""Unsloth: adapters on chosen layers by `layers_to_transform`; its layer choice is for adapters only.

Read in unsloth 2026.10.9 (models/llama.py, models/vision.py) and unsloth_zoo 2026.10.9 (training_utils.py).
"""

from semfreeze_core.export.data import UNSLOTH, FileKind, require_readable, require_roles
from semfreeze_core.export.literals import python_value
from semfreeze_core.export.notes import assistant_mark_notes, chat_notes, comments, cost_notes, header, lost_saving
from semfreeze_core.export.request import OPTIMIZERS, SCHEDULE, ExportRequest
from semfreeze_core.records.defaults import LORA_SCALE
from semfreeze_core.records.training import ALL_LINEAR

_FILES: dict[FileKind, str] = {"json lines": "json", "json": "json", "csv": "csv", "parquet": "parquet"}


def write_unsloth(request: ExportRequest) -> tuple[str, list[str]]:
    """A script.

    Raises:
        DataError: prompts made by a template, or a file format it does not read.
    """
    setup = request.setup
    dataset = _dataset(request)
    notes = [*_notes(request), *cost_notes(request, quantizes=True)]
    bits = setup.frozen_bits
    checkpointing = '"unsloth"' if setup.checkpointing != "none" else "False"
    dtype = "torch.float32" if setup.precision == "float32" else "torch.bfloat16"
    lines = [
        header(
            request,
            "Needs: pip install unsloth. Run it with python where the paths below are valid.",
            notes,
        ),
        "from unsloth import FastLanguageModel  # first: it patches what follows",
        "",
        "import torch",
        "from datasets import load_dataset",
        "from trl import SFTConfig, SFTTrainer",
        "",
        f"MODEL, REVISION = {python_value(request.model)}, {python_value(request.revision)}",
        f"DATA = {python_value(request.data.path)}",
        'OUT = "finetuned"',
        "",
        "model, tokenizer = FastLanguageModel.from_pretrained(",
        "    model_name=MODEL,",
        "    revision=REVISION,",
        f"    max_seq_length={setup.sequence_length},",
        f"    dtype={dtype},",
        f"    load_in_4bit={bits == 4},",
        f"    load_in_8bit={bits == 8},",
        f"    use_gradient_checkpointing={checkpointing},",
        ")",
        *_adapters(request, checkpointing),
        *dataset,
        "trainer = SFTTrainer(",
        "    model=model,",
        "    processing_class=tokenizer,",
        "    train_dataset=dataset,",
        "    args=SFTConfig(",
        *(f"        {line}," for line in _arguments(request)),
        "    ),",
        ")",
        "trainer.train()",
        "model.save_pretrained(OUT)",
        "tokenizer.save_pretrained(OUT)",
    ]
    return "\n".join(lines), notes


def _notes(request: ExportRequest) -> list[str]:
    if request.setup.checkpointing == "none":
        saving = (
            "Unsloth makes the embedding's output require a gradient for every adapter. The script reverts that, which "
            "is safe while gradient checkpointing is off. Whether Unsloth's kernels then skip the frozen layers is "
            "unmeasured."
        )
    else:
        saving = (
            "Unsloth's gradient checkpointing needs the embedding's output to require a gradient, "
            f"{lost_saving(request)}. Exports to trl and peft keep the saving."
        )
    marks = [*assistant_mark_notes(request), *chat_notes(request)]
    return [saving, *marks, "In a mixture of experts, Unsloth adds adapters to the trained layers' experts too."]


def _adapters(request: ExportRequest, checkpointing: str) -> list[str]:
    lora, parts = request.setup.lora, request.parts
    assert lora is not None  # export_plan checks it
    targets = python_value(ALL_LINEAR if ALL_LINEAR in lora.targets else list(lora.targets))
    lines = [
        comments(["Adapters on the trained layers only."]),
        "model = FastLanguageModel.get_peft_model(",
        "    model,",
        f"    r={lora.rank},",
        f"    lora_alpha={LORA_SCALE * lora.rank},",
        "    lora_dropout=0.0,",
        '    bias="none",',
        f"    target_modules={targets},",
        f"    layers_to_transform={list(parts.layers)},",
        f"    layers_pattern={python_value(parts.layer_list)},",
        f"    use_gradient_checkpointing={checkpointing},",
        ")",
    ]
    if request.setup.checkpointing == "none":
        lines.append("model.disable_input_require_grads()")
    return [*lines, ""]


def _dataset(request: ExportRequest) -> list[str]:
    data, fields = request.data, request.data.fields
    require_readable(data, UNSLOTH, _FILES)
    require_roles(data, UNSLOTH, ("system", "user", "assistant", "tool"))
    if fields.messages_field is not None:
        names = {"messages": fields.messages_field}
    elif fields.text_field is not None:
        names = {"text": fields.text_field}
    else:
        names = {"prompt": str(fields.prompt_field), "completion": str(fields.completion_field)}
    lines = [
        f'dataset = load_dataset("{_FILES[data.kind]}", data_files=DATA, split="train")',
        f"dataset = dataset.select_columns({python_value(list(names.values()))})",
    ]
    renamed = {old: new for new, old in names.items() if new != old}
    if renamed:
        lines.append(f"dataset = dataset.rename_columns({python_value(renamed)})")
    return [*lines, ""]


def _arguments(request: ExportRequest) -> list[str]:
    setup = request.setup
    given = {
        "output_dir": "OUT",
        "max_length": setup.sequence_length,
        "max_steps": setup.steps,
        "per_device_train_batch_size": setup.examples_per_pass,
        "gradient_accumulation_steps": setup.passes_per_step,
        "learning_rate": request.learning_rate,
        "lr_scheduler_type": f'"{SCHEDULE}"',
        "warmup_steps": request.warmup_steps,
        "optim": f'"{OPTIMIZERS[setup.optimizer]}"',
        "bf16": setup.precision != "float32",
        "gradient_checkpointing": setup.checkpointing != "none",
        "report_to": '"none"',
    }
    if request.data.fields.messages_field is not None:
        given["assistant_only_loss"] = True
    return [f"{name}={value}" for name, value in given.items()]
