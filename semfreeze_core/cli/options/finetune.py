"""The flags of a real finetune, defined once for the commands that train."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semfreeze_core.cli.options.common import DeviceOption, PickleOption, RevisionOption, TrustOption
from semfreeze_core.errors import InputError
from semfreeze_core.records.defaults import ACCURACY_ROWS, HELD_OUT, RUNNER
from semfreeze_core.records.options import TrainingOptions

if TYPE_CHECKING:
    from semfreeze_core.finetune.arm.job import ModelSource
    from semfreeze_core.records.model import ModelIdentity

TrainDataOption = Annotated[
    str, typer.Option(help="Training examples: a task file, hf:owner/name#split, or sample:NAME.", metavar="DATA")
]
EvalDataOption = Annotated[
    str,
    typer.Option(
        "--eval",
        help="Eval examples, same formats; disjoint from the training examples. held-out: "
        f"{HELD_OUT:.0%} of the training rows, which are not trained on.",
        metavar="DATA",
    ),
]
TrainExamplesOption = Annotated[int, typer.Option(help="Training examples to draw, balanced by label if there is one.")]
EvalExamplesOption = Annotated[int, typer.Option(help="Eval examples to draw.")]
OutputFolderOption = Annotated[Path | None, typer.Option(help="Output folder. Rerun the same command to resume.")]

RunnerOption = Annotated[
    str | None,
    typer.Option(
        help=f"Who trains the variants. {RUNNER} (default): this machine, one at a time or one per GPU. ray: Ray, "
        "started here for this command. ray://HOST:PORT: your running Ray cluster.",
        metavar="RUNNER",
    ),
]
RatesOption = Annotated[
    str,
    typer.Option(
        help="Learning rates. auto: a search for each variant, all alike. Or by variant or kind (full, frozen, lora), "
        "like full=1e-4,depth:8=3e-4; the others are searched."
    ),
]


@dataclass(frozen=True)
class FinetuneFlags(TrainingOptions):
    """The finetune and the model it starts from as given, unchecked."""

    accuracy_examples: Annotated[int, typer.Option(help="Eval examples answered by generation; 0 for none.")] = (
        ACCURACY_ROWS
    )
    max_length: Annotated[
        int | None, typer.Option(help="Longest example in tokens (default: the plan's or the run's).")
    ] = None
    model: Annotated[str | None, typer.Option(help="Where the model is now (default: where it was analyzed).")] = None
    revision: RevisionOption = None
    device: DeviceOption = "auto"
    trust_remote_code: TrustOption = False
    allow_pickle: PickleOption = False

    def problems(self) -> list[str]:
        """Problems of the flags on their own."""
        from semfreeze_core.cost.setup import option_problems

        problems = option_problems(self)
        if self.max_length is not None and self.max_length < 1:
            problems.append(f"--max-length must be at least 1, found {self.max_length}")
        return problems

    def source(self, analyzed: "ModelIdentity") -> "ModelSource":
        """Where the model comes from: as given, else as in the analysis."""
        from semfreeze_core.finetune.arm.job import ModelSource

        model = ModelSource.of(analyzed) if self.model is None else ModelSource(source=self.model)
        return model.model_copy(
            update={
                "revision": self.revision or analyzed.revision,
                "device": self.device,
                "trust_remote_code": self.trust_remote_code,
                "allow_pickle": self.allow_pickle,
            }
        )


def require(problems: list[str]) -> None:
    """Refuse when there are any, all in one message.

    Raises:
        InputError: with all of them.
    """
    if problems:
        raise InputError("; ".join(problems) + ".")
