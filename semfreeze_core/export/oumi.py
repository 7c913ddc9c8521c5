"""oumi: `freeze_layers` lists the modules to freeze, each with all below it, and nothing trains anything again.

So every frozen module is listed, those outside the layers too; one that is not in the model is only warned about.
Adapters go on targets that `lora_exclude_modules` does not match. The file is handed to TRL as it is, because oumi's
own datasets write prompts as chats. Read in oumi 0.9 (utils/torch_utils.py, builders/models.py, builders/data.py,
core/configs, core/distributed.py, train.py).
"""

import re
from typing import Any

from semfreeze_core.errors import DataError, PlanError
from semfreeze_core.export.data import OUMI, FileKind, require_readable, require_roles
from semfreeze_core.export.literals import yaml_lines, yaml_section, yaml_value
from semfreeze_core.export.notes import (
    assistant_mark_notes,
    chat_notes,
    checkpointing_notes,
    comments,
    cost_notes,
    header,
    passes_notes,
)
from semfreeze_core.export.parts import frozen_modules
from semfreeze_core.export.request import OPTIMIZERS, SCHEDULE, ExportRequest
from semfreeze_core.records.defaults import LORA_SCALE
from semfreeze_core.records.training import ALL_LINEAR

_FILES: dict[FileKind, str] = {"json lines": "json", "json": "json", "csv": "csv", "parquet": "parquet"}


def write_oumi(request: ExportRequest) -> tuple[str, list[str]]:
    """A training configuration.

    Raises:
        PlanError: the plan does not list the model's parameters, or a frozen one shares its module with a trained one.
        DataError: columns that TRL does not know, prompts made by a template, or a file format it does not read.
    """
    setup = request.setup
    data, columns = _data(request)
    frozen = () if setup.lora is not None else _frozen(request)
    notes = [*_notes(request), *cost_notes(request, quantizes=setup.lora is not None)]
    chats = request.data.fields.messages_field is not None or request.data.pairs_of_messages
    model: dict[str, Any] = {
        "model_name": request.model,
        **({"model_revision": request.revision} if request.revision else {}),
        "model_max_length": setup.sequence_length,
        "torch_dtype_str": "bfloat16" if setup.precision == "bf16" else "float32",
        **({"chat_template": "auto"} if chats else {}),  # the model's own, where oumi has one for its family too
    }
    training: dict[str, Any] = {
        "trainer_type": "TRL_SFT",
        "use_peft": setup.lora is not None,
        "output_dir": "finetuned",
        "per_device_train_batch_size": setup.examples_per_pass,
        "gradient_accumulation_steps": setup.passes_per_step,
        "max_steps": setup.steps,
        "learning_rate": request.learning_rate,
        "lr_scheduler_type": SCHEDULE,
        "warmup_steps": request.warmup_steps,
        "optimizer": OPTIMIZERS[setup.optimizer],
        "mixed_precision_dtype": "BF16" if setup.precision == "bf16-autocast" else "NONE",
        "enable_gradient_checkpointing": setup.checkpointing != "none",
        **({} if setup.checkpointing == "none" else {"gradient_checkpointing_kwargs": _checkpointing(request)}),
        "enable_tensorboard": False,
        **({"trainer_kwargs": columns} if columns else {}),
    }
    lines = [
        header(request, "Run it with: oumi train -c THIS_FILE", notes),
        *yaml_section("model", model),
        *_frozen_lines(frozen),
        "",
        "data:",
        "  train:",
        "    datasets:",
        *(f"      {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(yaml_lines(data))),
        "",
        *yaml_section("training", training),
        *(["", *yaml_section("peft", _adapters(request))] if setup.lora is not None else []),
    ]
    return "\n".join(lines), notes


def _checkpointing(request: ExportRequest) -> dict[str, bool]:
    return {"use_reentrant": request.reentrant}


def _frozen(request: ExportRequest) -> tuple[str, ...]:
    if request.parts.everything:
        return ()
    names = request.plan.parameter_names
    if names is None:
        raise PlanError(
            "oumi needs the names of what to freeze, and this plan lists no frozen parameters, as an earlier semfreeze "
            f"made it. Make the plan again with semfreeze plan {request.plan.run or 'RUN'}."
        )
    return frozen_modules(names, request.parts)


def _frozen_lines(frozen: tuple[str, ...]) -> list[str]:
    if not frozen:
        return []
    return [
        f"  {comments(['Every frozen module; what is not listed is trained.'])}",
        "  freeze_layers:",
        *(f"    - {yaml_value(module)}" for module in frozen),
    ]


def _adapters(request: ExportRequest) -> dict[str, Any]:
    setup, parts = request.setup, request.parts
    lora = setup.lora
    assert lora is not None  # write_oumi calls it for adapters only
    layers = "|".join(map(str, parts.layers))
    entries: dict[str, Any] = {
        "lora_r": lora.rank,
        "lora_alpha": LORA_SCALE * lora.rank,
        "lora_dropout": 0.0,
        "lora_target_modules": [ALL_LINEAR] if ALL_LINEAR in lora.targets else list(lora.targets),
        "lora_exclude_modules": [rf"(?!{re.escape(parts.layer_prefix)}(?:{layers})\.).*"],
    }
    if setup.frozen_bits is not None:
        entries |= {"q_lora": True, "q_lora_bits": setup.frozen_bits}
        if setup.frozen_bits == 4:
            entries |= {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    return entries


def _notes(request: ExportRequest) -> list[str]:
    setup, everything = request.setup, request.parts.everything
    notes = [] if everything else checkpointing_notes(request, "oumi (on transformers 5)")
    if setup.lora is None and not everything:
        notes.append(
            "oumi only warns (Layer ... not found in model) about a module that the model lacks, and trains it: look "
            "for that line when the run starts."
        )
        notes.append(
            "With fsdp, oumi puts the whole model into one unit unless auto_wrap_policy says otherwise, and a unit "
            "with any trained parameter holds gradients of its frozen ones. Set auto_wrap_policy: "
            "TRANSFORMER_BASED_WRAP, and leave use_orig_params true, which a unit with both needs."
        )
    if setup.checkpointing != "none":
        notes.append(
            "With fsdp, oumi turns its gradient checkpointing off and Accelerate checkpoints the layers itself, which "
            "adds no gradient to the embedding's output."
        )
    notes.append("oumi stops where the tokenizer has no padding token: name one as tokenizer_pad_token under model.")
    if request.data.fields.messages_field is not None:
        notes += [*assistant_mark_notes(request), *chat_notes(request)]
    return notes + passes_notes(request)


def _data(request: ExportRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data set's entry, and what TRL is told of its columns."""
    data, fields = request.data, request.data.fields
    require_readable(data, OUMI, _FILES)
    require_roles(data, OUMI, ("system", "user", "assistant", "tool"))
    entry = {"dataset_name": _FILES[data.kind], "dataset_kwargs": {"data_files": data.path}}
    if fields.text_field is not None:
        return entry, {"dataset_text_field": fields.text_field}
    if fields.messages_field is not None:
        names, trl_settings = {"messages": fields.messages_field}, {"assistant_only_loss": True}
    else:
        names = {"prompt": str(fields.prompt_field), "completion": str(fields.completion_field)}
        trl_settings = {"completion_only_loss": True}
    renamed = {old: new for new, old in names.items() if new != old}
    if renamed:
        changes = " and ".join(f"{old} to {new}" for old, new in renamed.items())
        raise DataError(
            f"oumi hands {data.path} to TRL, which reads columns called {' and '.join(names)}. Rename {changes}, or "
            "export to hf-trainer, trl, peft, axolotl or llama-factory."
        )
    return entry, trl_settings
