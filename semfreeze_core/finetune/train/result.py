"""What a training gave, in words for the model card and as a document beside the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.quantize.quantize import NAMES
from semfreeze_core.finetune.train.request import TrainRequest, request_settings
from semfreeze_core.records.training import FrozenBits
from semfreeze_core.records.validation import EvalPoint
from semfreeze_core.wording.numbers import nats, number


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        folder: an ordinary Hugging Face folder, or a PEFT adapter's; with plan.json and training.json.
        steps: made in all.
        losses: train loss of each step since it began or was resumed, nats a token.
        before, after: readings on the eval items; None without any.
        notes: what was decided on the way.
    """

    folder: Path
    steps: int
    losses: list[float]
    before: EvalPoint | None
    after: EvalPoint | None
    notes: tuple[str, ...]

    def sentence(self, batch_size: int, n_eval: int, bits: FrozenBits | None = None) -> str:
        """How long it trained, on a base of how many bits, and what that did to the eval items' loss; for the card."""
        told = f"Trained for {self.steps} steps of {batch_size} examples"
        told += f" on the base in {NAMES[bits]}" if bits else ""
        if self.after is None:
            return f"{told}; no eval items were read."
        if self.after.step < self.steps:
            told += f", kept as it was after {self.after.step}, its lowest on the eval items"
        if self.before is None:  # a resumed training's lies too far back
            return f"{told}; the loss of {n_eval} eval items is {nats(self.after.loss)}."
        before, after = self.before.loss, self.after.loss
        return f"{told}; the loss of {n_eval} eval items went from {number(before)} to {nats(after)}."

    def readings(self) -> dict[str, dict[str, Any] | None]:
        """Both readings as documents, without time and FLOP: a resumed training has only its last stretch."""
        kept = {"step", "loss", "accuracy"}
        return {
            name: None if point is None else point.model_dump(mode="json", include=kept)
            for name, point in (("before", self.before), ("after", self.after))
        }


def best_checkpoint_note(best: int, steps: int, readings: int) -> str:
    """Which checkpoint was kept of how many readings, and what that choice does to its loss."""
    return (
        f"Kept what step {best} of {steps} gave, the lowest eval loss of {readings} readings: it was chosen on these "
        "items, so on new ones it is rather higher."
    )


def training_result(trained: Trained, request: TrainRequest, arm: Arm) -> dict[str, Any]:
    """What lies beside the model: what was asked, and how it went."""
    return {
        **request_settings(request),
        "learning_rate": arm.learning_rate,
        "steps": trained.steps,
        "train_losses": trained.losses,
        **trained.readings(),
        "notes": list(trained.notes),
    }
