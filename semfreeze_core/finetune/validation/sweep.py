"""Several freeze depths finetuned for real: which was best, and what each rule's pick would have cost.

A sweep is a validation whose arms are depths; it is kept, resumed and read like one.
"""

from pathlib import Path

import numpy as np

from semfreeze_core.finetune.validation.report import losses_at
from semfreeze_core.finetune.validation.request import ValidationRequest
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.gains.noninferiority import Floats, draw, improvement
from semfreeze_core.gains.regret import regret, regret_beyond
from semfreeze_core.plan.candidate_depths import Candidate
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.gain import GainCurve, Interval
from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.sweep import SWEEP, Bounds, RuleRegret, SweepDepth, SweepReport
from semfreeze_core.records.validation import ArmSummary, Budget, ValidationReport
from semfreeze_core.storage import write_atomically

_BUDGETS: tuple[Budget, ...] = ("steps", "compute")


def sweep(
    request: ValidationRequest,
    curve: GainCurve,
    picks: dict[str, Candidate],
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> SweepReport:
    """Train every depth with every seed, and say what each rule would have cost.

    Args:
        request: its arms are the depths.
        curve: what was predicted.
        picks: of the rules.
        folder: as for `validate`; sweep.json is written beside its report.
        overwrite: begin anew where another one stands.
        progress: told what is being done.

    Raises:
        InputError: as for `validate`.
    """
    report = validate(request, folder, overwrite=overwrite, progress=progress)
    found = build_sweep(report, curve, picks)
    write_atomically(folder / SWEEP, found.model_dump_json(indent=1) + "\n")
    return found


def build_sweep(report: ValidationReport, curve: GainCurve, picks: dict[str, Candidate]) -> SweepReport:
    """What a validation whose arms are depths says of them and of the rules."""
    depths = [_depth(arm, report, curve) for arm in report.arms.values()]
    before = np.array(report.baseline.item_losses)
    measured = {budget: _measured(report, budget) for budget in _BUDGETS}
    best = {budget: _best(before, losses) for budget, losses in measured.items()}
    full = report.arms.get("full")
    hopeless = full is not None and (full.improvement.low is None or full.improvement.low <= 0)
    return SweepReport(
        settings=report.settings,
        n_layers=report.n_layers,
        n_items=report.baseline.n_items,
        loss_before=report.baseline.loss,
        best_depth=best,
        depths=depths,
        rules={name: _rule(pick, before, measured, best, report.n_layers // 2) for name, pick in picks.items()},
        reason="Full finetuning's own improvement includes 0: there is nothing to compare." if hopeless else "",
        warnings=report.warnings,
        finished=report.finished,
        provenance=provenance_now(0),
    )


def _depth(arm: ArmSummary, report: ValidationReport, curve: GainCurve) -> SweepDepth:
    at: dict[Budget, tuple[IntervalEntry, IntervalEntry]] = {
        "steps": (arm.improvement, arm.improvement_kept),
        "compute": (arm.improvement_compute, arm.improvement_kept_compute),
    }
    if arm.freeze_depth == 0:  # full finetuning's equal compute is its equal steps
        at["compute"] = at["steps"]
    coverage = float(curve.coverage.mean[arm.freeze_depth])
    return SweepDepth(
        freeze_depth=arm.freeze_depth,
        seeds=arm.seeds,
        improvement={budget: pair[0].estimate for budget, pair in at.items()},
        interval={budget: _bounds(pair[0]) for budget, pair in at.items()},
        share={budget: pair[1].estimate for budget, pair in at.items()},
        share_interval={budget: _bounds(pair[1]) for budget, pair in at.items()},
        share_stopped=arm.improvement_kept_stopped.estimate,
        share_stopped_interval=_bounds(arm.improvement_kept_stopped),
        gain_coverage=coverage if np.isfinite(coverage) else None,
        relative_flop=arm.relative_flop,
    )


def _measured(report: ValidationReport, budget: Budget) -> dict[int, Floats]:
    """Losses (n_seeds, n_items) by depth, on the seeds that all depths have."""
    by_depth = {}
    for name, arm in report.arms.items():
        runs = [run for run in report.runs if run.arm == name]
        by_depth[arm.freeze_depth] = losses_at(runs, budget if arm.freeze_depth else "steps")
    shared = sorted(set.intersection(*(set(losses) for losses in by_depth.values()))) if by_depth else []
    return {k: np.array([losses[seed] for seed in shared]) for k, losses in by_depth.items()} if shared else {}


def _best(before: Floats, losses: dict[int, Floats]) -> int | None:
    if not losses:
        return None
    gained = {k: improvement(before, after, draw(*after.shape)).estimate for k, after in losses.items()}
    return max(gained, key=gained.__getitem__)


def _rule(
    pick: Candidate,
    before: Floats,
    measured: dict[Budget, dict[int, Floats]],
    best: dict[Budget, int | None],
    half: int,
) -> RuleRegret:
    own: dict[Budget, Interval | None] = {}
    beyond: dict[Budget, Interval | None] = {}
    for budget, losses in measured.items():
        at = best[budget]
        if at is None or pick.depth not in losses:
            own[budget] = beyond[budget] = None
            continue
        chosen, top = losses[pick.depth], losses[at]
        draws = draw(*chosen.shape)
        own[budget] = regret(before, top, chosen, draws)
        beyond[budget] = regret_beyond(before, top, chosen, losses[half], draws) if half in losses else None
    missing = "its formula gives no depth" if pick.depth is None else "its depth was not swept"
    return RuleRegret(
        freeze_depth=pick.depth,
        recommendation="freeze" if pick.recommended else "abstain",
        regret={budget: _estimate(found) for budget, found in own.items()},
        regret_interval={budget: _ends(found) for budget, found in own.items()},
        beyond_half={budget: _estimate(found) for budget, found in beyond.items()},
        beyond_half_interval={budget: _ends(found) for budget, found in beyond.items()},
        reason=missing if all(found is None for found in own.values()) else "",
    )


def _bounds(found: IntervalEntry) -> Bounds | None:
    return None if found.low is None or found.high is None else (found.low, found.high)


def _estimate(found: Interval | None) -> float | None:
    return None if found is None or not np.isfinite(found.estimate) else found.estimate


def _ends(found: Interval | None) -> Bounds | None:
    return None if found is None or not np.isfinite(found.low) else (found.low, found.high)
