"""The flags that describe a finetune, defined once for every command that prices one."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True)
class SetupFlags:
    """What the user said of the finetune, unchecked; see setup_from_flags."""

    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 8
    sequence_length: Annotated[
        int | None,
        typer.Option(help="Tokens per example with padding (default: 512, or the model's limit if less)."),
    ] = None
    supervised_fraction: Annotated[
        float | None,
        typer.Option(help="Share of tokens with a loss (default: the run's own, else 1); for --loss supervised-only."),
    ] = None
    train_examples: Annotated[
        int | None, typer.Option(help="Training examples (default: the run's usable rows, else 1000).")
    ] = None
    epochs: Annotated[int | None, typer.Option(help="Epochs (default: 3).")] = None
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of --epochs.")] = None
    optimizer: Annotated[str, typer.Option(help="adamw, adamw8bit (8-bit states) or sgd (no momentum).")] = "adamw"
    precision: Annotated[
        str,
        typer.Option(
            help="float32, bf16-autocast (float32 weights, matrices multiplied in bfloat16), or bf16 (weights, "
            "gradients and optimizer states as well; bfloat16 means the same)."
        ),
    ] = "float32"
    frozen_bits: Annotated[
        int | None, typer.Option(help="8 or 4: quantize the frozen layers' matrices to so many bits.")
    ] = None
    lora: Annotated[bool, typer.Option("--lora", help="Train adapters in place of the trained layers' weights.")] = (
        False
    )
    lora_rank: Annotated[
        int | None, typer.Option(help="LoRA rank; without --lora, `cost` adds LoRA on all layers for comparison.")
    ] = None
    lora_targets: Annotated[
        str | None,
        typer.Option(help="Name endings of the matrices with adapters, comma-separated (default: all-linear)."),
    ] = None
    checkpointing: Annotated[
        str,
        typer.Option(
            help="none; non-reentrant or reentrant (layers are recomputed in the backward pass); or transformers-5 "
            "(default checkpointing of transformers 5, which also recomputes frozen layers)."
        ),
    ] = "none"
    loss: Annotated[
        str,
        typer.Option(
            help="materialised (full logits), supervised-only (target-token logits) or fused (chunked cross-entropy)."
        ),
    ] = "materialised"
    prefix_cache: Annotated[
        bool,
        typer.Option(
            "--prefix-cache/--no-prefix-cache", help="Compute the frozen layers once per example and cache them."
        ),
    ] = False
    offload_prefix: Annotated[
        bool | None,
        typer.Option(
            "--offload-prefix/--keep-prefix",
            help="Move cached frozen layers off the device (default: yes).",
        ),
    ] = None
