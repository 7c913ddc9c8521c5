"""The flags that describe a finetune, defined once for every command that prices one."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True)
class SetupFlags:
    """What the user said of the finetune, unchecked; see setup_from_flags."""

    batch_size: Annotated[int, typer.Option(help="Examples a training step.")] = 8
    sequence_length: Annotated[
        int | None,
        typer.Option(help="Tokens an example, padding included (default: 512, or the model's limit if less)."),
    ] = None
    supervised_fraction: Annotated[
        float | None,
        typer.Option(help="Share of tokens with a loss (default: the run's own, else 1); for --loss supervised-only."),
    ] = None
    train_examples: Annotated[
        int | None, typer.Option(help="Training examples (default: the run's usable rows, else 1000).")
    ] = None
    epochs: Annotated[int | None, typer.Option(help="Epochs of the run (default: 3).")] = None
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of the run, instead of --epochs.")] = None
    optimizer: Annotated[str, typer.Option(help="adamw, adamw8bit (states in 8 bit) or sgd (without momentum).")] = (
        "adamw"
    )
    precision: Annotated[
        str,
        typer.Option(
            help="float32, bf16-autocast (float32 weights, matrices multiplied in bfloat16), or bf16 (weights, "
            "gradients and optimiser states as well; bfloat16 means the same)."
        ),
    ] = "float32"
    frozen_bits: Annotated[
        int | None, typer.Option(help="8 or 4: the frozen layers' matrices are quantised to so many bits.")
    ] = None
    lora: Annotated[bool, typer.Option("--lora", help="Train adapters in place of the trained layers' weights.")] = (
        False
    )
    lora_rank: Annotated[
        int | None, typer.Option(help="Rank of LoRA adapters; without --lora, `cost` shows LoRA on all layers beside.")
    ] = None
    lora_targets: Annotated[
        str | None,
        typer.Option(help="Ends of the names of the matrices that get adapters, with commas (default: all-linear)."),
    ] = None
    checkpointing: Annotated[
        str,
        typer.Option(
            help="none; non-reentrant or reentrant (layers are computed again on the way back); or transformers-5 (as "
            "transformers 5 turns it on by itself, frozen layers included)."
        ),
    ] = "none"
    loss: Annotated[
        str,
        typer.Option(
            help="materialised (logits of every token), supervised-only (of tokens with a loss) or fused (in chunks)."
        ),
    ] = "materialised"
    prefix_cache: Annotated[
        bool,
        typer.Option("--prefix-cache/--no-prefix-cache", help="Compute the frozen prefix once an example and keep it."),
    ] = False
    offload_prefix: Annotated[
        bool | None,
        typer.Option(
            "--offload-prefix/--keep-prefix",
            help="Whether what a prefix cache replaces leaves the device (default: it does).",
        ),
    ] = None
