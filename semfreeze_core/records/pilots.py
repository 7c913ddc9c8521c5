"""What short pilot finetunes of a few freeze depths gave, and the depth they decided for."""

from typing import Literal

from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.provenance import Document, Measured, Provenance

MEASUREMENT_SCHEMA_VERSION = 1
MEASUREMENT = "measurement.json"

Aim = Literal["compute", "steps", "cheapest"]
ProposedBy = Literal["reading", "sweeps"]


class Pilot(Document):
    """One depth's pilot in one round.

    `loss` is the mean supervised loss of the eval items in nats; `ahead` is how much lower it is than the round's
    shallowest depth's, paired by item, with its two-sided interval. `reason` says why there is no loss.
    """

    freeze_depth: int
    steps: int
    loss: float | None
    ahead: IntervalEntry
    flop: int
    seconds: float
    reason: str


class PilotRound(Document):
    """One round: every depth still in the race trained for `share` of its own steps in the whole finetune."""

    share: float
    pilots: list[Pilot]
    kept: list[int]


class Measurement(Document):
    """A depth decided by pilots, and everything it rests on.

    `steps` and `batch_size` are of the finetune that is planned; `full_flop` is what it would cost with all layers
    trained. `proposed` is the depth that stays until another is better for sure: the reading's recommendation, or two
    thirds of the layers where sweeps of other tasks speak for it and the reading does not against it.
    `budget_flop` was allowed to the pilots, readings and caches included, `promised_flop` predicted for them,
    and `spent_flop` is what they took. `freeze_depth` is null when the pilots decide nothing.
    """

    schema_version: int = MEASUREMENT_SCHEMA_VERSION
    kind: Literal["semfreeze measurement"] = "semfreeze measurement"
    aim: Aim
    proposed: int | None
    proposed_by: ProposedBy | None
    margin: float
    train: str
    eval: str
    n_train: int
    n_eval: int
    steps: int
    batch_size: int
    n_layers: int
    loss_before: Measured
    improvement: IntervalEntry
    full_flop: int
    budget_flop: int
    promised_flop: int
    spent_flop: int
    rounds: list[PilotRound]
    freeze_depth: int | None
    candidate_depth: int
    reasons: list[str]
    provenance: Provenance
