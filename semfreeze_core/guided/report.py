"""The report of a guided finetune."""

import json
from pathlib import Path

from semfreeze_core.finetune.train.train import RESULT
from semfreeze_core.guided.request import GuidedRequest
from semfreeze_core.guided.task import GuidedTask
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.finetune_report import FinetuneReport
from semfreeze_core.records.provenance import provenance_now


def finetune_report(request: GuidedRequest, task: GuidedTask, plan: FreezePlan, folder: Path) -> FinetuneReport:
    training = json.loads((folder / RESULT).read_text())
    planned, full = plan.cost.planned or plan.cost.full, plan.cost.full
    raced = plan.evidence.race
    planned_flop, full_flop = planned.flop, full.flop
    if raced is not None:  # at the examples' own lengths, where a plan takes all to be the longest
        winner = next(variant for variant in raced.variants if variant.name == raced.chosen)
        planned_flop, full_flop = winner.run_flop, raced.full_flop
    return FinetuneReport(
        folder=str(folder),
        n_layers=plan.n_layers,
        freeze_depth=plan.freeze_depth or 0,
        rule=plan.rule,
        badge=plan.evidence.badge,
        reasons=plan.reasons,
        objective=request.objective,
        n_train=task.n_train,
        n_eval=task.n_eval,
        held_out=request.evaluation is None,
        steps=training["steps"],
        checks=task.checks,
        race=raced,
        planned_flop=planned_flop,
        full_flop=full_flop,
        race_flop=None if raced is None else raced.lost_flop,
        planned_bytes=planned.bytes.total,
        full_bytes=full.bytes.total,
        training=training,
        provenance=provenance_now(0),
    )
