"""A sweep: what finetuning gained at several freeze depths, and what each rule would have cost."""

from typing import Literal

from pydantic import Field

from semfreeze_core.records.provenance import Document, Measured, Provenance
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.records.validation import Budget, ValidationSettings

SWEEP_SCHEMA_VERSION = 1
SWEEP = "sweep.json"
Bounds = tuple[float, float]


class SweepDepth(Document):
    """One depth over its seeds, at equal steps and at equal compute; null where it was not read.

    `improvement` is the fall of an item's supervised loss in nats, with its two-sided interval; `share` is it over
    full finetuning's, and `share_stopped` where both are stopped at their lowest reading, null where readings on the
    way were not kept. `learning_rate` is null in sweeps of 0.1.0. `gain_coverage` is what the reading predicted of that
    share. With a `switch` it freezes deeper at a step: `freeze_depth` is the one before it, and nothing was predicted.
    """

    freeze_depth: int
    switch: DepthSwitch | None = None
    learning_rate: float | None = None
    seeds: list[int]
    improvement: dict[Budget, float | None]
    interval: dict[Budget, Bounds | None]
    share: dict[Budget, float | None]
    share_interval: dict[Budget, Bounds | None]
    share_stopped: float | None = None
    share_stopped_interval: Bounds | None = None
    gain_coverage: float | None
    relative_flop: float


class RuleRegret(Document):
    """What a rule or score picked, and what that cost.

    `regret` is the best swept depth's improvement less this one's, over the best's; `beyond_half` is it less the regret
    of freezing half, so that below 0 the rule is better. The best is chosen on the same items, so a regret is rather
    too large than too small. `reason` says why there is none.
    """

    freeze_depth: int | None
    recommendation: Literal["freeze", "abstain"]
    regret: dict[Budget, float | None]
    regret_interval: dict[Budget, Bounds | None]
    beyond_half: dict[Budget, float | None]
    beyond_half_interval: dict[Budget, Bounds | None]
    reason: str


class SweepReport(Document):
    """Everything a sweep says; the arms' own numbers lie beside it as a validation's report.

    `progressive` are finetunes that froze deeper at a step; they are no depth's, so no best depth and no regret.
    `warnings` are of the data and of the arms' readings, none in sweeps from before they were kept.
    """

    schema_version: int = SWEEP_SCHEMA_VERSION
    kind: Literal["semfreeze sweep"] = "semfreeze sweep"
    settings: ValidationSettings
    n_layers: int
    n_items: int
    loss_before: Measured
    best_depth: dict[Budget, int | None]
    depths: list[SweepDepth]
    progressive: list[SweepDepth] = Field(default_factory=list)
    rules: dict[str, RuleRegret]
    reason: str
    warnings: list[str] = Field(default_factory=list)
    finished: bool
    provenance: Provenance
