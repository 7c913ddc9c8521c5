"""The report of a guided finetune."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semfreeze_core.cost import progressive_flop, trial_flop
from semfreeze_core.finetune.arm.arguments import setup_at_lengths
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.train.folder import RESULT
from semfreeze_core.guided.request import GuidedRequest
from semfreeze_core.guided.task import GuidedTask
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.finetune_report import FinetuneReport
from semfreeze_core.records.looks import Look
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.race import Race
from semfreeze_core.records.training import DepthSwitch, TrainingSetup


@dataclass(frozen=True)
class _Made:
    """What was trained in the end.

    Attributes:
        depth: layers frozen then.
        deeper_from: step from which so many were; None where they were from the first step on.
        flop: of the whole finetune.
        full_flop: with every layer trained.
        race_flop: what a race and a trial after it added; None without a race.
    """

    depth: int
    deeper_from: int | None
    flop: int
    full_flop: int
    race_flop: int | None


def finetune_report(request: GuidedRequest, task: GuidedTask, plan: FreezePlan, folder: Path) -> FinetuneReport:
    training = json.loads((folder / RESULT).read_text())
    planned, full = plan.cost.planned or plan.cost.full, plan.cost.full
    raced = plan.evidence.race
    made = _without_race(plan) if raced is None else _as_raced(task, plan, raced, training)
    return FinetuneReport(
        folder=str(folder),
        n_layers=plan.n_layers,
        freeze_depth=made.depth,
        first_depth=None if made.deeper_from is None or plan.switch is None else plan.switch.wide_depth,
        deeper_from=made.deeper_from,
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
        planned_flop=made.flop,
        full_flop=made.full_flop,
        race_flop=made.race_flop,
        planned_bytes=planned.bytes.total,
        full_bytes=full.bytes.total,
        training=training,
        provenance=provenance_now(0),
    )


def _without_race(plan: FreezePlan) -> _Made:
    planned, full = plan.cost.planned or plan.cost.full, plan.cost.full
    return _Made(plan.freeze_depth or 0, None, planned.flop, full.flop, None)


def _as_raced(task: GuidedTask, plan: FreezePlan, raced: Race, training: dict[str, Any]) -> _Made:
    """What a race and its trial chose, at the examples' own lengths, where a plan takes all to be the longest."""
    winner = next(variant for variant in raced.variants if variant.name == raced.chosen)
    made = _Made(winner.freeze_depth, None, winner.run_flop, raced.full_flop, raced.lost_flop)
    if plan.switch is None:
        return made
    shape, setup = task.run.shape, _setup_at_lengths(task)
    race_flop = raced.lost_flop
    for look in map(Look.model_validate, training["looks"]):
        race_flop += trial_flop(shape, setup, plan.switch, deeper=look.deeper)
        if look.deeper:
            switch = DepthSwitch(plan.switch.wide_depth, plan.switch.deep_depth, look.step)
            flop = progressive_flop(shape, setup, switch)
            made = replace(made, depth=switch.deep_depth, deeper_from=look.step, flop=flop)
    return replace(made, race_flop=race_flop)


def _setup_at_lengths(task: GuidedTask) -> TrainingSetup:
    settings = ArmSettings(task.setup, seed=0, warmup_steps=1)
    return setup_at_lengths(settings, task.data.train.tokenized, cached=task.setup.prefix_cache)
