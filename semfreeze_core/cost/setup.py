"""From what somebody says of a finetune to its training setup; the same for flags, forms and scripts."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.cost.lora import check_targets
from semfreeze_core.errors import PlanError
from semfreeze_core.records.cost import Trainer
from semfreeze_core.records.defaults import EPOCHS, GPU_PRECISION, PRECISION, SEQUENCE_LENGTH
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.options import EstimateOptions, TrainingOptions
from semfreeze_core.records.training import (
    ALL_LINEAR,
    Batches,
    Checkpointing,
    FrozenBits,
    LoraSetup,
    LossKind,
    Optimizer,
    Precision,
    TrainableParts,
    TrainingSetup,
    micro_batch_problem,
    precision_named,
)

if TYPE_CHECKING:
    from semfreeze_core.records.run import Run  # brings pandas, which an estimate does not need

_LARGEST = 10**12  # larger numbers are typing errors, and their products overflow floating point
# Batches whose examples are sorted by length together. On seven tasks at 8 examples a batch, random batches are padded
# to 1.4 to 2.0 times their tokens, and these to 1.03 to 1.11 times (tests/benchmarks/padding.py).
GROUPED_BATCHES = 16
_CHOICES = {
    "optimizer": Optimizer,
    "precision": Precision,
    "checkpointing": Checkpointing,
    "loss": LossKind,
    "batches": Batches,
}


def padded_length(lengths: Sequence[int], batch_size: int, batches: Batches = "random") -> int:
    """The mean length in tokens, padding included, of batches of examples of these lengths.

    Args:
        lengths: tokens of each example.
        batch_size: examples that are padded together.
        batches: how they are put together.
    """
    rng = np.random.default_rng(0)
    if batches == "random":
        drawn = rng.choice(np.asarray(lengths), size=(1000, batch_size))
        return max(2, round(float(drawn.max(1).mean())))
    order = ordered_by_length(rng.permutation(len(lengths)).tolist(), lengths, batch_size)
    longest = [max(lengths[i] for i in order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
    return max(2, round(float(np.mean(longest))))


def ordered_by_length(shuffled: Sequence[int], lengths: Sequence[int], batch_size: int) -> list[int]:
    """An epoch's examples with those of like length in one batch, in a random order of batches.

    They are sorted by length within groups of GROUPED_BATCHES successive batches, so that every epoch makes other
    batches. Batches come as their first example does in the random order; a smaller batch is the last one.

    Args:
        shuffled: every example's number, in a random order.
        lengths: tokens of each example, by its number.
        batch_size: examples per step.
    """
    grouped: list[int] = []
    for start in range(0, len(shuffled), batch_size * GROUPED_BATCHES):
        grouped += sorted(shuffled[start : start + batch_size * GROUPED_BATCHES], key=lambda example: lengths[example])
    return [example for batch in shuffled_batches(grouped, shuffled, batch_size) for example in batch]


def shuffled_batches(examples: Sequence[int], shuffled: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches of successive examples, in the order in which `shuffled` meets them; a smaller one is the last."""
    position_of = {example: i for i, example in enumerate(shuffled)}
    batches = [list(examples[i : i + batch_size]) for i in range(0, len(examples), batch_size)]
    return sorted(batches, key=lambda batch: (len(batch) < batch_size, min(position_of[example] for example in batch)))


def options_applied(setup: TrainingSetup, options: TrainingOptions) -> TrainingSetup:
    """The setup with every training option that is set.

    Raises:
        PlanError: a word or number that is out of range, all in one message.
    """
    problems = option_problems(options)
    if problems:
        raise PlanError("; ".join(problems) + ".")
    values = {f.name: getattr(options, f.name) for f in fields(TrainingOptions)}
    changes = {name: value for name, value in values.items() if value is not None}
    sizes = [changes.get(name, getattr(setup, name)) for name in ("batch_size", "micro_batch_size")]
    if (wrong := micro_batch_problem(*sizes)) is not None:
        raise PlanError(f"--micro-batch-size {wrong}.")
    if "precision" in changes:
        changes["precision"] = precision_named(changes["precision"])
    return replace(setup, **changes)


def option_problems(options: TrainingOptions) -> list[str]:
    """What is wrong with training options by themselves, each with its flag."""
    problems = []
    for name, allowed in _CHOICES.items():
        value = getattr(options, name)
        known = precision_named(value) if name == "precision" and value is not None else value
        if value is not None and known not in get_args(allowed):
            problems.append(f"--{name} {value}: expected {' or '.join(get_args(allowed))}")
    sizes = (("batch-size", options.batch_size), ("micro-batch-size", options.micro_batch_size))
    return problems + _out_of_range(sizes)


def setup_from_options(
    shape: ModelShape,
    run: "Run | None",
    options: EstimateOptions,
    *,
    with_reference: bool = False,
    trains_embeddings: bool = False,
    gpu: Gpu | None = None,
) -> TrainingSetup:
    """The setup these options mean; a run fills in its share of target tokens and its number of examples.

    What is unset is as `semfreeze train` does it, or with `stock` as other trainers do.

    Args:
        shape: the model the finetune is of.
        run: its analysis, or None.
        options: as given.
        with_reference: whether a rank without --lora means the reference that lora_reference returns, not an error.
        trains_embeddings: below a frozen prefix, which leaves nothing to cache.
        gpu: that the finetune is to run on, where one is named.

    Raises:
        PlanError: all problems in one message.
    """
    length = min(SEQUENCE_LENGTH, shape.max_positions or SEQUENCE_LENGTH)
    length = length if options.sequence_length is None else options.sequence_length
    problems = [
        *option_problems(options),
        *_wrong_numbers(options, length, shape.max_positions),
        *_contradictions(options, with_reference),
        *_wrong_targets(options, shape),
    ]
    if problems:
        raise PlanError("; ".join(problems) + ".")
    data = run.manifest.data if run else None
    setup = TrainingSetup() if data is None else TrainingSetup(train_examples=data.n_usable)
    setup = replace(setup, precision=default_precision(run, gpu))
    if options.stock:
        setup = stock_trainer(setup)
    elif trains_embeddings or options.checkpointing == "transformers-5":
        setup = replace(setup, prefix_cache=False)
    fraction = options.supervised_fraction
    if fraction is None:
        fraction = data.n_supervised_tokens / data.n_tokens if data else 1.0
    setup = options_applied(
        replace(
            setup,
            sequence_length=length,
            supervised_fraction=fraction,
            train_examples=options.train_examples or setup.train_examples,
            prefix_off_device=options.offload_prefix is not False,
            frozen_bits=options.frozen_bits,  # type: ignore[arg-type]  # checked above
            lora=_adapters(options) if options.lora else None,
        ),
        options,
    )
    steps = (options.epochs or EPOCHS) * setup.steps_per_epoch if options.steps is None else options.steps
    return replace(setup, steps=steps)


def default_precision(run: "Run | None", gpu: Gpu | None = None) -> Precision:
    """The precision of a finetune where nobody names one: bf16-autocast on a GPU that multiplies bfloat16.

    The finetune is taken to run on the GPU that is named, or else where the analysis did, which computed in bfloat16 on
    such a GPU; elsewhere it is float32.
    """
    if gpu is not None:
        return GPU_PRECISION if gpu.multiplies_bfloat16 else PRECISION
    on_gpu = run is not None and run.manifest.model.device.startswith("cuda")
    return GPU_PRECISION if on_gpu and run and run.manifest.model.dtype == "bfloat16" else PRECISION


def stock_trainer(setup: TrainingSetup) -> TrainingSetup:
    """The same finetune in a trainer that computes the logits of every token and caches no prefix.

    Fused logits stay: that kernel is the other trainer's own.
    """
    return replace(setup, loss="fused" if setup.loss == "fused" else "materialised", prefix_cache=False)


def alternative_setup(setup: TrainingSetup, parts: TrainableParts) -> tuple[Trainer, TrainingSetup]:
    """The other kind of trainer, and the same finetune there: a stock one, or for a stock setup `semfreeze train`.

    Args:
        setup: the finetune.
        parts: what it trains; trained embeddings leave nothing to cache.
    """
    stock = stock_trainer(setup)
    if setup != stock:
        return "stock trainer", stock
    cacheable = parts.freeze_depth > 0 and not parts.embeddings and setup.checkpointing != "transformers-5"
    loss = "supervised-only" if setup.loss == "materialised" else setup.loss
    return "semfreeze train", replace(setup, loss=loss, prefix_cache=cacheable)


def lora_reference(options: EstimateOptions) -> LoraSetup | None:
    """The adapters to compare with: those of a rank given without --lora; the options are already checked."""
    return None if options.lora else _adapters(options)


def _adapters(options: EstimateOptions) -> LoraSetup | None:
    return None if options.lora_rank is None else LoraSetup(options.lora_rank, lora_targets(options.lora_targets))


def lora_targets(text: str | None) -> tuple[str, ...]:
    """Names separated by commas; None is all linear matrices."""
    return tuple(name.strip() for name in (ALL_LINEAR if text is None else text).split(",") if name.strip())


def _wrong_numbers(options: EstimateOptions, length: int, limit: int | None) -> list[str]:
    numbers = ("epochs", "steps", "train_examples", "lora_rank")
    problems = _out_of_range(
        (("sequence-length", length), *((name.replace("_", "-"), getattr(options, name)) for name in numbers))
    )
    fraction = options.supervised_fraction
    if fraction is not None and not 0 < fraction <= 1:
        problems.append(f"--supervised-fraction must be in (0, 1], found {fraction:g}")
    if limit is not None and limit < length <= _LARGEST:
        problems.append(f"--sequence-length {length} is over the model's limit of {limit}")
    if options.frozen_bits is not None and options.frozen_bits not in get_args(FrozenBits):
        problems.append(f"--frozen-bits must be 8 or 4, found {options.frozen_bits}")
    return problems


def _out_of_range(numbers: tuple[tuple[str, Any], ...]) -> list[str]:
    return [
        f"--{flag} must be in 1..{_LARGEST}, found {number}"
        for flag, number in numbers
        if number is not None and not 1 <= number <= _LARGEST
    ]


def _contradictions(options: EstimateOptions, with_reference: bool) -> list[str]:
    problems = []
    if options.epochs is not None and options.steps is not None:
        problems.append("--epochs and --steps set the same thing: give one")
    if options.lora_rank is None:
        needing = (("--lora", options.lora), ("--lora-targets", options.lora_targets))
        problems += [f"{flag} needs --lora-rank" for flag, given in needing if given]
    elif not options.lora and not with_reference:
        problems.append("--lora-rank without --lora is a comparison that `semfreeze cost` shows: add --lora")
    if options.offload_prefix is not None and (options.prefix_cache is False or options.stock):
        flag = "--offload-prefix" if options.offload_prefix else "--keep-prefix"
        problems.append(f"{flag} needs --prefix-cache")
    if options.stock and options.prefix_cache:
        problems.append("--stock and --prefix-cache exclude each other: stock trainers cache no prefix")
    if options.prefix_cache and options.checkpointing == "transformers-5":
        problems.append(
            "--prefix-cache and --checkpointing transformers-5 exclude each other: the one starts each step above the "
            "frozen layers, the other sends the gradient down to the embeddings"
        )
    return problems


def _wrong_targets(options: EstimateOptions, shape: ModelShape) -> list[str]:
    targets = lora_targets(options.lora_targets)
    if not targets:
        return ["--lora-targets must name at least one matrix"]
    try:
        check_targets(shape, LoraSetup(1, targets))
    except PlanError as error:
        return [str(error)]
    return []
