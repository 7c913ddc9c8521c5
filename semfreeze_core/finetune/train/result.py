"""The result of a training: a sentence for the model card and a document next to the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semfreeze_core.finetune.quantize.quantize import NAMES
from semfreeze_core.finetune.train.request import TrainRequest, kept_settings
from semfreeze_core.records.looks import Look
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.training import FrozenBits
from semfreeze_core.records.validation import EvalPoint
from semfreeze_core.wording.numbers import nats, number


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        folder: an ordinary Hugging Face folder, or a PEFT adapter's; with plan.json and training.json.
        steps: made in all.
        losses: train loss of each step since the start or resumption, nats per target token.
        before, after: evaluations on the eval examples; None without any.
        notes: decisions worth reporting.
        search: of the learning rate; None where it was given or is a default.
        looks: decisions whether to freeze deeper, where short trainings decide it.
    """

    folder: Path
    steps: int
    losses: list[float]
    before: EvalPoint | None
    after: EvalPoint | None
    notes: tuple[str, ...]
    search: RateSearch | None = None
    looks: tuple[Look, ...] = ()

    def sentence(self, batch_size: int, n_eval: int, bits: FrozenBits | None = None) -> str:
        """How long it trained, on a base of how many bits, and how the eval loss changed; for the model card."""
        text = f"Trained for {self.steps} steps of {batch_size} examples"
        text += f" on the base in {NAMES[bits]}" if bits else ""
        if self.looks:
            last = self.looks[-1]
            text += f", frozen deeper from step {last.step} on" if last.deeper else ", frozen deeper in none"
        if self.after is None:
            return f"{text}; not evaluated."
        if self.after.step < self.steps:
            text += f", with the weights of step {self.after.step}, where eval loss was lowest"
        if self.before is None:  # a resumed training does not repeat it
            return f"{text}; the loss on {n_eval} eval examples is {nats(self.after.loss)}."
        before, after = self.before.loss, self.after.loss
        return f"{text}; the loss on {n_eval} eval examples went from {number(before)} to {nats(after)}."

    def evaluations(self) -> dict[str, dict[str, Any] | None]:
        """Both evaluations as documents, without time and FLOPs: a resumed training has only its last part."""
        fields = {"step", "loss", "accuracy"}
        return {
            name: None if point is None else point.model_dump(mode="json", include=fields)
            for name, point in (("before", self.before), ("after", self.after))
        }


def best_checkpoint_note(best: int, steps: int, evaluations: int) -> str:
    """Which checkpoint was selected of how many evaluations, and how that biases its loss."""
    return (
        f"Saved the checkpoint of step {best} of {steps}, with the lowest eval loss of {evaluations} evaluations. It "
        "was selected on these examples, so the loss on new ones is likely higher."
    )


def training_result(trained: Trained, request: TrainRequest, default_rate: float) -> dict[str, Any]:
    """The document next to the model: the request, and how the training went.

    Args:
        trained: the result.
        request: what was asked for.
        default_rate: the learning rate where none was searched.
    """
    return {
        **kept_settings(request, trained.folder),
        "learning_rate": default_rate if trained.search is None else trained.search.rate,
        "rate_search": None if trained.search is None else trained.search.model_dump(mode="json"),
        "steps": trained.steps,
        "train_losses": trained.losses,
        "looks": [look.model_dump(mode="json") for look in trained.looks],
        **trained.evaluations(),
        "notes": list(trained.notes),
    }
