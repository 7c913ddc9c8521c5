"""The flags of a real finetune, defined once for the commands that train."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from semfreeze_core.cli.options.common import DeviceOption, PickleOption, RevisionOption, TrustOption
from semfreeze_core.errors import InputError
from semfreeze_core.records.training import Checkpointing, Precision

if TYPE_CHECKING:
    from semfreeze_core.finetune.arm.job import ModelSource
    from semfreeze_core.records.model import ModelIdentity

# As transformers 5 turns it on, checkpointing loses the saving; nobody asks for that.
_CHECKPOINTING = tuple(word for word in get_args(Checkpointing) if word != "transformers-5")


TrainDataOption = Annotated[
    str, typer.Option(help="Training examples: a task file, hf:owner/name#split, or sample:NAME.", metavar="DATA")
]
EvalDataOption = Annotated[
    str,
    typer.Option("--eval", help="Eval examples, same formats; disjoint from the training examples.", metavar="DATA"),
]
TrainExamplesOption = Annotated[int, typer.Option(help="Training examples to draw, balanced by label if there is one.")]
EvalExamplesOption = Annotated[int, typer.Option(help="Eval examples to draw.")]
KeptInOption = Annotated[Path | None, typer.Option(help="Output folder. Rerun the same command to resume.")]


@dataclass(frozen=True)
class FinetuneFlags:
    """What the user said of the finetune and the model it starts from, unchecked."""

    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 8
    precision: Annotated[str, typer.Option(help="float32, bf16-autocast or bf16.")] = "float32"
    checkpointing: Annotated[str, typer.Option(help="none, non-reentrant or reentrant.")] = "none"
    prefix_cache: Annotated[
        bool, typer.Option("--prefix-cache/--no-prefix-cache", help="Compute frozen layers once per example.")
    ] = True
    accuracy_examples: Annotated[int, typer.Option(help="Eval examples answered by generation; 0: none.")] = 100
    max_length: Annotated[int | None, typer.Option(help="Longest example in tokens (default: the run's).")] = None
    model: Annotated[str | None, typer.Option(help="Where the model is now (default: where it was analyzed).")] = None
    revision: RevisionOption = None
    device: DeviceOption = "auto"
    trust_remote_code: TrustOption = False
    allow_pickle: PickleOption = False

    def problems(self) -> list[str]:
        """What is wrong with the words, in words."""
        words = (
            ("precision", self.precision, get_args(Precision)),
            ("checkpointing", self.checkpointing, _CHECKPOINTING),
        )
        return [f"--{name} {word}: expected {' or '.join(known)}" for name, word, known in words if word not in known]

    def source(self, read_from: "ModelIdentity") -> "ModelSource":
        """Where the model comes from: as said, else as it was when it was read."""
        from semfreeze_core.finetune.arm.job import ModelSource

        return ModelSource(
            source=self.model or read_from.source,
            revision=self.revision or read_from.revision,
            device=self.device,
            trust_remote_code=self.trust_remote_code,
            allow_pickle=self.allow_pickle,
        )


def require(problems: list[str]) -> None:
    """Refuse when there are any, all in one message.

    Raises:
        InputError: with all of them.
    """
    if problems:
        raise InputError("; ".join(problems) + ".")
