"""The search for one variant's learning rate: the rates it tried, and what each gave."""

from dataclasses import dataclass
from typing import Literal

from semfreeze_core.records.provenance import Document, Measured

# "read": evaluated at the search's step; "behind": stopped half-way, clearly worse than another rate there;
# "diverged": its loss was not a number.
TrialEnd = Literal["read", "behind", "diverged"]
# What rates are compared on: the first eval examples, or the training's own batches, each before its step.
ComparedOn = Literal["eval examples", "training batches"]


class RateTrial(Document):
    """One learning rate's first steps.

    `half_losses` and `losses` are the eval items' at half of the search's steps and after all of them, nats, null where
    it was not evaluated; on training batches, those of the later half of the batches until there. `train_losses` are
    each step's; `flop` of its steps; `seconds` likewise, evaluation left out.
    """

    rate: float
    end: TrialEnd
    steps: int
    half_losses: list[Measured] | None
    losses: list[Measured] | None
    train_losses: list[Measured]
    flop: int
    seconds: float

    @property
    def loss(self) -> float | None:
        """Mean over what the search compares, after its steps."""
        return sum(self.losses) / len(self.losses) if self.losses else None


class RateSearch(Document):
    """Every trial of a variant's search, in order, and the rate it chose: null when no rate lowered the loss.

    `steps` is where trials are compared, on `n_items` of `compared_on`: the first eval examples, whose loss before
    training is `loss_before`, or the examples of the last batches, each new to the training, which have none.
    `spent_flop` is what the choice cost beyond the chosen rate's own steps: the other trials and all evaluations.
    `at_edge` says that the chosen rate is the highest or lowest of those tried, so that a better one may lie beyond,
    `unstable` that its training loss rose within its trial. `reused` says that an equal variant's earlier search gave
    the rate, so that this one spent nothing. Rates from `too_high` on were not tried: they were too high for a variant
    that trains fewer layers.
    """

    rate: float | None
    start: float
    steps: int
    n_items: int
    loss_before: Measured | None
    trials: list[RateTrial]
    spent_flop: int
    spent_seconds: float
    at_edge: bool = False
    unstable: bool = False
    reused: bool = False
    compared_on: ComparedOn = "eval examples"
    too_high: float | None = None


@dataclass(frozen=True)
class KnownRate:
    """A learning rate for what a plan trains.

    Attributes:
        rate: per step.
        origin: where it is from, as a sentence ends with it.
    """

    rate: float
    origin: str
