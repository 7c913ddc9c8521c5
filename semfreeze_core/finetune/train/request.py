"""The request for a full training."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.arm.settings import refuse_untrainable
from semfreeze_core.plan.document import FreezePlan, plan_digests
from semfreeze_core.processes import launch
from semfreeze_core.records.defaults import ACCURACY_ROWS, EPOCHS, LARGEST_SEED
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.options import flag_of
from semfreeze_core.records.training import CHUNKED_LOSSES, TrainingSetup, largest_divisor
from semfreeze_core.sources.data.samples import source_digest
from semfreeze_core.storage import kept_source
from semfreeze_core.wording.costs import setup_line
from semfreeze_core.wording.numbers import counted


@dataclass(frozen=True)
class FirstSteps:
    """The first steps of a training, made before by another with the same data, order and rate.

    Attributes:
        checkpoint: of the last of them; it is moved to the training's own.
        steps: their number.
    """

    checkpoint: Path
    steps: int


@dataclass(frozen=True)
class TrainRequest:
    """What to train, and how.

    Attributes:
        plan: what is trained.
        data: training examples: a task file, "hf:owner/name", or "sample:NAME".
        setup: how; None is the setup the plan was estimated for. Its number of examples and steps do not matter.
        evaluation: eval examples, or None.
        mapping: which fields hold what.
        add_eos: end completions with the tokenizer's EOS.
        epochs: passes over the data, unless `steps` is given.
        steps: optimizer steps; no more examples are drawn than they use, by label where there is one.
        last_step: end after this one, with the examples and the order of a training of all steps; None makes them all.
        learning_rate: None searches it, on the eval examples or without enough of them on the training's own batches;
            where the training is too short for that, the default of the plan's kind.
        save_steps: steps between checkpoints; None writes one when CHECKPOINT_SECONDS have passed since the last.
        seed: of the order of examples and of new adapters.
        n_accuracy: eval examples answered by generation.
        model: where the model comes from; None is the plan's source.
        report_to: trackers, as Trainer's `report_to` names them.
        keep_best: evaluate at every checkpoint, or without `save_steps` BEST_EVALUATIONS times, and end with the
            weights whose loss was lowest.
        shard: spread what trains over the processes that a launcher started.
        first_steps: go on from these, with a learning rate that is given; None starts from the model.
    """

    plan: FreezePlan
    data: str
    setup: TrainingSetup | None = None
    evaluation: str | None = None
    mapping: FieldMapping = field(default_factory=FieldMapping)
    add_eos: bool = True
    epochs: int = EPOCHS
    steps: int | None = None
    last_step: int | None = None
    learning_rate: float | None = None
    save_steps: int | None = None
    seed: int = 0
    n_accuracy: int = ACCURACY_ROWS
    model: ModelSource | None = None
    report_to: tuple[str, ...] = ()
    keep_best: bool = False
    first_steps: FirstSteps | None = None
    shard: bool = False

    @property
    def micro(self) -> int:
        """Examples at a time in each process."""
        return min(self.how.examples_per_pass, self.how.batch_size // launch().count)

    @property
    def how(self) -> TrainingSetup:
        """The requested setup, else the plan's."""
        return self.plan.cost.setup if self.setup is None else self.setup

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "steps": 1,
            "last_step": 1,
            "save_steps": 1,
            "n_accuracy": 0,
            "seed": 0,
        }
        problems = [
            f"{flag_of(name)} must be at least {lowest}, found {value}"
            for name, lowest in least.items()
            if (value := getattr(self, name)) is not None and value < lowest
        ]
        if self.seed > LARGEST_SEED:
            problems.append(f"--seed must be at most {LARGEST_SEED}, found {self.seed}")
        count = launch().count
        of_process, left_over = divmod(self.how.batch_size, count)
        if left_over:
            problems.append(
                f"{count} processes cannot share a batch of {self.how.batch_size} examples equally: start as many as "
                f"divide it (--nproc-per-node), or use --batch-size {self.how.batch_size + count - left_over}"
            )
        elif of_process % self.micro:
            problems.append(
                f"--micro-batch-size {self.micro} must divide the share of each of {count} processes in a batch, of "
                f"{of_process}: try {largest_divisor(of_process, self.micro)}"
            )
        if self.learning_rate is not None and not 0 < self.learning_rate <= 1:
            problems.append(f"--lr must be in (0, 1], found {self.learning_rate}")
        if self.keep_best and self.evaluation is None:
            problems.append("--keep-best chooses by the eval examples: give some with --eval")
        if self.shard:
            problems += self._not_sharded()
        if problems:
            raise InputError("; ".join(problems) + ".")
        refuse_untrainable(self.how)

    def _not_sharded(self) -> list[str]:
        """Why what trains cannot be sharded."""
        setup, planned = self.how, self.plan.cost.setup
        reasons = [
            (planned.lora is not None, "it shards whole layers, and the plan trains adapters"),
            (self.plan.switch is not None, "the plan freezes deeper at a step"),
            (setup.optimizer == "adamw8bit", "the states of --optimizer adamw8bit are not sharded"),
            (self.learning_rate is None, "no learning rate is searched: name it, --lr"),
        ]
        return [f"--shard: {reason}" for holds, reason in reasons if holds]


def setup_note(request: TrainRequest, setup: TrainingSetup) -> str:
    """How it trains, and where that differs from what the plan was estimated for.

    Args:
        request: of the training.
        setup: with the steps it makes.
    """
    planned, how = request.plan.cost.setup, request.how
    compared = (
        "batch_size",
        "sequence_length",
        "precision",
        "optimizer",
        "loss",
        "checkpointing",
        "prefix_cache",
        "batches",
    )
    changes = [
        f"{name.replace('_', ' ')} {getattr(planned, name)}"
        for name in compared
        if getattr(planned, name) != getattr(how, name)
    ]
    if planned.examples_per_pass != how.examples_per_pass:
        changes.append(f"{counted(planned.examples_per_pass, 'example')} at a time")
    origin = f"The plan was estimated for {', '.join(changes)}." if changes else "All as the plan was estimated."
    count, processes = launch().count, ""
    if count > 1:
        sharing = " and shard what trains" if request.shard else ""
        examples = counted(request.micro, "example")
        processes = f" {count} processes train together{sharing}, each on {examples} at a time."
    return f"Training setup: {setup_line(setup)}. {origin}{processes}"


def memory_advice(request: TrainRequest) -> str:
    """What happened when memory ran out in a training, and what of the ways to take less it has not taken yet."""
    setup, micro = request.how, request.micro
    smaller = largest_divisor(setup.batch_size // launch().count, micro // 2)
    if smaller:
        return (
            f"Memory ran out with {micro} examples at a time. Add --micro-batch-size {smaller}: it resumes from the "
            "last checkpoint, and trains the same."
        )
    ways = [
        (True, "--max-length below " + str(setup.sequence_length)),
        (setup.checkpointing == "none", "--checkpointing non-reentrant"),
        (setup.loss not in CHUNKED_LOSSES, "--loss chunked"),
        (setup.optimizer == "adamw", "--optimizer adamw8bit"),
        (setup.precision == "float32", "--precision bf16-autocast"),
    ]
    advice = ", ".join(flag for helps, flag in ways if helps)
    return (
        f"Memory ran out with one example at a time. Take less with {advice}, or a plan that freezes more layers, and "
        "another --out; or use a device with more memory."
    )


def request_settings(request: TrainRequest) -> dict[str, Any]:
    """What must be equal for a training to resume, and the names of its data, which may change.

    The micro-batch may change too, when memory ran out.
    """
    settings = {
        "plan": plan_digests(request.plan)[0],
        "data": request.data,
        "data_digest": source_digest(request.data),
        "mapping": vars(request.mapping),
        "setup": replace(request.how, micro_batch_size=None).document(),
        "add_eos": request.add_eos,
        "epochs": request.epochs,
        "steps": request.steps,
        "learning_rate": request.learning_rate,
        "seed": request.seed,
    }
    if request.keep_best and request.evaluation is not None:
        evaluation = {"evaluation": request.evaluation, "evaluation_digest": source_digest(request.evaluation)}
        settings |= {"keep_best": True, **evaluation}
    if request.shard:
        settings["shard"] = True
    if request.last_step is not None:
        settings["last_step"] = request.last_step
    if request.first_steps is not None:
        settings["first_steps"] = request.first_steps.steps
    return settings


_NAMES = ("data", "evaluation")  # a file may be moved
PARTS = "parts"  # of the data, beside the settings: a training keeps those that it began with


def kept_settings(request: TrainRequest, folder: Path) -> dict[str, Any]:
    """The settings as documents in `folder` hold them: files that may be moved with it by paths from there."""
    settings = request_settings(request)
    return settings | {name: kept_source(settings[name], folder) for name in _NAMES if name in settings}


def different_settings(written: dict[str, Any], request: TrainRequest) -> list[str]:
    """The settings in which a training in a folder differs from a request; empty when the request resumes it.

    Args:
        written: the folder's settings; those of 0.1.0 have no digest of the data, so its name counts.
        request: what is to be trained.
    """
    ours: dict[str, Any] = json.loads(json.dumps(request_settings(request)))
    known = "data_digest" in written
    if not known:
        ours = {name: value for name, value in ours.items() if not name.endswith("_digest")}
        ours["plan"] = plan_digests(request.plan)[1]
    names = dict.fromkeys((*ours, *written))
    return [
        name.removesuffix("_digest")
        for name in names
        if name not in ("digest", PARTS) and not (known and name in _NAMES) and ours.get(name) != written.get(name)
    ]
