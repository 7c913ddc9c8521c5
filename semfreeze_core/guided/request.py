"""What a guided finetune is asked to do."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.processes import refuse_launcher
from semfreeze_core.records.defaults import (
    ACCURACY_ROWS,
    EPOCHS,
)
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.options import TrainingOptions, flag_of
from semfreeze_core.records.race import Objective
from semfreeze_core.records.training import TrainingSetup, micro_batch_problem
from semfreeze_core.sources.data.samples import source_digest

_CAME_SINCE = ("batches", "micro_batch_size")  # options that the first settings did not have


@dataclass(frozen=True)
class GuidedRequest:
    """What to finetune, and to what end.

    Attributes:
        model: where it comes from.
        data: training examples: a task file, "hf:owner/name#split", or "sample:NAME".
        evaluation: eval examples; None holds some out of `data`.
        mapping: which fields hold what.
        add_eos: end completions with the tokenizer's EOS.
        epochs: passes over the training examples, unless `steps` is given.
        steps: optimizer steps.
        objective: what the finetune is to be good at.
        depth: your own freeze depth, in place of a decision.
        options: how to train, as far as somebody says. The result does not depend on its micro-batches, so one that
            resumes may name others.
        max_length: longest example in tokens, or None.
        n_accuracy: eval examples answered by generation.
    """

    model: ModelSource
    data: str
    evaluation: str | None = None
    mapping: FieldMapping = field(default_factory=FieldMapping)
    add_eos: bool = True
    epochs: int = EPOCHS
    steps: int | None = None
    objective: Objective = field(default_factory=Objective)
    depth: int | None = None
    options: TrainingOptions = field(default_factory=TrainingOptions)
    max_length: int | None = None
    n_accuracy: int = ACCURACY_ROWS

    def __post_init__(self) -> None:
        refuse_launcher("choosing a variant")
        least = {"epochs": 1, "steps": 1, "max_length": 1, "n_accuracy": 0, "depth": 0}
        problems = [
            f"{flag_of(name)} must be at least {lowest}, found {value}"
            for name, lowest in least.items()
            if (value := getattr(self, name)) is not None and value < lowest
        ]
        if self.depth is not None and self.objective != Objective():
            problems.append(
                f"--depth {self.depth} names what to train, and --objective {self.objective.kind} would choose it: "
                "leave one of them out"
            )
        sizes = self.options.batch_size or TrainingSetup.batch_size, self.options.micro_batch_size
        if (wrong := micro_batch_problem(*sizes)) is not None:
            problems.append(f"{flag_of('micro_batch_size')} {wrong}")
        if problems:
            raise InputError("; ".join(problems) + ".")

    def settings(self) -> dict[str, Any]:
        """What must be equal for a guided finetune to resume."""
        options = {name: getattr(self.options, name) for name in TrainingOptions.__dataclass_fields__}
        options = {name: value for name, value in options.items() if name not in _CAME_SINCE or value is not None}
        settings = {
            "model": self.model.source,
            "revision": self.model.revision,
            "data_digest": source_digest(self.data),
            "eval_digest": None if self.evaluation is None else source_digest(self.evaluation),
            "mapping": asdict(self.mapping),
            "add_eos": self.add_eos,
            "epochs": self.epochs,
            "steps": self.steps,
            "objective": self.objective.model_dump(),
            "depth": self.depth,
            "options": options,
            "max_length": self.max_length,
        }
        return dict(json.loads(json.dumps(settings)))
