"""Options that several commands share."""

from typing import Annotated

import typer

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run: its folder, its name, or 'example'.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
MetricOption = Annotated[str, typer.Option(help="Deviation the gains come from: semantic or logit_z.")]

ModelOption = Annotated[
    str, typer.Option(help="'embedded', a local folder, a hub id, or a GGUF file.", metavar="MODEL")
]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
DtypeOption = Annotated[
    str,
    typer.Option(
        help="auto, float32 or bfloat16. auto: bfloat16 on CUDA, and on CPUs that compute it natively when it agrees "
        "with float32 on a probe."
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run Python code that comes with the checkpoint. It can do anything."),
]
PickleOption = Annotated[
    bool, typer.Option("--allow-pickle", help="Load weights stored as pickle, which can run code while loading.")
]

BatchOption = Annotated[int, typer.Option(help="Examples a training step.")]
SequenceOption = Annotated[
    int | None, typer.Option(help="Tokens an example, padding included [default: 512, or the model's limit if less].")
]
FractionOption = Annotated[
    float | None,
    typer.Option(help="Share of tokens with a loss [default: the run's own, else 1]; for --loss supervised-only."),
]
ExamplesOption = Annotated[
    int | None, typer.Option("--train-examples", help="Training examples [default: the run's usable rows, else 1000].")
]
EpochsOption = Annotated[int | None, typer.Option(help="Epochs of the run [default: 3].")]
StepsOption = Annotated[int | None, typer.Option(help="Optimiser steps of the run, instead of --epochs.")]
OptimizerOption = Annotated[str, typer.Option(help="adamw.")]
PrecisionOption = Annotated[str, typer.Option(help="float32 or bf16: weights, gradients and optimiser states.")]
LossOption = Annotated[
    str, typer.Option(help="materialised (logits of every token) or supervised-only (of tokens with a loss).")
]
CacheOption = Annotated[
    bool,
    typer.Option("--prefix-cache/--no-prefix-cache", help="Compute the frozen prefix once an example and keep it."),
]
TrainHeadOption = Annotated[
    bool | None, typer.Option("--train-head/--no-train-head", help="[default: trained at depth 0 only]")
]
TrainEmbeddingsOption = Annotated[
    bool | None, typer.Option("--train-embeddings/--no-train-embeddings", help="[default: trained at depth 0 only]")
]
TrainNormOption = Annotated[
    bool | None, typer.Option("--train-norm/--no-train-norm", help="The final norm [default: trained]")
]
