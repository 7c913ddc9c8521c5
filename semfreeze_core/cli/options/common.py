"""Options that several commands share."""

from typing import Annotated

import typer

from semfreeze_core.records.defaults import MAX_LENGTH, WIDE_STEPS
from semfreeze_core.sources.data.formats import formats_text

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run: its folder, its name, or 'example'.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
MetricOption = Annotated[str, typer.Option(help="Distance metric: semantic or logit_z.")]

ModelOption = Annotated[
    str, typer.Option(help="'embedded' (bundled model), a local folder, a Hub ID, or a GGUF file.", metavar="MODEL")
]
DataOption = Annotated[
    str, typer.Option(help=f"{formats_text()} file, a folder of them, hf:owner/name, or sample:NAME.", metavar="DATA")
]
SplitOption = Annotated[str | None, typer.Option(help="Split of a hub dataset.")]
EosOption = Annotated[bool, typer.Option("--eos/--no-eos", help="End completions with a supervised EOS token.")]
MaxLengthOption = Annotated[
    int | None, typer.Option(help=f"Longest example in tokens (default: the model's limit, at most {MAX_LENGTH}).")
]
SeedOption = Annotated[int, typer.Option(help="Random seed.")]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")]
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
    typer.Option("--trust-remote-code", help="Run the checkpoint's own Python code. It can do anything."),
]
PickleOption = Annotated[
    bool, typer.Option("--allow-pickle", help="Load weights stored as pickle, which can run code while loading.")
]

TrainHeadOption = Annotated[
    bool | None, typer.Option("--train-head/--no-train-head", help="(default: trained at depth 0 only)")
]
TrainEmbeddingsOption = Annotated[
    bool | None, typer.Option("--train-embeddings/--no-train-embeddings", help="(default: trained at depth 0 only)")
]
TrainNormOption = Annotated[
    bool | None, typer.Option("--train-norm/--no-train-norm", help="The final norm (default: trained)")
]
AlsoProgressiveOption = Annotated[
    str | None,
    typer.Option(
        "--progressive",
        help="Also a finetune that freezes W layers for N steps, then K. Without W-K: a quarter, then two thirds; "
        f"without @N: {WIDE_STEPS} steps, at most half.",
        metavar="W-K@N",
    ),
]
