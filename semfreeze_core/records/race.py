"""A race of variants: their first steps on the same batches, and the one that was chosen."""

from dataclasses import dataclass
from typing import Literal

from semfreeze_core.records.provenance import Document, Measured
from semfreeze_core.records.rates import RateTrial

RACE_FOLDER, RACE_RESULT = "race", "race.json"

ObjectiveKind = Literal["balanced", "quality", "memory", "time"]
# Whether a variant's loss reduction is within the margin of the best one's: significantly so, significantly not, or
# neither of the two.
Standing = Literal["within", "outside", "cannot tell"]


class Objective(Document):
    """What a finetune is to be good at.

    "balanced" is the cheapest variant whose loss reduction is within the margin of the best one's; "quality" the lowest
    loss; "memory" and "time" the lowest loss among the variants that need no more than `limit`, bytes of device memory
    or seconds of training.
    """

    kind: ObjectiveKind = "balanced"
    limit: float | None = None


class RaceVariant(Document):
    """One variant's race, evaluated on all eval examples after its last step.

    `loss` is the mean over examples of their mean loss, nats; `token_loss` the mean over target tokens.
    `items_standing` and `tokens_standing` compare its loss reduction with the best one's in the two weightings; null
    for a variant that is not ranked, whose `reason` says why. `run_flop` is estimated for its whole finetune,
    `run_seconds` at the speed of its own race.
    """

    name: str
    freeze_depth: int
    learning_rate: float
    loss: Measured | None
    token_loss: Measured | None
    items_standing: Standing | None
    tokens_standing: Standing | None
    run_flop: int
    run_seconds: float | None
    reason: str = ""


class Race(Document):
    """Variants' first `steps` on the same batches, compared in pairs on the same `n_eval` examples at the same step.

    `chosen` is the variant that continues; `told_apart` is false where the race could not tell and the safe variant
    was taken. `loss_variation` is the standard deviation over the mean of the examples' losses before training.
    `deeper_depth` is a freeze depth that lost, which a trial from the chosen variant's own checkpoint tries again; null
    where there is no such trial. `lost_flop` is what does not serve the chosen variant's training: the others' steps,
    the rates that lost, and all evaluations; `full_flop` is estimated for the whole finetune with every layer trained.
    """

    objective: Objective
    steps: int
    batch_size: int
    n_eval: int
    margin: float
    confidence: float
    loss_before: Measured
    token_loss_before: Measured
    loss_variation: float | None
    variants: list[RaceVariant]
    chosen: str
    told_apart: bool
    deeper_depth: int | None = None
    reason: str
    lost_flop: int
    full_flop: int


@dataclass(frozen=True)
class RacingVariant:
    """What is known of a variant while the race runs.

    Attributes:
        name: as in a validation, like "depth:19".
        trials: of its learning rates so far, in order.
        finished: whether its own part of the race has ended.
        loss: on the eval examples after the race's steps, nats; None before, and where it failed.
        learning_rate: the one that was chosen, once finished.
        failure: why it ended without a result, or "".
    """

    name: str
    trials: tuple[RateTrial, ...]
    finished: bool = False
    loss: float | None = None
    learning_rate: float | None = None
    failure: str = ""
