"""mlx-lm: `num_layers` trains the last layers, their own weights or adapters, and nothing outside them.

0 and -1 both mean all layers, so a plan that trains none cannot be expressed. Read in mlx-lm 0.32.2 (lora.py,
tuner/utils.py, tuner/datasets.py).
"""

from pathlib import Path
from typing import Any

from semfreeze_core.errors import PlanError
from semfreeze_core.export.data import FileKind, require_readable, require_roles
from semfreeze_core.export.literals import yaml_lines
from semfreeze_core.export.notes import chat_notes, comments, cost_notes, header
from semfreeze_core.export.request import ExportRequest
from semfreeze_core.records.defaults import LORA_SCALE
from semfreeze_core.records.training import ALL_LINEAR

_FILES: tuple[FileKind, ...] = ("json lines",)


def write_mlx_lm(request: ExportRequest) -> tuple[str, list[str]]:
    """A configuration.

    Raises:
        PlanError: the trained layers are not the last ones, or there are none; adapters on chosen matrices only.
        DataError: prompts made by a template, or a file other than JSONL.
    """
    setup, parts = request.setup, request.parts
    if not parts.layers or not parts.is_suffix:
        raise PlanError(
            f"mlx-lm can train only the last layers, and this plan trains {parts.summary}. Export it to {request.able}."
        )
    data = _data(request)
    trained, notes = _trained(request)
    notes += _notes(request)
    optimizer = "sgd" if setup.optimizer == "sgd" else "adamw"
    training: dict[str, Any] = {
        "batch_size": setup.examples_per_pass,
        "iters": setup.steps * setup.passes_per_step,  # passes; its schedule counts steps
        **({"grad_accumulation_steps": setup.passes_per_step} if setup.passes_per_step > 1 else {}),
        "max_seq_length": setup.sequence_length,
        "optimizer": optimizer,
        "optimizer_config": {optimizer: {"weight_decay": 0.0}},
        "lr_schedule": {
            "name": "linear_schedule",
            "warmup": request.warmup_steps,
            "arguments": [request.learning_rate, request.learning_rate, setup.steps],
        },
        "grad_checkpoint": setup.checkpointing != "none",
        "adapter_path": "finetuned",
    }
    lines = [
        header(request, "Run it with: mlx_lm.lora --config THIS_FILE", notes),
        *yaml_lines({"model": request.model, "train": True}),
        "",
        comments(["The folder that contains train.jsonl, and valid.jsonl if there is one."]),
        *yaml_lines(data),
        "",
        *yaml_lines(trained),
        "",
        *yaml_lines(training),
    ]
    return "\n".join(lines), notes


def _trained(request: ExportRequest) -> tuple[dict[str, Any], list[str]]:
    parts, lora = request.parts, request.setup.lora
    n = len(parts.layers)
    if lora is None:
        notes = [f"{', '.join(parts.others)} stays frozen: mlx-lm trains only layers."] if parts.others else []
        return {"fine_tune_type": "full", "num_layers": n}, notes
    if ALL_LINEAR not in lora.targets:
        raise PlanError(
            "mlx-lm uses other names for the matrices that get adapters. Make the plan without --lora-targets, or "
            f"export it to {request.able}."
        )
    # its scale is alpha / rank elsewhere
    adapters = {"rank": lora.rank, "scale": float(LORA_SCALE), "dropout": 0.0}
    notes = ["In a mixture of experts, mlx-lm adds adapters to the trained layers' experts too."]
    return {"fine_tune_type": "lora", "num_layers": n, "lora_parameters": adapters}, notes


def _notes(request: ExportRequest) -> list[str]:
    setup = request.setup
    notes = ["mlx-lm differentiates only trained parameters, so freezing saves compute; how much is unmeasured."]
    if request.revision:
        notes.append(f"mlx-lm has no revision option; the plan is for {request.revision}.")
    if setup.optimizer == "adamw8bit":
        notes.append("mlx-lm has no 8-bit AdamW; optimizer states use the weights' precision.")
    if setup.passes_per_step > 1:
        notes.append(
            f"mlx-lm counts passes as iterations, {setup.passes_per_step} of them per step. It weighs them alike, "
            "however many target tokens each has."
        )
    notes.append(f"Weights keep their stored precision; the cost estimate assumes {setup.precision}.")
    if request.data.fields.text_field is None:
        notes.append("mlx-lm formats prompt and completion with the model's chat template; the model needs one.")
    if request.data.fields.messages_field is not None:
        notes.append(
            "mlx-lm computes the loss on the last message of a chat only; semfreeze trains every assistant message."
        )
    notes += chat_notes(request)
    if request.data.is_known and Path(request.data.path).name != "train.jsonl":
        notes.append(f"mlx-lm reads train.jsonl in its data folder: rename {request.data.path} to train.jsonl.")
    return notes + cost_notes(request)


def _data(request: ExportRequest) -> dict[str, Any]:
    data, fields = request.data, request.data.fields
    require_readable(data, "mlx-lm", _FILES)
    entries: dict[str, Any] = {"data": str(Path(data.path).parent)}
    if fields.messages_field is not None:
        require_roles(data, "mlx-lm", ("system", "user", "assistant", "tool"))
        return {**entries, "chat_feature": fields.messages_field, "mask_prompt": True}
    if fields.text_field is not None:
        return {**entries, "text_feature": fields.text_field, "mask_prompt": False}
    return {
        **entries,
        "prompt_feature": fields.prompt_field,
        "completion_feature": fields.completion_field,
        "mask_prompt": True,
    }
