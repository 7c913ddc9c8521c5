"""The search for one variant's learning rate: the rates it tried, and what each gave."""

from typing import Literal

from semfreeze_core.records.provenance import Document, Measured

# "read": evaluated at the search's step; "behind": stopped half-way, clearly worse than another rate there;
# "diverged": its loss was not a number.
TrialEnd = Literal["read", "behind", "diverged"]


class RateTrial(Document):
    """One learning rate's first steps.

    `half_losses` and `losses` are the eval items' at half of the search's steps and after all of them, nats, null where
    it was not evaluated; `train_losses` each step's; `flop` of its steps; `seconds` likewise, evaluation left out.
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
        """Mean over the eval items after the search's steps."""
        return sum(self.losses) / len(self.losses) if self.losses else None


class RateSearch(Document):
    """Every trial of a variant's search, in order, and the rate it chose: null when no rate lowered the loss.

    `steps` is where trials are compared, on the first `n_items` eval examples; `loss_before` theirs before training.
    `spent_flop` is what the choice cost beyond the chosen rate's own steps: the other trials and all evaluations.
    `at_edge` says that the chosen rate is the highest or lowest of those tried, so that a better one may lie beyond,
    `unstable` that its training loss rose within its trial. `reused` says that an equal variant's earlier search gave
    the rate, so that this one spent nothing.
    """

    rate: float | None
    start: float
    steps: int
    n_items: int
    loss_before: Measured
    trials: list[RateTrial]
    spent_flop: int
    spent_seconds: float
    at_edge: bool = False
    unstable: bool = False
    reused: bool = False
