"""Checkpoints by time, an arm's with what was recorded until then: a lost machine loses the steps since the last."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import TrainerCallback

from semfreeze_core.finetune.arm.evaluate import Course
from semfreeze_core.finetune.arm.files import RECORDED
from semfreeze_core.finetune.arm.flop import BatchSize
from semfreeze_core.finetune.arm.recorder import Record
from semfreeze_core.finetune.arm.trainer import complete_checkpoints
from semfreeze_core.processes import from_first
from semfreeze_core.records.provenance import Document
from semfreeze_core.records.validation import EvalPoint
from semfreeze_core.storage import write_atomically


@dataclass(frozen=True)
class TimedSaves:
    """Where checkpoints by time go, and how often.

    Attributes:
        folder: of the checkpoints; a training goes on from the last one there.
        seconds: at least so many between two.
    """

    folder: Path
    seconds: float


class RecordedSteps(Document):
    """What an arm had recorded when a checkpoint was written, and nothing else can tell."""

    train_losses: list[float]
    step_seconds: list[float]
    peak_bytes: int
    sizes: list[BatchSize]
    points: list[EvalPoint]

    @classmethod
    def of(cls, record: Record, sizes: list[BatchSize], course: Course) -> "RecordedSteps":
        """Of an arm in its first phase."""
        return cls(
            train_losses=record.losses,
            step_seconds=record.step_seconds,
            peak_bytes=record.peak_bytes,
            sizes=sizes,
            points=course.points,
        )

    @property
    def record(self) -> Record:
        """The steps as a training goes on to record them."""
        return Record(self.train_losses[:], self.step_seconds[:], self.peak_bytes)


class SaveByTime(TrainerCallback):
    """Saves a checkpoint after the first step that ends so long after the last one, and no other; after the recorder.

    So a training shorter than that writes none: it would cost more than it saves. After the last step, or one that
    failed, a checkpoint would be of no use. Of several processes the first one's clock counts.

    Args:
        seconds: at least so many between two.
        recorded: returns what was recorded so far, which is added to each checkpoint; None adds nothing.
        clock: seconds.
    """

    def __init__(
        self,
        seconds: float,
        recorded: Callable[[], RecordedSteps] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self.recorded, self._clock = seconds, recorded, clock
        self._saved = clock()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Count from now: loading and caches are not training."""
        self._saved = self._clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint where it is time for one."""
        due = from_first(lambda: self._clock() - self._saved >= self.seconds)
        control.should_save = due and not control.should_training_stop

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add what was recorded to the checkpoint that was just written, and count from now."""
        if self.recorded is not None:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_atomically(checkpoint / RECORDED, self.recorded().model_dump_json() + "\n")
        self._saved = self._clock()


def last_saved(folder: Path) -> tuple[Path, RecordedSteps] | None:
    """The last checkpoint that is whole, and what was recorded until then; None where there is none."""
    for checkpoint in complete_checkpoints(folder):
        try:
            return checkpoint, RecordedSteps.model_validate_json((checkpoint / RECORDED).read_text())
        except (OSError, UnicodeDecodeError, ValidationError):  # killed as it was written
            continue
    return None
