"""ms-swift: everything frozen, then what a regular expression finds anywhere in a name trained again.

Adapters go where `--target_regex` matches a module's whole name. Read in ms-swift 4.6.0 (utils/transformers_utils.py,
arguments/tuner_args.py, pipelines/train/tuner.py, trainers/mixin.py); before 4.0 `--tuner_type` was `--train_type`.
"""

import json
import re
import shlex
from pathlib import Path

from semfreeze_core.errors import PlanError
from semfreeze_core.export.data import require_readable, require_roles
from semfreeze_core.export.notes import bos_notes, checkpointing_notes, cost_notes, header, passes_notes
from semfreeze_core.export.request import OPTIMIZERS, SCHEDULE, ExportRequest
from semfreeze_core.records.defaults import LORA_SCALE
from semfreeze_core.records.training import ALL_LINEAR
from semfreeze_core.wording.escaping import json_text

Flags = dict[str, str]


def write_ms_swift(request: ExportRequest) -> tuple[str, list[str]]:
    """A shell script.

    Raises:
        PlanError: adapters on every matrix, which it cannot restrict to chosen layers.
        DataError: prompts made by a template, or a file format it does not read.
    """
    setup = request.setup
    trained = _adapters(request) if setup.lora else _weights(request)
    notes = [] if request.parts.everything else checkpointing_notes(request, "ms-swift")
    notes += [*cost_notes(request, quantizes=setup.lora is not None), *passes_notes(request)]
    if request.data.fields.messages_field is not None:
        notes.append("ms-swift formats chats with its template for your model; --template selects another.")
    else:
        notes += bos_notes(request, "dummy")
    flags: Flags = {
        "model": request.model,
        **_hub(request),
        **trained,
        **_data(request),
        "max_length": str(setup.sequence_length),
        "truncation_strategy": "left",
        "torch_dtype": "bfloat16" if setup.precision == "bf16" else "float32",
        "bf16": _flag(setup.precision == "bf16-autocast"),
        "fp16": "false",
        "per_device_train_batch_size": str(setup.examples_per_pass),
        "gradient_accumulation_steps": str(setup.passes_per_step),
        "max_steps": str(setup.steps),
        "learning_rate": str(request.learning_rate),
        "lr_scheduler_type": SCHEDULE,
        "warmup_steps": str(request.warmup_steps),
        "optim": OPTIMIZERS[setup.optimizer],
        "gradient_checkpointing": _flag(setup.checkpointing != "none"),
        "output_dir": "finetuned",
        "report_to": "none",
    }
    if setup.checkpointing != "none":
        flags["gradient_checkpointing_kwargs"] = json.dumps({"use_reentrant": request.reentrant})
    lines = [
        "#!/bin/sh",
        header(request, "Run it with: sh THIS_FILE", notes),
        "swift sft \\",
        " \\\n".join(f"    --{name} {shlex.quote(value)}" for name, value in flags.items()),
    ]
    return "\n".join(lines), notes


def _flag(flag: bool) -> str:
    return "true" if flag else "false"


def _hub(request: ExportRequest) -> Flags:
    """Where a model other than a folder comes from: the Hub that the plan used, not ms-swift's own."""
    if Path(request.model).is_dir():
        return {}
    return {"use_hf": "true", **({"model_revision": request.revision} if request.revision else {})}


def _weights(request: ExportRequest) -> Flags:
    if request.parts.everything:
        return {"tuner_type": "full"}
    return {
        "tuner_type": "full",
        "freeze_parameters_ratio": "1",
        "trainable_parameters_regex": f"^(?:{request.plan.trainable_regex})",
    }


def _adapters(request: ExportRequest) -> Flags:
    setup, parts = request.setup, request.parts
    lora = setup.lora
    assert lora is not None  # write_ms_swift calls it for adapters only
    if ALL_LINEAR in lora.targets:
        raise PlanError(
            "ms-swift puts adapters on every linear matrix of all layers or on those that a pattern names. Make the "
            f"plan with --lora-targets, such as q_proj,v_proj, or export it to {request.able}."
        )
    ends = "|".join(re.escape(target) for target in lora.targets)
    layers = "|".join(map(str, parts.layers))
    flags = {
        "tuner_type": "lora",
        "lora_rank": str(lora.rank),
        "lora_alpha": str(LORA_SCALE * lora.rank),
        "lora_dropout": "0",
        "target_regex": rf"{re.escape(parts.layer_prefix)}(?:{layers})\.(?:.*\.)?(?:{ends})",
    }
    if setup.frozen_bits is not None:
        flags |= {"quant_method": "bnb", "quant_bits": str(setup.frozen_bits)}
    return flags


def _data(request: ExportRequest) -> Flags:
    data, fields = request.data, request.data.fields
    require_readable(data, "ms-swift", ("json lines", "json", "csv"))
    require_roles(data, "ms-swift", ("system", "user", "human", "assistant", "gpt", "tool"), ("role", "from"))
    columns: dict[str, str] = {}
    if fields.messages_field is not None:
        columns[fields.messages_field] = "messages"
    elif fields.text_field is not None:
        columns[fields.text_field] = "response"  # an answer without a question is trained on whole
    elif fields.prompt_field is not None and fields.completion_field is not None:
        columns |= {fields.prompt_field: "query", fields.completion_field: "response"}
    flags = {
        "dataset": data.path,
        "columns": json_text(json.dumps(columns, ensure_ascii=False)),
        "split_dataset_ratio": "0",
    }
    # "dummy" puts nothing around a prompt, and an end-of-sequence token behind the answer
    return flags if fields.messages_field is not None else {**flags, "template": "dummy"}
