"""The trainers a plan can be exported to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from semfreeze_core.errors import PlanError
from semfreeze_core.export.axolotl import write_axolotl
from semfreeze_core.export.data import UNKNOWN_FILE, task_file
from semfreeze_core.export.llama_factory import write_llama_factory
from semfreeze_core.export.mlx_lm import write_mlx_lm
from semfreeze_core.export.ms_swift import write_ms_swift
from semfreeze_core.export.nemo_automodel import write_nemo_automodel
from semfreeze_core.export.oumi import write_oumi
from semfreeze_core.export.parts import NamedParts, named_parts
from semfreeze_core.export.request import Exported, ExportRequest
from semfreeze_core.export.scripts import write_hf_trainer, write_peft, write_trl
from semfreeze_core.export.tokenizer import tokenizer_facts
from semfreeze_core.export.unsloth import write_unsloth
from semfreeze_core.plan.document import FreezePlan, require_one_phase
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.rates import KnownRate
from semfreeze_core.records.training import ALL_LINEAR, LoraSetup
from semfreeze_core.sources.data.fields import RenderChat
from semfreeze_core.sources.models.hub import model_file


@dataclass(frozen=True)
class Target:
    """One trainer.

    Attributes:
        write: makes the text and its notes.
        filename: suggested.
        trains: what it can train in chosen layers: their own "weights", "adapters", or both.
        adapts: which matrices of chosen layers it can put adapters on: "all" of them, those that are "named", or both.
        last_layers_only: whether the trained layers must be the last ones.
        reads_plan: whether what is written reads the plan's file when it runs.
    """

    write: Callable[[ExportRequest], tuple[str, list[str]]]
    filename: str
    trains: tuple[str, ...] = ("weights", "adapters")
    adapts: tuple[str, ...] = ("all", "named")
    last_layers_only: bool = False
    reads_plan: bool = False

    def can_train(self, parts: NamedParts, lora: LoraSetup | None) -> bool:
        """Whether it can train these layers, or put such adapters on them."""
        if self.last_layers_only and not (parts.layers and parts.is_suffix):
            return False
        if lora is None:
            return "weights" in self.trains
        return "adapters" in self.trains and ("all" if ALL_LINEAR in lora.targets else "named") in self.adapts


_TARGETS = {
    "hf-trainer": Target(write_hf_trainer, "finetune_hf_trainer.py", ("weights",), reads_plan=True),
    "trl": Target(write_trl, "finetune_trl.py", reads_plan=True),
    "peft": Target(write_peft, "finetune_peft.py", ("adapters",), reads_plan=True),
    "axolotl": Target(write_axolotl, "axolotl.yaml"),
    "llama-factory": Target(write_llama_factory, "llama_factory.yaml", ("weights",), last_layers_only=True),
    "ms-swift": Target(write_ms_swift, "ms_swift.sh", adapts=("named",)),
    "nemo-automodel": Target(write_nemo_automodel, "nemo_automodel.yaml"),
    "oumi": Target(write_oumi, "oumi.yaml"),
    "unsloth": Target(write_unsloth, "finetune_unsloth.py", ("adapters",)),
    "mlx-lm": Target(write_mlx_lm, "mlx_lm.yaml", adapts=("all",), last_layers_only=True),
}
TARGETS = tuple(_TARGETS)


def reads_plan(target: str) -> bool:
    """Whether the export to a target reads the plan's file when it runs; False of an unknown target."""
    return target in _TARGETS and _TARGETS[target].reads_plan


def export_plan(
    plan: FreezePlan,
    target: str,
    *,
    plan_path: str = "plan.json",
    model: str | None = None,
    data: str | None = None,
    mapping: FieldMapping | None = None,
    rate: KnownRate | None = None,
    chat_renderer: Callable[[str, str | None], RenderChat | None] | None = None,
) -> Exported:
    """A complete configuration or script that trains the plan's part of its model in another trainer.

    Args:
        plan: what to train.
        target: one of TARGETS.
        plan_path: the plan's file, which the scripts of hf-trainer, trl and peft read when they run.
        model: folder or hub id the trainer loads; None is where the plan has it from.
        data: the training file; None writes an example to replace.
        mapping: fields of the data; missing ones are inferred where the choice is unambiguous.
        rate: learning rate; None writes a default, which was tuned for nothing.
        chat_renderer: gives what renders chats by the template of a model and revision, as preview.chat_renderer does,
            so that rows are judged as an analysis judges them; without it the messages alone are.

    Raises:
        PlanError: no such target, or one that cannot train this plan; the plan abstains, contradicts itself, or freezes
            deeper at a step; the model is in a form that trainers do not load.
        DataError: the file cannot be used, or not by this target.
    """
    writer = _TARGETS.get(target)
    if writer is None:
        raise PlanError(f"There is no export to {target!r}. Available: {', '.join(TARGETS)}.")
    require_one_phase(plan, target)
    parts = named_parts(plan)
    lora = plan.cost.setup.lora
    able = _listed([name for name, other in _TARGETS.items() if other.can_train(parts, lora)])
    kind = "weights" if lora is None else "adapters"
    if kind not in writer.trains:
        raise PlanError(_wrong_kind(target, kind, able))
    if rate is not None and not 0 < rate.rate <= 1:
        raise PlanError(f"A learning rate must be in (0, 1], found {rate.rate}.")
    request = ExportRequest(plan, plan_path, parts, _loadable(plan, model), UNKNOWN_FILE, target, able, known_rate=rate)
    if data is not None:
        renderer = None if chat_renderer is None else partial(chat_renderer, request.model, request.revision)
        request = replace(request, data=task_file(data, mapping or FieldMapping(), renderer))
    request = replace(request, tokenizer=tokenizer_facts(request.model, request.revision))
    text, notes = writer.write(request)
    return Exported(target, text.rstrip("\n") + "\n", writer.filename, tuple(notes))


def _listed(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _wrong_kind(target: str, kind: str, able: str) -> str:
    if kind == "weights":
        return (
            f"{target} can select layers for adapters only, and this plan trains the layers' own weights. Make the "
            f"plan with --lora, or export it to {able}."
        )
    return (
        f"{target} cannot put adapters (LoRA) on chosen layers only. Make the plan without --lora, or export it to "
        f"{able}."
    )


def _loadable(plan: FreezePlan, model: str | None) -> str:
    """The model as a trainer loads it.

    Raises:
        PlanError: what the plan was made from is no folder of a model.
    """
    source = model or plan.model.source
    if source.lower().endswith(".gguf"):
        what = "a GGUF file"
    elif source == "embedded":
        what = "semfreeze's bundled model, stored in its cache"
    elif model_file(source, "adapter_config.json", plan.model.revision if model is None else None) is not None:
        what = "a folder or repository of adapters"
    else:
        return source
    subject, whole = ("The plan's model", "it") if model is None else (f"--model {model}", "the whole model")
    raise PlanError(
        f"{subject} is {what}, which other trainers do not load. Set --model to a folder or Hub ID that contains "
        f"{whole}, or train with semfreeze train."
    )
