"""axolotl: `unfrozen_parameters` for the layers' own weights, `peft_layers_to_transform` for adapters.

Its patterns are matched from a name's start with every dot taken for a dot (an escaped one would not match), and one
that ends in [digits] means rows. A pattern that names lm_head or embed_tokens makes the embedding's output require a
gradient. Read in axolotl 0.19.0 (utils/freeze.py, train.py, loaders/adapter.py).
"""

from typing import Any

from semfreeze_core.errors import DataError, PlanError
from semfreeze_core.export.data import ChatShape, FileKind, require_readable
from semfreeze_core.export.literals import yaml_lines, yaml_value
from semfreeze_core.export.notes import (
    chat_notes,
    checkpointing_notes,
    comments,
    cost_notes,
    header,
    lost_saving,
    passes_notes,
)
from semfreeze_core.export.request import OPTIMIZERS, SCHEDULE, ExportRequest
from semfreeze_core.records.defaults import LORA_SCALE
from semfreeze_core.records.training import ALL_LINEAR

_FILES: dict[FileKind, str] = {"json lines": "json", "json": "json", "csv": "csv", "parquet": "parquet"}
_KNOWN_ROLES = ("system", "user", "human", "assistant", "gpt", "tool")  # without a list of one's own
_INPUT_SIDE = ("lm_head", "embed_tokens")


def write_axolotl(request: ExportRequest) -> tuple[str, list[str]]:
    """A configuration.

    Raises:
        PlanError: adapters on every matrix of a model whose matrices axolotl does not recognize as linear.
        DataError: prompts made by a template, or a file format it does not read.
    """
    trained, notes = _adapters(request) if request.setup.lora else _weights(request)
    notes += [*cost_notes(request, quantizes=request.setup.lora is not None), *chat_notes(request), *_beside(request)]
    notes += passes_notes(request)
    setup = request.setup
    if setup.precision == "bf16-autocast":
        notes.append("With bf16, axolotl loads the weights in bfloat16; the cost estimate assumes float32.")
    training: dict[str, Any] = {
        "sequence_len": setup.sequence_length,
        "sample_packing": False,
        "train_on_inputs": False,
        "val_set_size": 0,
        "micro_batch_size": setup.examples_per_pass,
        "gradient_accumulation_steps": setup.passes_per_step,
        "num_epochs": request.epochs,
        "max_steps": setup.steps,
        "learning_rate": request.learning_rate,
        "lr_scheduler": SCHEDULE,
        "warmup_steps": request.warmup_steps,
        "optimizer": OPTIMIZERS[setup.optimizer],
        **({"float32": True} if setup.precision == "float32" else {"bf16": True}),
        "output_dir": "./finetuned",
    }
    if setup.checkpointing == "none":
        training["gradient_checkpointing"] = False
    else:
        training["gradient_checkpointing"] = True
        training["gradient_checkpointing_kwargs"] = {"use_reentrant": request.reentrant and setup.lora is not None}
    base = {"base_model": request.model}
    if request.revision:
        base["revision_of_model"] = request.revision
    lines = [
        header(request, "Run it with: axolotl train THIS_FILE", notes),
        *yaml_lines(base),
        "",
        *_data(request),
        "",
        *trained,
        "",
        *yaml_lines(training),
    ]
    return "\n".join(lines), notes


def _weights(request: ExportRequest) -> tuple[list[str], list[str]]:
    parts = request.parts
    if parts.everything:
        return [comments(["Nothing is frozen: every parameter is trained."])], []
    patterns = [f"^{name}$" for name in parts.others]
    if parts.layers:
        patterns.insert(0, f"^{parts.layer_prefix}(?:{'|'.join(map(str, parts.layers))}).")
    notes = checkpointing_notes(request, "axolotl (on transformers 5)")
    if request.reentrant:
        notes.append(
            "axolotl refuses reentrant checkpointing with frozen parameters, so this uses the non-reentrant kind."
        )
    if any(side in name for name in parts.others for side in _INPUT_SIDE):
        notes.append(
            "A trained head or embedding makes axolotl require a gradient of the embedding's output, "
            f"{lost_saving(request)}. Exports to hf-trainer and trl keep the saving for a trained head."
        )
    lines = [
        comments(["Patterns in axolotl's form: matched from the start of a name, dots unescaped."]),
        "unfrozen_parameters:",
        *(f"  - {yaml_value(pattern)}" for pattern in patterns),
    ]
    return lines, notes


def _beside(request: ExportRequest) -> list[str]:
    """What becomes of the columns beside a chat, which axolotl knows by these names and no others.

    Raises:
        DataError: tools in a form that it does not read.
    """
    chats = request.data.chats
    if chats is None or not chats.columns:
        return []
    if chats.tools_as_text:
        raise DataError(
            f"axolotl reads tools as lists, and those of {request.data.path} are JSON texts. Write them as lists, or "
            "export to llama-factory, hf-trainer, trl or peft."
        )
    return [f"axolotl gives its chats the data's {' and '.join(chats.columns)} by the columns' names: keep those."]


def _adapters(request: ExportRequest) -> tuple[list[str], list[str]]:
    setup, parts = request.setup, request.parts
    lora = setup.lora
    assert lora is not None  # write_axolotl calls it for adapters only
    everywhere = ALL_LINEAR in lora.targets
    if everywhere and request.plan.model.family == "gpt2":
        raise PlanError(
            "axolotl finds no linear matrices in GPT-2, which stores them as Conv1D. Make the plan with "
            "--lora-targets c_attn,c_proj,c_fc."
        )
    entries: dict[str, Any] = {"adapter": "qlora" if setup.frozen_bits == 4 else "lora"}
    if setup.frozen_bits is not None:
        entries[f"load_in_{setup.frozen_bits}bit"] = True
    entries |= {
        "lora_r": lora.rank,
        "lora_alpha": LORA_SCALE * lora.rank,
        "lora_dropout": 0.0,
        **({"lora_target_linear": True} if everywhere else {"lora_target_modules": list(lora.targets)}),
        "peft_layers_to_transform": list(parts.layers),
        "peft_layers_pattern": [parts.layer_list],
    }
    notes = [
        f"With any adapter, axolotl makes the embedding's output require a gradient, {lost_saving(request)}. Exports "
        "to trl and peft keep the saving."
    ]
    return [comments(["Adapters on the trained layers only."]), *yaml_lines(entries)], notes


def _data(request: ExportRequest) -> list[str]:
    data, fields = request.data, request.data.fields
    require_readable(data, "axolotl", _FILES)
    entry: dict[str, Any] = {"path": data.path, "ds_type": _FILES[data.kind]}
    lines: list[str] = []
    if fields.messages_field is not None:
        chats = data.chats or ChatShape()
        entry |= {
            "type": "chat_template",
            "field_messages": fields.messages_field,
            "message_property_mappings": {"role": chats.role_key, "content": chats.content_key},
        }
        if chats.unknown_roles(_KNOWN_ROLES):
            names = {"observation": "tool", "function": "assistant"}
            roles: dict[str, list[str]] = {}
            for role, names_in_file in chats.role_names.items():
                roles.setdefault(names.get(role, role), []).extend(names_in_file)
            entry["roles"] = roles
    elif fields.text_field is not None:
        entry |= {"type": "completion", "field": fields.text_field}
    else:
        # nothing around the prompt, and no field that happens to be called input or system
        prompter = {
            "field_instruction": fields.prompt_field,
            "field_output": fields.completion_field,
            "field_input": "",
            "field_system": "",
            "format": "{instruction}",
            "no_input_format": "{instruction}",
        }
        lines = ["type:", *(f"  {line}" for line in yaml_lines(prompter))]
    first, *others = [*yaml_lines(entry), *lines]
    return ["datasets:", f"  - {first}", *(f"    {line}" for line in others)]
