"""The report of a guided finetune."""

import json
from pathlib import Path

from semfreeze_core.cost import progressive_flop, trial_flop
from semfreeze_core.finetune.arm.arguments import setup_at_lengths
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.train.train import RESULT
from semfreeze_core.guided.request import GuidedRequest
from semfreeze_core.guided.task import GuidedTask
from semfreeze_core.plan.auto import chosen_depth
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.finetune_report import FinetuneReport
from semfreeze_core.records.looks import Look
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.training import DepthSwitch, TrainingSetup


def finetune_report(request: GuidedRequest, task: GuidedTask, plan: FreezePlan, folder: Path) -> FinetuneReport:
    training = json.loads((folder / RESULT).read_text())
    planned, full = plan.cost.planned or plan.cost.full, plan.cost.full
    raced = plan.evidence.race
    planned_flop, full_flop, race_flop = planned.flop, full.flop, None
    depth, first_depth, deeper_from = plan.freeze_depth or 0, None, None
    if raced is not None:  # at the examples' own lengths, where a plan takes all to be the longest
        winner = next(variant for variant in raced.variants if variant.name == raced.chosen)
        planned_flop, full_flop, race_flop = winner.run_flop, raced.full_flop, raced.lost_flop
    if raced is not None and (switch := plan.switch) is not None:
        depth, setup = chosen_depth(raced), _setup_at_lengths(task)
        for look in map(Look.model_validate, training["looks"]):
            race_flop += trial_flop(task.run.shape, setup, switch, deeper=look.deeper)
            if look.deeper:
                depth, first_depth, deeper_from = switch.deep_depth, switch.wide_depth, look.step
                made = DepthSwitch(switch.wide_depth, switch.deep_depth, look.step)
                planned_flop = progressive_flop(task.run.shape, setup, made)
    return FinetuneReport(
        folder=str(folder),
        n_layers=plan.n_layers,
        freeze_depth=depth,
        first_depth=first_depth,
        deeper_from=deeper_from,
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
        race_flop=race_flop,
        planned_bytes=planned.bytes.total,
        full_bytes=full.bytes.total,
        training=training,
        provenance=provenance_now(0),
    )


def _setup_at_lengths(task: GuidedTask) -> TrainingSetup:
    settings = ArmSettings(task.setup, seed=0, warmup_steps=1)
    return setup_at_lengths(settings, task.data.train.tokenized, cached=task.setup.prefix_cache)
