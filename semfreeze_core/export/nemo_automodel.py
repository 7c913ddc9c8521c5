"""NeMo AutoModel: `freeze_config` freezes every module, then trains again those that hold the plan's parameters.

A selector is a module's whole path or a glob whose * crosses dots, and takes all below it; one that matches nothing
stops the run. Adapters go where a pattern matches a module's whole name, and a pattern without * is a plain regular
expression. Read in nemo_automodel 0.7.0 (components/utils/model_utils.py, components/_peft/module_matcher.py,
recipes/llm/train_ft.py, recipes/_typed_config.py, recipes/_dist_utils.py, components/datasets/llm).
"""

import re
from typing import Any

from semfreeze_core.errors import DataError, PlanError
from semfreeze_core.export.data import ChatShape, require_readable, require_roles
from semfreeze_core.export.literals import yaml_lines, yaml_section, yaml_value
from semfreeze_core.export.notes import chat_notes, comments, cost_notes, header
from semfreeze_core.export.request import ExportRequest
from semfreeze_core.records.defaults import LORA_SCALE
from semfreeze_core.records.training import ALL_LINEAR

_DATASETS = "nemo_automodel.components.datasets.llm"
_COMPLETIONS = f"{_DATASETS}.column_mapped_text_instruction_dataset.ColumnMappedTextInstructionDataset"
_CHATS = f"{_DATASETS}.chat_dataset.ChatDataset"
# Its two chat layouts: the column's name, names of the role's key, and words for roles.
_MESSAGES = ("messages", ("role",), ("system", "user", "assistant", "tool"))
_CONVERSATIONS = (
    "conversations",
    ("from", "role"),
    ("system", "human", "user", "gpt", "assistant", "chatgpt", "model", "bot"),
)


def write_nemo_automodel(request: ExportRequest) -> tuple[str, list[str]]:
    """A recipe.

    Raises:
        PlanError: adapters on matrices that are no linear modules.
        DataError: plain texts, prompts made by a template, or a file or a chat it does not read.
    """
    setup = request.setup
    dataset = _data(request)
    trained = _adapters(request) if setup.lora else _weights(request)
    notes = [*_notes(request), *_data_notes(request), *cost_notes(request, quantizes=setup.lora is not None)]
    optimizer = {
        "_target_": "torch.optim.SGD" if setup.optimizer == "sgd" else "torch.optim.AdamW",
        "lr": request.learning_rate,
        "weight_decay": 0.0,
    }
    steps = {
        "global_batch_size": setup.batch_size,
        "local_batch_size": setup.examples_per_pass,
        "max_steps": setup.steps,
        "num_epochs": request.epochs,
        "ckpt_every_steps": setup.steps,
        "save_checkpoint_every_epoch": False,
    }
    schedule = {
        "lr_decay_style": "constant",
        "lr_warmup_steps": min(request.warmup_steps, setup.steps - 1),  # it must be less than all
        "init_lr": 0.0,
    }
    checkpoint = {
        "enabled": True,
        "checkpoint_dir": "finetuned",
        "model_save_format": "safetensors",
        "save_consolidated": "final",
    }
    lines = [
        header(request, "Run it with: automodel THIS_FILE --nproc-per-node GPUS", notes),
        *yaml_lines({"recipe": "TrainFinetuneRecipeForNextTokenPrediction"}),
        "",
        *yaml_section("model", _model(request)),
        "",
        *trained,
        "",
        *yaml_section("dataset", dataset),
        *yaml_section("dataloader", {"shuffle": True}),
        "",
        *yaml_section("step_scheduler", steps),
        *yaml_section("optimizer", optimizer),
        *yaml_section("lr_scheduler", schedule),
        *yaml_section("loss_fn", {"_target_": "nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy"}),
        *yaml_section("distributed", _distributed(request)),
        *yaml_section("checkpoint", checkpoint),
    ]
    return "\n".join(lines), notes


def _model(request: ExportRequest) -> dict[str, Any]:
    setup = request.setup
    entries: dict[str, Any] = {
        "_target_": "nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained",
        "pretrained_model_name_or_path": request.model,
        **({"revision": request.revision} if request.revision else {}),
        "torch_dtype": "bfloat16" if setup.precision == "bf16" else "float32",
    }
    if setup.precision == "float32":
        entries["attn_implementation"] = "sdpa"  # its default, FlashAttention, computes in 16 bits only
    if setup.lora is not None:
        entries["force_hf"] = True
    return entries


def _weights(request: ExportRequest) -> list[str]:
    parts = request.parts
    if parts.everything:
        return [comments(["Nothing is frozen: every parameter is trained."])]
    modules = [f"{parts.layer_prefix}{layer}" for layer in parts.layers]
    modules += dict.fromkeys(name.rpartition(".")[0] for name in parts.others)
    return [
        comments(["Everything is frozen, then the trained modules are trained again."]),
        "freeze_config:",
        "  freeze_modules:",
        f"    - glob: {yaml_value('*')}",
        "  unfreeze_modules:",
        *(f"    - path: {yaml_value(module)}" for module in modules),
    ]


def _adapters(request: ExportRequest) -> list[str]:
    setup, parts = request.setup, request.parts
    lora = setup.lora
    assert lora is not None  # write_nemo_automodel calls it for adapters only
    if request.plan.model.family == "gpt2":
        raise PlanError(
            "NeMo AutoModel puts adapters on linear modules only, and GPT-2 stores its matrices as Conv1D. Make the "
            "plan without --lora, or export it to trl or peft."
        )
    inside = rf"{re.escape(parts.layer_prefix)}(?:{'|'.join(map(str, parts.layers))})\."
    if ALL_LINEAR in lora.targets:
        chosen = {"exclude_modules": [f"(?!{inside}).+"]}
    else:
        ends = "|".join(re.escape(target) for target in lora.targets)
        chosen = {"target_modules": [rf"{inside}(?:.+\.)?(?:{ends})"]}
    entries = {
        "_target_": "nemo_automodel.components._peft.lora.PeftConfig",
        **chosen,
        "dim": lora.rank,
        "alpha": LORA_SCALE * lora.rank,
        "dropout": 0.0,
    }
    lines = [comments(["Adapters on the trained layers only, by regular expressions."]), *yaml_section("peft", entries)]
    if setup.frozen_bits is not None:
        bits = {f"load_in_{n}bit": setup.frozen_bits == n for n in (4, 8)}
        lines += yaml_section("quantization", bits)
    return lines


def _distributed(request: ExportRequest) -> dict[str, Any]:
    compute = "bfloat16" if request.setup.precision == "bf16" else "float32"
    entries: dict[str, Any] = {
        "strategy": "fsdp2",
        "mp_policy": {"param_dtype": compute, "reduce_dtype": "float32"},
        "activation_checkpointing": request.setup.checkpointing != "none",
    }
    if request.setup.precision == "bf16-autocast":
        entries["autocast_dtype"] = "bfloat16"
    return entries


def _notes(request: ExportRequest) -> list[str]:
    setup = request.setup
    notes = ["Both batch sizes are the plan's batch. On several GPUs, divide local_batch_size by their number."]
    if setup.passes_per_step > 1:
        notes = [
            "global_batch_size is the plan's batch, local_batch_size its micro-batch. On several GPUs the batch stays: "
            f"each makes fewer of the {setup.passes_per_step} passes. The batch must be a multiple of local_batch_size "
            "times their number."
        ]
    if not request.parts.everything:
        notes.append(
            "NeMo AutoModel never makes the embedding's output require a gradient, so the gradient ends at the first "
            "trained layer. FSDP2 still shards and gathers the frozen parameters."
        )
    if setup.checkpointing != "none":
        notes.append("NeMo AutoModel checkpoints only trained layers, in the non-reentrant way: the saving is kept.")
    if setup.lora is None and not request.parts.everything:
        notes.append(
            "NeMo AutoModel loads its own implementation of many models. A trained module that has another name there "
            "stops the run; set force_hf: true under model to load transformers' own."
        )
    if setup.lora is not None:
        notes.append(
            "force_hf loads transformers' own model, whose matrices have the plan's names; NeMo AutoModel's own models "
            "join some of them."
        )
    if setup.optimizer == "adamw8bit":
        notes.append("8-bit AdamW is not configured for NeMo AutoModel; optimizer states use the weights' precision.")
    return notes


def _data_notes(request: ExportRequest) -> list[str]:
    if request.data.fields.messages_field is not None:
        left = [name for name in (request.data.chats or ChatShape()).columns if name != "tools"]
        notes = [f"NeMo AutoModel does not read the column {name} beside a chat." for name in left]
        return [*notes, *chat_notes(request)]
    return [
        "NeMo AutoModel writes a space between prompt and completion and counts the prompt's tokens with it. Where the "
        "tokenizer joins the space to the completion's first word, the loss leaves out that word's first token."
    ]


def _data(request: ExportRequest) -> dict[str, Any]:
    data, fields = request.data, request.data.fields
    tokenizer: dict[str, Any] = {"pretrained_model_name_or_path": request.model}
    if request.revision:
        tokenizer["revision"] = request.revision
    length = {"seq_length": request.setup.sequence_length, "truncation": True}
    if fields.messages_field is not None:
        require_readable(data, "NeMo AutoModel", ("json lines", "json", "parquet"))
        _require_chats(request)
        return {"_target_": _CHATS, "path_or_dataset_id": data.path, **length, "tokenizer": tokenizer}
    require_readable(data, "NeMo AutoModel", ("json lines", "json"))
    if fields.text_field is not None:
        raise DataError(
            f"NeMo AutoModel's recipe reads prompts with completions or chats from a file, and {data.path} has texts "
            f"({fields.text_field}). Export to hf-trainer, trl, peft, axolotl or llama-factory."
        )
    columns = {"question": fields.prompt_field, "answer": fields.completion_field}
    return {
        "_target_": _COMPLETIONS,
        "path_or_dataset_id": data.path,
        "column_mapping": columns,
        "answer_only_loss_mask": True,
        **length,
        "tokenizer": {**tokenizer, "add_eos_token": True},
    }


def _require_chats(request: ExportRequest) -> None:
    """Refuse chats in neither of its two layouts.

    Raises:
        DataError: naming the column, the keys or the words.
    """
    data, column = request.data, request.data.fields.messages_field
    layout = next((layout for layout in (_MESSAGES, _CONVERSATIONS) if layout[0] == column), None)
    if layout is None:
        raise DataError(
            f"NeMo AutoModel reads chats from a column messages, and {data.path} has them in {column}. Rename it, or "
            "export to axolotl, hf-trainer, trl or peft."
        )
    _, keys, roles = layout
    require_roles(data, "NeMo AutoModel", roles, keys)
