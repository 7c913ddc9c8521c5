"""LLaMA-Factory: `finetuning_type: freeze` trains the last layers, and modules outside the layers by their last name.

A parameter is trained when its name holds ".NUMBER." of a trained layer or an extra module's name, anywhere. So "norm"
would train every norm of the frozen layers as well, and with transformers 4, experts with a trained layer's number.
Read in LLaMA-Factory 0.9.5 (model/adapter.py, model/model_utils/checkpointing.py, data/parser.py).
"""

import json
from pathlib import Path
from typing import Any

from semfreeze_core.errors import PlanError
from semfreeze_core.export.data import ChatRole, ChatShape, require_one_role_name, require_readable
from semfreeze_core.export.literals import yaml_lines
from semfreeze_core.export.notes import bos_notes, comments, cost_notes, header, passes_notes
from semfreeze_core.export.request import OPTIMIZERS, SCHEDULE, ExportRequest

# Last names of modules outside the layers that no family puts into a parameter's name inside a layer.
_MODULES_OUTSIDE_LAYERS = frozenset({"ln_f", "final_layernorm", "lm_head", "embed_tokens", "embed_in", "wte", "wpe"})


_DEFAULT_ROLE_NAMES: dict[ChatRole, str] = {"user": "user", "assistant": "assistant", "system": "system"}


def write_llama_factory(request: ExportRequest) -> tuple[str, list[str]]:
    """A configuration, with what belongs into dataset_info.json as a comment.

    Raises:
        PlanError: the trained layers are not the last ones, or there are none.
        DataError: prompts made by a template, or a file format it does not read.
    """
    setup = request.setup
    how, dataset = _data(request)
    trained, notes = _trained(request)
    notes += _notes(request)
    training: dict[str, Any] = {
        "cutoff_len": setup.sequence_length,
        "per_device_train_batch_size": setup.examples_per_pass,
        "gradient_accumulation_steps": setup.passes_per_step,
        "max_steps": setup.steps,
        "learning_rate": request.learning_rate,
        "lr_scheduler_type": SCHEDULE,
        "warmup_steps": request.warmup_steps,
        "optim": OPTIMIZERS[setup.optimizer],
        "bf16": setup.precision != "float32",
        "pure_bf16": setup.precision == "bf16",
        "output_dir": "finetuned",
        "report_to": "none",
    }
    if setup.checkpointing == "none":
        training["disable_gradient_checkpointing"] = True
    else:
        training["use_reentrant_gc"] = request.reentrant
    revision = request.revision
    lines = [
        header(request, "Run it with: llamafactory-cli train THIS_FILE", notes),
        *yaml_lines({"model_name_or_path": request.model, **({"model_revision": revision} if revision else {})}),
        "",
        comments(
            [
                f"{Path(request.data.path).parent / 'dataset_info.json'} must contain:",
                json.dumps(dataset, indent=1),
            ]
        ),
        *yaml_lines(how),
        "",
        *yaml_lines(trained),
        "",
        *yaml_lines(training),
    ]
    return "\n".join(lines), notes


def _notes(request: ExportRequest) -> list[str]:
    notes = [*cost_notes(request), *passes_notes(request)]
    if request.setup.checkpointing != "none":
        notes.append("LLaMA-Factory checkpoints only trained layers and starts the gradient there: the saving is kept.")
    if request.setup.precision == "bf16-autocast":
        notes.append("LLaMA-Factory keeps frozen weights in bfloat16, so they take less memory than estimated.")
    if request.data.fields.completion_field is not None:
        eos = f" {request.tokenizer.eos}" if request.tokenizer is not None and request.tokenizer.eos else ""
        notes.append(
            f"The template is empty, so prompts are unchanged and nothing adds an end-of-sequence token{eos} after "
            "completions. Write it into your data, or set your model's template."
        )
        notes += bos_notes(request, "empty")
    if request.data.fields.messages_field is not None:
        notes.append("LLaMA-Factory formats chats with its own template: set the name of your model's template.")
    return notes


def _trained(request: ExportRequest) -> tuple[dict[str, Any], list[str]]:
    parts = request.parts
    if parts.everything:
        return {"finetuning_type": "full"}, []
    if not parts.layers or not parts.is_suffix:
        raise PlanError(
            f"LLaMA-Factory can train only the last layers, and this plan trains {parts.summary}. Export it to "
            f"{request.able}."
        )
    modules = {name: name.split(".")[-2] for name in parts.others}
    extra = list(dict.fromkeys(module for module in modules.values() if module in _MODULES_OUTSIDE_LAYERS))
    left = [name for name, module in modules.items() if module not in _MODULES_OUTSIDE_LAYERS]
    notes = []
    if left:
        notes.append(
            f"{', '.join(left)} stays frozen: LLaMA-Factory takes every parameter whose name holds the module's, and "
            "that would unfreeze parameters of frozen layers too."
        )
    if request.plan.model.family == "gpt_neox" and "lm_head" in extra:
        notes.append(
            "LLaMA-Factory 0.9.5 takes transformers up to 5.6, where GPT-NeoX's head is called embed_out: write that "
            "for lm_head in freeze_extra_modules, or it refuses to start."
        )
    if len(parts.layers) < parts.n_layers:
        notes.append(
            "With transformers 4, where experts are modules of their own, an expert of a frozen layer whose number is "
            "a trained layer's would be trained too; with transformers 5 none is."
        )
    freeze: dict[str, Any] = {
        "finetuning_type": "freeze",
        "freeze_trainable_layers": len(parts.layers),
        "freeze_trainable_modules": "all",
    }
    if extra:
        freeze["freeze_extra_modules"] = ",".join(extra)
    return freeze, notes


def _data(request: ExportRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration's data entries, and the entry in dataset_info.json."""
    data, fields = request.data, request.data.fields
    path = Path(data.path)
    require_readable(data, "LLaMA-Factory", ("json lines", "json", "csv", "parquet"))
    entry: dict[str, Any] = {"file_name": path.name}
    stage, template = "sft", "empty"
    if fields.messages_field is not None:
        template = "default"
        chats = data.chats or ChatShape()
        require_one_role_name(data, "LLaMA-Factory")
        entry["formatting"] = "sharegpt"
        entry["columns"] = {"messages": fields.messages_field, **{name: name for name in chats.columns}}
        spoken = {**_DEFAULT_ROLE_NAMES, **{role: names[0] for role, names in chats.role_names.items()}}
        tags = {f"{role}_tag": word for role, word in spoken.items()}
        entry["tags"] = {"role_tag": chats.role_key, "content_tag": chats.content_key, **tags}
    elif fields.text_field is not None:
        stage = "pt"
        entry["columns"] = {"prompt": fields.text_field}
    else:
        entry["columns"] = {"prompt": fields.prompt_field, "response": fields.completion_field}
    how = {
        "stage": stage,
        "do_train": True,
        "dataset": "task",
        "dataset_dir": str(path.parent),
        **({} if stage == "pt" else {"template": template}),
    }
    return how, {"task": entry}
