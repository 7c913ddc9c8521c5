"""mlx-lm: `num_layers` trains the last layers, their own weights or adapters, and nothing outside them.

0 and -1 both mean all layers, so a plan that trains none cannot be told. Read in mlx-lm 0.32.2 (lora.py,
tuner/utils.py, tuner/datasets.py).
"""

from pathlib import Path
from typing import Any

from semfreeze_core.errors import PlanError
from semfreeze_core.export.data import FileKind, require_readable
from semfreeze_core.export.literals import yaml_lines
from semfreeze_core.export.notes import comments, cost_notes, header
from semfreeze_core.export.request import ExportRequest
from semfreeze_core.records.defaults import LORA_SCALE
from semfreeze_core.records.training import ALL_LINEAR

_FILES: tuple[FileKind, ...] = ("json lines",)


def write_mlx_lm(request: ExportRequest) -> tuple[str, list[str]]:
    """A configuration.

    Raises:
        PlanError: the trained layers are not the last ones, or there are none; adapters on chosen matrices alone.
        DataError: prompts made by a template, or a file that is no JSONL.
    """
    setup, parts = request.setup, request.parts
    if not parts.layers or not parts.is_suffix:
        raise PlanError(
            f"mlx-lm trains the last layers and no other choice, and this plan trains {parts.summary}. Export it to "
            "hf-trainer, trl, axolotl or ms-swift."
        )
    data = _data(request)
    trained, notes = _trained(request)
    notes += _notes(request)
    optimizer = "sgd" if setup.optimizer == "sgd" else "adamw"
    training: dict[str, Any] = {
        "batch_size": setup.batch_size,
        "iters": setup.steps,
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
        comments(["The folder that holds train.jsonl, and valid.jsonl if there is one."]),
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
        notes = [f"{', '.join(parts.others)} stays frozen: mlx-lm trains layers alone."] if parts.others else []
        return {"fine_tune_type": "full", "num_layers": n}, notes
    if ALL_LINEAR not in lora.targets:
        raise PlanError(
            "mlx-lm names the matrices that get adapters by other paths than a plan does: make the plan without "
            "--lora-targets, or export it to trl, peft, axolotl, ms-swift or unsloth."
        )
    # its scale is what others call alpha / rank
    own = {"rank": lora.rank, "scale": float(LORA_SCALE), "dropout": 0.0}
    notes = ["In a mixture of experts mlx-lm gives the trained layers' experts adapters too."]
    return {"fine_tune_type": "lora", "num_layers": n, "lora_parameters": own}, notes


def _notes(request: ExportRequest) -> list[str]:
    setup = request.setup
    notes = ["mlx-lm differentiates trained parameters alone, so freezing saves there too; how much is not measured."]
    if request.revision:
        notes.append(f"mlx-lm takes no revision; the plan is for {request.revision}.")
    if setup.optimizer == "adamw8bit":
        notes.append("mlx-lm has no 8-bit AdamW; its states take the weights' precision.")
    notes.append("Weights keep the precision they are stored in; the price counts on " + setup.precision + ".")
    if request.data.fields.text_field is None:
        notes.append("mlx-lm writes prompt and completion as a chat, by the model's own chat template; it needs one.")
    if request.data.is_known and Path(request.data.path).name != "train.jsonl":
        notes.append(f"mlx-lm reads train.jsonl in the folder it is given: name {request.data.path} so.")
    return notes + cost_notes(request)


def _data(request: ExportRequest) -> dict[str, Any]:
    data, fields = request.data, request.data.fields
    require_readable(data, "mlx-lm", _FILES)
    said: dict[str, Any] = {"data": str(Path(data.path).parent)}
    if fields.messages_field is not None:
        return {**said, "chat_feature": fields.messages_field, "mask_prompt": True}
    if fields.text_field is not None:
        return {**said, "text_feature": fields.text_field, "mask_prompt": False}
    return {
        **said,
        "prompt_feature": fields.prompt_field,
        "completion_feature": fields.completion_field,
        "mask_prompt": True,
    }
