"""Several freeze depths finetuned for real: which is best, and the regret of each rule's depth.

A sweep is a validation whose arms are depths; it is saved, resumed and opened like one.
"""

from pathlib import Path

import numpy as np

from semfreeze_core.finetune.runner.runner import Runner
from semfreeze_core.finetune.validation.report import losses_at
from semfreeze_core.finetune.validation.request import ValidationRequest, with_kept_sources
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.gains.noninferiority import Floats, draw, improvement
from semfreeze_core.gains.regret import regret, regret_beyond
from semfreeze_core.plan.candidate_depths import Candidate
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.gain import GainCurve, Interval
from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.sweep import SWEEP, Bounds, RuleRegret, SweepDepth, SweepReport
from semfreeze_core.records.usual_depths import half_depth
from semfreeze_core.records.validation import ArmSummary, Budget, ValidationReport
from semfreeze_core.storage import write_atomically

_BUDGETS: tuple[Budget, ...] = ("steps", "compute")


def sweep(
    request: ValidationRequest,
    curve: GainCurve,
    candidates: dict[str, Candidate],
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    runner: Runner | str | None = None,
) -> SweepReport:
    """Train every depth with every seed, and report the regret of each rule.

    Args:
        request: its arms are the depths, and finetunes that freeze deeper at a step.
        curve: of the analysis.
        candidates: depths of the rules.
        folder: as for `validate`; sweep.json is written next to its report.
        overwrite: replace another sweep.
        progress: receives steps and stages.
        runner: who trains the depths, as `open_runner` takes it.

    Raises:
        InputError: as for `validate`.
    """
    report = validate(request, folder, overwrite=overwrite, progress=progress, runner=runner)
    sweep_report = build_sweep(report, curve, candidates)
    written = sweep_report.model_copy(update={"settings": with_kept_sources(report.settings, folder)})
    write_atomically(folder / SWEEP, written.model_dump_json(indent=1) + "\n")
    return sweep_report


def build_sweep(report: ValidationReport, curve: GainCurve, candidates: dict[str, Candidate]) -> SweepReport:
    """What a validation whose arms are depths shows of the depths and the rules."""
    arms = [_depth(arm, report, curve) for arm in report.arms.values()]
    before = np.array(report.baseline.item_losses)
    measured = {budget: _measured(report, budget) for budget in _BUDGETS}
    best = {budget: _best(before, losses) for budget, losses in measured.items()}
    return SweepReport(
        settings=report.settings,
        n_layers=report.n_layers,
        n_items=report.baseline.n_items,
        loss_before=report.baseline.loss,
        best_depth=best,
        depths=[arm for arm in arms if arm.switch is None],
        progressive=[arm for arm in arms if arm.switch is not None],
        rules={
            name: _rule(pick, before, measured, best, half_depth(report.n_layers), _missing(pick, report))
            for name, pick in candidates.items()
        },
        reason=_nothing_to_compare(report),
        warnings=report.warnings,
        finished=report.finished,
        provenance=provenance_now(0),
    )


def _nothing_to_compare(report: ValidationReport) -> str:
    """Why no depth can be compared with full finetuning; "" where they can."""
    full = report.arms.get("full")
    if full is None:
        return ""
    if not full.seeds:
        return "Full finetuning failed, so there is nothing to compare with."
    if full.improvement.low is None or full.improvement.low <= 0:
        return "The interval of full finetuning's loss reduction includes 0, so there is nothing to compare."
    return ""


def _missing(pick: Candidate, report: ValidationReport) -> str:
    """Why a rule's depth has no regret, where it has none."""
    if pick.depth is None:
        return "its formula gives no depth"
    swept = [arm for arm in report.arms.values() if arm.switch is None]
    failed = any(arm.freeze_depth == pick.depth and not arm.seeds for arm in swept)
    return "its depth failed" if failed else "its depth was not swept"


def _depth(arm: ArmSummary, report: ValidationReport, curve: GainCurve) -> SweepDepth:
    at: dict[Budget, tuple[IntervalEntry, IntervalEntry]] = {
        "steps": (arm.improvement, arm.improvement_kept),
        "compute": (arm.improvement_compute, arm.improvement_kept_compute),
    }
    if arm.freeze_depth == 0 and arm.switch is None:  # its steps at the same compute are the same steps
        at["compute"] = at["steps"]
    coverage = float("nan") if arm.switch is not None else float(curve.coverage.mean[arm.freeze_depth])
    return SweepDepth(
        freeze_depth=arm.freeze_depth,
        switch=arm.switch,
        learning_rate=arm.learning_rate,
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
    """Losses (n_seeds, n_items) by depth, on the seeds that all depths with a result have."""
    by_depth = {}
    for name, arm in report.arms.items():
        if arm.switch is not None:
            continue
        runs = [run for run in report.runs if run.arm == name]
        if losses := losses_at(runs, budget if arm.freeze_depth else "steps"):  # none of a depth that failed
            by_depth[arm.freeze_depth] = losses
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
    missing: str,
) -> RuleRegret:
    regrets: dict[Budget, Interval | None] = {}
    beyond: dict[Budget, Interval | None] = {}
    for budget, losses in measured.items():
        at = best[budget]
        if at is None or pick.depth not in losses:
            regrets[budget] = beyond[budget] = None
            continue
        chosen, top = losses[pick.depth], losses[at]
        draws = draw(*chosen.shape)
        regrets[budget] = regret(before, top, chosen, draws)
        beyond[budget] = regret_beyond(before, top, chosen, losses[half], draws) if half in losses else None
    return RuleRegret(
        freeze_depth=pick.depth,
        recommendation="freeze" if pick.recommended else "abstain",
        regret={budget: _estimate(interval) for budget, interval in regrets.items()},
        regret_interval={budget: _ends(interval) for budget, interval in regrets.items()},
        beyond_half={budget: _estimate(interval) for budget, interval in beyond.items()},
        beyond_half_interval={budget: _ends(interval) for budget, interval in beyond.items()},
        reason=missing if all(interval is None for interval in regrets.values()) else "",
    )


def _bounds(interval: IntervalEntry) -> Bounds | None:
    return None if interval.low is None or interval.high is None else (interval.low, interval.high)


def _estimate(interval: Interval | None) -> float | None:
    return None if interval is None or not np.isfinite(interval.estimate) else interval.estimate


def _ends(interval: Interval | None) -> Bounds | None:
    return None if interval is None or not np.isfinite(interval.low) else (interval.low, interval.high)
