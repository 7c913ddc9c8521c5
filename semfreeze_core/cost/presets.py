"""Training setups that people ask for by name: each a few options, and which of them a model and a GPU can take."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.cost.table import depth_cost, parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.records.defaults import GPU_PRECISION, LORA_RANK
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.training import TrainableParts, TrainingSetup, micro_batch_problem

_BATCH, _LENGTH = 4, 2048


@dataclass(frozen=True)
class SetupPreset:
    """A training setup with a name.

    Attributes:
        name: as people call it.
        description: what it sets, in a few words.
        options: what it sets; batch, length and epochs that are unset stay as they are, all else is at its default.
    """

    name: str
    description: str
    options: EstimateOptions


# Every one can be trained by `semfreeze train`.
PRESETS = (
    SetupPreset("Default", "as `semfreeze train` does it unless asked otherwise", EstimateOptions()),
    SetupPreset(
        f"Mixed bf16, {_BATCH} × {_LENGTH:,}",
        f"float32 weights, products in bfloat16, AdamW, {_BATCH} examples of {_LENGTH:,} tokens per step",
        EstimateOptions(batch_size=_BATCH, sequence_length=_LENGTH, precision=GPU_PRECISION),
    ),
    SetupPreset(
        f"LoRA, rank {LORA_RANK}",
        "adapters on a base in bfloat16",
        EstimateOptions(precision="bf16", lora=True, lora_rank=LORA_RANK),
    ),
    SetupPreset(
        "QLoRA, 4 bits",
        "adapters on a base in 4 bits, 8-bit AdamW, checkpointing, logits in chunks",
        EstimateOptions(
            precision="bf16",
            optimizer="adamw8bit",
            loss="chunked",
            checkpointing="non-reentrant",
            lora=True,
            lora_rank=LORA_RANK,
            frozen_bits=4,
        ),
    ),
    SetupPreset(
        "Low memory",
        "weights in bfloat16, 8-bit AdamW, checkpointing, logits in chunks",
        EstimateOptions(precision="bf16", optimizer="adamw8bit", loss="chunked", checkpointing="non-reentrant"),
    ),
)


def offered_presets(shape: ModelShape, gpu: Gpu | None = None) -> Iterator[SetupPreset]:
    """The presets that a model can be trained with: long enough, adaptable, and in a precision that the GPU computes.

    Args:
        shape: the counted model.
        gpu: that the finetune is for, or None.
    """
    for preset in PRESETS:
        try:
            setup = setup_from_options(shape, None, preset.options, gpu=gpu)
            depth_cost(shape, setup, parts_at_depth(shape, 0, lora=setup.lora is not None))
        except PlanError:
            continue
        if gpu is None or gpu.multiplies_bfloat16 or setup.precision == "float32":
            yield preset


def fitting_presets(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, gpu: Gpu) -> dict[str, int]:
    """Bytes of the presets with which a finetune of this depth and of these examples fits a GPU, by their names.

    Args:
        shape: the counted model.
        setup: the finetune, whose batch, length and data a preset leaves as they are where it names none.
        parts: what it trains.
        gpu: whose memory is the limit.
    """
    fitting = {}
    for preset in offered_presets(shape, gpu):
        batch_size = preset.options.batch_size or setup.batch_size
        options = replace(
            preset.options,
            batch_size=batch_size,
            micro_batch_size=None
            if micro_batch_problem(batch_size, setup.micro_batch_size)
            else setup.micro_batch_size,
            sequence_length=preset.options.sequence_length or setup.sequence_length,
        )
        named = replace(
            setup_from_options(shape, None, options, gpu=gpu),
            supervised_fraction=setup.supervised_fraction,
            train_examples=setup.train_examples,
        )
        trained = parts_at_depth(shape, parts.freeze_depth, lora=named.lora is not None)
        total = depth_cost(shape, named, trained).bytes.total
        if total is not None and total <= gpu.memory_bytes:
            fitting[preset.name] = total
    return fitting
