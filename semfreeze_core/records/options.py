"""Options of a finetune that a person can set, with what each means: flags, forms and documentation take them here."""

from dataclasses import dataclass
from typing import Annotated

from semfreeze_core.records.defaults import EPOCHS, SEQUENCE_LENGTH
from semfreeze_core.records.training import ALL_LINEAR


@dataclass(frozen=True)
class Option:
    """Metadata of a field that a person can set: `field: Annotated[int | None, Option("Examples per step.")]`.

    Attributes:
        help: one sentence.
        flags: of the command line; empty takes the field's name.
        metavar: what stands for the value in help texts, or None.
        unset: what happens without it, where the default of TrainingSetup does not say so.
    """

    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    unset: str | None = None


# Where the flag is not called as the field is.
_FLAGS = {
    "n_train": "--train-examples",
    "n_eval": "--eval-examples",
    "n_accuracy": "--accuracy-examples",
    "learning_rate": "--lr",
    "evaluation": "--eval",
}


def flag_of(name: str) -> str:
    """The flag of a request's field, as messages name it: "--eval-examples" for n_eval."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


@dataclass(frozen=True)
class TrainingOptions:
    """How to train, as far as somebody says, unchecked; what is unset stays as it is.

    Each field is one of TrainingSetup with the same name: `options_applied` carries it over, so that a new option is a
    field there, a field here and a widget.
    """

    batch_size: Annotated[int | None, Option("Examples per training step.")] = None
    micro_batch_size: Annotated[
        int | None,
        Option(
            "Examples that go through the model at a time. Fewer take less memory; their gradients add up, so that the "
            "result is the same.",
            unset="the whole batch",
        ),
    ] = None
    precision: Annotated[
        str | None,
        Option(
            "float32, bf16-autocast (float32 weights, matrices multiplied in bfloat16), or bf16 (weights, gradients "
            "and optimizer states as well). On a GPU with bfloat16 the default is bf16-autocast."
        ),
    ] = None
    optimizer: Annotated[str | None, Option("adamw, adamw8bit (8-bit states) or sgd (without momentum).")] = None
    loss: Annotated[
        str | None,
        Option(
            "Logits in memory: materialised (every token), supervised-only (target tokens), chunked (a few target "
            "tokens at a time, by Liger Kernel where it is installed on a GPU), chunked-loop (the same without it), or "
            "fused (every token, in chunks; for estimates of other trainers)."
        ),
    ] = None
    checkpointing: Annotated[
        str | None,
        Option(
            "Activation checkpointing: none, non-reentrant or reentrant; for estimates also transformers-5 (its "
            "default, which recomputes frozen layers too)."
        ),
    ] = None
    prefix_cache: Annotated[
        bool | None,
        Option(
            "Compute the frozen layers once per example and keep their output.", ("--prefix-cache/--no-prefix-cache",)
        ),
    ] = None
    batches: Annotated[
        str | None,
        Option("Which examples share a batch in a finetune: random, or by-length (of like length: less padding)."),
    ] = None


@dataclass(frozen=True)
class EstimateOptions(TrainingOptions):
    """What an estimate needs beside them, unchecked; see setup_from_options."""

    sequence_length: Annotated[
        int | None, Option(f"Tokens per example, padding included (default: {SEQUENCE_LENGTH}, or the model's limit).")
    ] = None
    supervised_fraction: Annotated[
        float | None, Option("Share of target tokens (default: the run's own, else 1); for --loss supervised-only.")
    ] = None
    train_examples: Annotated[int | None, Option("Training examples (default: the run's usable rows, else 1000).")] = (
        None
    )
    epochs: Annotated[int | None, Option(f"Epochs of the finetune (default: {EPOCHS}).")] = None
    steps: Annotated[int | None, Option("Optimizer steps of the finetune, instead of --epochs.")] = None
    frozen_bits: Annotated[int | None, Option("8 or 4: quantize the frozen layers' matrices to so many bits.")] = None
    lora: Annotated[bool, Option("Train adapters in place of the trained layers' weights.", ("--lora",))] = False
    lora_rank: Annotated[
        int | None, Option("Rank of LoRA adapters; without --lora, `cost` shows LoRA on all layers next to the depths.")
    ] = None
    lora_targets: Annotated[
        str | None,
        Option(f"Ends of the names of the matrices that get adapters, separated by commas (default: {ALL_LINEAR})."),
    ] = None
    offload_prefix: Annotated[
        bool | None,
        Option(
            "Whether frozen layers leave the device while the prefix cache replaces them (default: yes).",
            ("--offload-prefix/--keep-prefix",),
        ),
    ] = None
    stock: Annotated[
        bool,
        Option(
            "Estimate for a stock trainer: logits of every token, no prefix cache. By default the estimate is for "
            "`semfreeze train`.",
            ("--stock",),
        ),
    ] = False
