"""What a training of full length is asked for."""

from dataclasses import dataclass, field
from typing import Any

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.training import Checkpointing, Precision
from semfreeze_core.sources.data.fields import FieldMapping
from semfreeze_core.storage import digest


@dataclass(frozen=True)
class TrainRequest:
    """What to train, and how.

    Attributes:
        plan: what is trained.
        data: training examples: a task file, "hf:owner/name", or "sample:NAME".
        evaluation: eval items, or None.
        mapping: which fields hold what.
        max_length: longest example in tokens.
        add_eos: end completions with the tokenizer's EOS.
        epochs: passes over the data, unless `steps` is given.
        steps: optimiser steps; no more examples are drawn than they meet, by label where there is one.
        batch_size: examples a step.
        micro_batch_size: examples at a time; None is all of a step.
        learning_rate: None takes the default of the plan's kind.
        precision, checkpointing: as in TrainingSetup.
        prefix_cache: compute frozen layers once.
        save_steps: steps between checkpoints; None makes ten in all.
        seed: of the order of examples and of new adapters.
        n_accuracy: eval items answered by generation.
        model: where the model comes from; None is where the plan has it from.
        report_to: trackers, as Trainer's `report_to` names them.
        keep_best: read the eval items at every checkpoint, and end with the one whose loss was lowest.
    """

    plan: FreezePlan
    data: str
    evaluation: str | None = None
    mapping: FieldMapping = field(default_factory=FieldMapping)
    max_length: int = 2048
    add_eos: bool = True
    epochs: int = 3
    steps: int | None = None
    batch_size: int = 8
    micro_batch_size: int | None = None
    learning_rate: float | None = None
    precision: Precision = "float32"
    checkpointing: Checkpointing = "none"
    prefix_cache: bool = True
    save_steps: int | None = None
    seed: int = 0
    n_accuracy: int = 100
    model: ModelSource | None = None
    report_to: tuple[str, ...] = ()
    keep_best: bool = False

    def __post_init__(self) -> None:
        numbers = ("max_length", "epochs", "steps", "batch_size", "micro_batch_size", "save_steps")
        problems = [
            f"{name} must be at least 1, found {value}"
            for name in numbers
            if (value := getattr(self, name)) is not None and value < 1
        ]
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            problems.append(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}")
        if self.learning_rate is not None and not 0 < self.learning_rate <= 1:
            problems.append(f"learning_rate must be in (0, 1], found {self.learning_rate}")
        if self.keep_best and self.evaluation is None:
            problems.append("keep_best chooses by the eval items: give some (--eval)")
        if problems:
            raise InputError("; ".join(problems) + ".")


def request_settings(request: TrainRequest) -> dict[str, Any]:
    """What must be equal for a training to go on; the micro-batch may change when memory ran out."""
    return {
        "plan": digest(request.plan.model_dump(mode="json", exclude={"provenance"})),
        "data": request.data,
        "mapping": vars(request.mapping),
        "max_length": request.max_length,
        "add_eos": request.add_eos,
        "epochs": request.epochs,
        "steps": request.steps,
        "batch_size": request.batch_size,
        "learning_rate": request.learning_rate,
        "precision": request.precision,
        "seed": request.seed,
        **({"keep_best": True, "evaluation": request.evaluation} if request.keep_best else {}),
    }
