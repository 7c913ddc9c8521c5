"""The report of a guided finetune: what was decided, by what, at what cost, and what came of it."""

from typing import Any, Literal

from semfreeze_core.records.provenance import Document, Provenance
from semfreeze_core.records.race import Objective, Race
from semfreeze_core.records.task_checks import TaskChecks

FINETUNE_SCHEMA_VERSION = 1
FINETUNE_REPORT = "report.json"
TRAINING_RESULT = "training.json"  # in a trained model's folder: the request, and how the training went
DECISION = "decision"  # the folder in which `semfreeze finetune` decides what to train; it may come before the model


class FinetuneReport(Document):
    """A guided finetune.

    `rule` is "auto", or the rule that another wish took; `badge` is as in a plan's evidence. `training` is the
    training's own document. `freeze_depth` is what was frozen in the end; where a trial let it freeze deeper,
    `first_depth` is what was frozen before step `deeper_from`, else both are null. FLOPs are estimated, for the whole
    finetune: `planned_flop` as it was trained, `full_flop` with every layer trained; `race_flop` is what the race and a
    trial after it added, null without a race. `held_out` says whether the eval
    examples were held out of the training file.
    """

    schema_version: int = FINETUNE_SCHEMA_VERSION
    kind: Literal["semfreeze finetune"] = "semfreeze finetune"
    folder: str
    n_layers: int
    freeze_depth: int
    first_depth: int | None = None
    deeper_from: int | None = None
    rule: str
    badge: str | None
    reasons: list[str]
    objective: Objective
    n_train: int
    n_eval: int
    held_out: bool
    steps: int
    checks: TaskChecks
    race: Race | None
    planned_flop: int
    full_flop: int
    race_flop: int | None
    planned_bytes: int | None
    full_bytes: int | None
    training: dict[str, Any]
    provenance: Provenance
