"""From command-line flags to a training setup."""

from typing import TYPE_CHECKING, get_args

from semfreeze_core.cli.options.setup import SetupFlags
from semfreeze_core.cost import check_targets
from semfreeze_core.errors import PlanError
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import (
    ALL_LINEAR,
    Checkpointing,
    FrozenBits,
    LoraSetup,
    LossKind,
    Optimizer,
    Precision,
    TrainingSetup,
)

if TYPE_CHECKING:
    from semfreeze_core.records.run import Run  # brings pandas, which a price has no use for

_LARGEST = 10**12  # larger numbers are slips of the keyboard, and their products overflow floating point
_SPELLINGS = {"bfloat16": "bf16", "fp32": "float32"}


def setup_from_flags(
    shape: ModelShape, run: "Run | None", flags: SetupFlags, *, with_reference: bool = False
) -> TrainingSetup:
    """The setup these flags mean; a run fills in its supervised share and its number of examples.

    Left unset, an example has 512 tokens, or as many as the model takes.

    Args:
        shape: the model the finetune is of.
        run: its reading, or None.
        flags: as given.
        with_reference: whether a rank without --lora means the reference that lora_reference returns, not a slip.

    Raises:
        PlanError: all problems in one message.
    """
    length = min(512, shape.max_positions or 512) if flags.sequence_length is None else flags.sequence_length
    precision = _SPELLINGS.get(flags.precision, flags.precision)
    problems = [
        *_wrong_words(flags, precision),
        *_wrong_numbers(flags, length, shape.max_positions),
        *_contradictions(flags, with_reference),
        *_wrong_targets(flags, shape),
    ]
    if problems:
        raise PlanError("; ".join(problems) + ".")
    data = run.manifest.data if run else None
    examples = flags.train_examples or (data.n_usable if data else 1000)
    supervised_fraction = flags.supervised_fraction
    if supervised_fraction is None:
        supervised_fraction = data.n_supervised_tokens / data.n_tokens if data else 1.0
    steps_per_epoch = -(-examples // flags.batch_size)
    return TrainingSetup(
        batch_size=flags.batch_size,
        sequence_length=length,
        supervised_fraction=supervised_fraction,
        train_examples=examples,
        steps=flags.steps if flags.steps is not None else (flags.epochs or 3) * steps_per_epoch,
        optimizer=flags.optimizer,  # type: ignore[arg-type]  # checked above, like the others below
        precision=precision,  # type: ignore[arg-type]
        loss=flags.loss,  # type: ignore[arg-type]
        prefix_cache=flags.prefix_cache,
        prefix_off_device=flags.offload_prefix is not False,
        frozen_bits=flags.frozen_bits,  # type: ignore[arg-type]
        lora=_adapters(flags) if flags.lora else None,
        checkpointing=flags.checkpointing,  # type: ignore[arg-type]
    )


def lora_reference(flags: SetupFlags) -> LoraSetup | None:
    """The adapters to compare with: those of a rank given without --lora; the flags are already checked."""
    return None if flags.lora else _adapters(flags)


def _adapters(flags: SetupFlags) -> LoraSetup | None:
    return None if flags.lora_rank is None else LoraSetup(flags.lora_rank, _targets(flags))


def _targets(flags: SetupFlags) -> tuple[str, ...]:
    return tuple(name.strip() for name in (flags.lora_targets or ALL_LINEAR).split(",") if name.strip())


def _wrong_words(flags: SetupFlags, precision: str) -> list[str]:
    return [
        f"--{flag} {value}: expected {' or '.join(get_args(allowed))}"
        for flag, value, allowed in (
            ("optimizer", flags.optimizer, Optimizer),
            ("precision", precision, Precision),
            ("checkpointing", flags.checkpointing, Checkpointing),
            ("loss", flags.loss, LossKind),
        )
        if value not in get_args(allowed)
    ]


def _wrong_numbers(flags: SetupFlags, length: int, limit: int | None) -> list[str]:
    numbers = (
        ("batch-size", flags.batch_size),
        ("sequence-length", length),
        ("epochs", flags.epochs),
        ("steps", flags.steps),
        ("train-examples", flags.train_examples),
        ("lora-rank", flags.lora_rank),
    )
    problems = [
        f"--{flag} must be in 1..{_LARGEST}, found {number}"
        for flag, number in numbers
        if number is not None and not 1 <= number <= _LARGEST
    ]
    fraction = flags.supervised_fraction
    if fraction is not None and not 0 < fraction <= 1:
        problems.append(f"--supervised-fraction must be in (0, 1], found {fraction:g}")
    if limit is not None and limit < length <= _LARGEST:
        problems.append(f"--sequence-length {length} is over the model's limit of {limit}")
    if flags.frozen_bits is not None and flags.frozen_bits not in get_args(FrozenBits):
        problems.append(f"--frozen-bits must be 8 or 4, found {flags.frozen_bits}")
    return problems


def _contradictions(flags: SetupFlags, with_reference: bool) -> list[str]:
    problems = []
    if flags.epochs is not None and flags.steps is not None:
        problems.append("--epochs and --steps say the same thing twice: give one")
    if flags.lora_rank is None:
        needing = [flag for flag, given in (("--lora", flags.lora), ("--lora-targets", flags.lora_targets)) if given]
        problems += [f"{flag} needs --lora-rank" for flag in needing]
    elif not flags.lora and not with_reference:
        problems.append("--lora-rank without --lora is a comparison that `semfreeze cost` shows: add --lora")
    if flags.offload_prefix is not None and not flags.prefix_cache:
        given = "--offload-prefix" if flags.offload_prefix else "--keep-prefix"
        problems.append(f"{given} needs --prefix-cache")
    if flags.prefix_cache and flags.checkpointing == "transformers-5":
        problems.append(
            "--prefix-cache and --checkpointing transformers-5 exclude each other: the one starts each step above the "
            "frozen layers, the other sends the gradient down to the embeddings"
        )
    return problems


def _wrong_targets(flags: SetupFlags, shape: ModelShape) -> list[str]:
    targets = _targets(flags)
    if not targets:
        return ["--lora-targets must name at least one matrix"]
    try:
        check_targets(shape, LoraSetup(1, targets))
    except PlanError as error:
        return [str(error)]
    return []
