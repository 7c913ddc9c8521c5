"""From the arms' runs to one report with its verdict."""

from collections.abc import Mapping, Sequence
from statistics import mean, median

import numpy as np
import numpy.typing as npt

from semfreeze_core.cost import batch_depths
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.validation.overfitting import overfitting_warnings, stopped_losses
from semfreeze_core.gains.noninferiority import Judgment, draw, improvement, improvement_kept, judge
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.interval import Interval, IntervalEntry
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.validation import (
    ArmRun,
    ArmSummary,
    Baseline,
    Budget,
    EvalPoint,
    FailureCause,
    FlopEntry,
    PeakEntry,
    ValidationReport,
    ValidationSettings,
)
from semfreeze_core.wording.layers import set_of
from semfreeze_core.wording.rates import search_warnings

Floats = npt.NDArray[np.float64]
_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


def build_report(
    plan: FreezePlan,
    settings: ValidationSettings,
    baseline: Baseline,
    runs: Sequence[ArmRun],
    relative_flop: dict[str, float],
    warnings: Sequence[str],
) -> ValidationReport:
    """Combine the arms' runs; arms without a run yet are omitted, and then the report is not finished.

    Args:
        plan: what was validated.
        settings: how.
        baseline: the model before training.
        runs: finished and failed ones, of any arms and seeds.
        relative_flop: estimated FLOPs of each arm at the same steps, divided by full finetuning's.
        warnings: about the data; those about overfitting are added.
    """
    by_arm = {name: [run for run in runs if run.arm == name] for name in settings.arms}
    by_arm = {name: arm_runs for name, arm_runs in by_arm.items() if arm_runs}
    judgments = {budget: _judge(by_arm, baseline, settings, budget) for budget in _budgets(settings)}
    decisive = judgments[settings.budget]
    arms = {
        name: _summary(arm_runs, by_arm.get("full", []), baseline, settings, relative_flop[name])
        for name, arm_runs in by_arm.items()
    }
    coverage = plan.gain_coverage.estimate
    return ValidationReport(
        model=plan.model,
        freeze_depth=plan.freeze_depth,
        layers=set_of(plan.trainable),
        switch=plan.switch,
        n_layers=plan.n_layers,
        predicted_gain_coverage=coverage,
        settings=settings,
        baseline=baseline,
        arms=arms,
        improvement_kept=IntervalEntry.of(decisive.reduction_share),
        verdict=decisive.verdict,
        reason=decisive.reason,
        verdicts={budget: judgment.verdict for budget, judgment in judgments.items()},
        reasons={budget: judgment.reason for budget, judgment in judgments.items()},
        warnings=[*warnings, *_rate_warnings(arms), *overfitting_warnings(by_arm)],
        finished=len(runs) == len(settings.arms) * len(settings.seeds),
        runs=list(runs),
        provenance=provenance_now(0),
    )


def _rate_warnings(arms: dict[str, ArmSummary]) -> list[str]:
    return [
        f"{name}: {warning}"
        for name, arm in arms.items()
        if arm.rate_search is not None
        for warning in search_warnings(arm.rate_search)
    ]


def _budgets(settings: ValidationSettings) -> tuple[Budget, ...]:
    return ("steps",) if settings.budget == "steps" else ("steps", "compute")


def point_at(run: ArmRun, budget: Budget) -> EvalPoint | None:
    """The run's evaluation at the same steps or the same compute; None when it did not get there."""
    return next((point for point in run.points if budget in point.marks), None)


def losses_at(runs: Sequence[ArmRun], budget: Budget) -> dict[int, list[float]]:
    """Losses by example of each seed that got to the mark."""
    points = {run.seed: point_at(run, budget) for run in runs if run.status == "done"}
    return {s: p.item_losses for s, p in points.items() if p is not None and p.item_losses is not None}


def _judge(
    by_arm: dict[str, list[ArmRun]], baseline: Baseline, settings: ValidationSettings, budget: Budget
) -> Judgment:
    """Planned compared with full; full is evaluated at the same steps in both cases, as the same compute is its own."""
    full, planned = losses_at(by_arm.get("full", []), "steps"), losses_at(by_arm.get("planned", []), budget)
    seeds = sorted(full.keys() & planned.keys())
    if not seeds:
        missing = [name for name, losses in (("full", full), ("planned", planned)) if not losses]
        reason = (
            f"there is no finished run of {' and '.join(missing)}"
            if missing
            else "no seed is finished in both variants"
        )
        return Judgment("undecided", reason, _UNKNOWN, _UNKNOWN, _UNKNOWN)
    stacked = [np.array([arm[seed] for seed in seeds]) for arm in (full, planned)]
    return judge(np.array(baseline.item_losses), *stacked, margin=settings.margin)


def _summary(
    runs: list[ArmRun], full: list[ArmRun], baseline: Baseline, settings: ValidationSettings, relative_flop: float
) -> ArmSummary:
    done = [run for run in runs if run.status == "done"]
    failed = [run for run in runs if run.status == "failed"]
    shown = done or runs
    first = shown[0]
    return ArmSummary(
        freeze_depth=first.trained.freeze_depth,
        switch=first.switch,
        deepest_batch=_deepest_batch(first, settings),
        learning_rate=first.learning_rate,
        trainable_parameters=first.trainable_parameters,
        seeds=[run.seed for run in done],
        failed_seeds=[run.seed for run in failed],
        reason="; ".join(dict.fromkeys(run.reason for run in failed)),
        eval_loss_before=baseline.loss,
        eval_loss_after=_mean_loss(done, "steps"),
        eval_loss_after_compute=_mean_loss(done, "compute"),
        eval_accuracy_before=baseline.accuracy,
        eval_accuracy_after=_mean_accuracy(done, "steps"),
        eval_accuracy_after_compute=_mean_accuracy(done, "compute"),
        improvement=_improvement(done, baseline, "steps"),
        improvement_compute=_improvement(done, baseline, "compute"),
        improvement_kept=_improvement_kept(losses_at(done, "steps"), losses_at(full, "steps"), baseline),
        improvement_kept_compute=_improvement_kept(losses_at(done, "compute"), losses_at(full, "steps"), baseline),
        improvement_kept_stopped=_improvement_kept(stopped_losses(done), stopped_losses(full), baseline),
        steps=settings.steps,
        steps_compute=next((p.step for run in done if (p := point_at(run, "compute")) is not None), None),
        train_seconds=mean(_seconds_to(run, settings.steps) for run in shown),
        cache_seconds=mean(run.cache_seconds + run.switch_cache_seconds for run in shown),
        median_step_seconds=_median_step_seconds(shown),
        rate_search=next((run.rate_search for run in runs if run.rate_search is not None), None),
        relative_flop=relative_flop,
        flop=FlopEntry(
            counted=round(mean(run.flop.counted for run in shown)),
            predicted=round(mean(run.flop.predicted for run in shown)),
        ),
        peak_bytes=PeakEntry(
            measured=max(run.peak_bytes.measured for run in shown),
            predicted=first.peak_bytes.predicted,
            kind=first.peak_bytes.kind,
            saved_tensors=first.peak_bytes.saved_tensors,
            saved_tensors_predicted=first.peak_bytes.saved_tensors_predicted,
        ),
        notes=list(dict.fromkeys(note for run in shown for note in run.notes)),
    )


def _deepest_batch(run: ArmRun, settings: ValidationSettings) -> int | None:
    """The greatest freeze depth of its batches, where they have their own."""
    if run.example_depths is None:
        return None
    return batch_depths(run.example_depths, settings.setup.batch_size)[-1]


def _seconds_to(run: ArmRun, step: int) -> float:
    """Training time of the first steps, without the cache pass."""
    return sum(run.step_seconds[:step])


def _median_step_seconds(runs: Sequence[ArmRun]) -> float | None:
    seconds = [s for run in runs for s in run.step_seconds]
    return median(seconds) if seconds else None


def _mean_loss(runs: Sequence[ArmRun], budget: Budget) -> float | None:
    losses = [p.loss for run in runs if (p := point_at(run, budget)) is not None and p.loss is not None]
    return mean(losses) if losses else None


def _mean_accuracy(runs: Sequence[ArmRun], budget: Budget) -> float | None:
    accuracies = [p.accuracy for run in runs if (p := point_at(run, budget)) is not None and p.accuracy is not None]
    return mean(accuracies) if accuracies else None


def _improvement(runs: Sequence[ArmRun], baseline: Baseline, budget: Budget) -> IntervalEntry:
    losses = losses_at(runs, budget)
    if not losses:
        return IntervalEntry.of(_UNKNOWN)
    after = np.array(list(losses.values()))
    return IntervalEntry.of(improvement(np.array(baseline.item_losses), after, draw(*after.shape)))


def _improvement_kept(
    ours: Mapping[int, Sequence[float] | Floats], theirs: Mapping[int, Sequence[float] | Floats], baseline: Baseline
) -> IntervalEntry:
    """Share of full finetuning's loss reduction, on the seeds of both; losses of the same first examples by seed."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return IntervalEntry.of(_UNKNOWN)
    whole, part = (np.array([arm[seed] for seed in seeds]) for arm in (theirs, ours))
    before = np.array(baseline.item_losses)[: whole.shape[1]]
    return IntervalEntry.of(improvement_kept(before, whole, part, draw(*whole.shape)))


def failed_run(arm: Arm, settings: ArmSettings, seed: int, reason: str, cause: FailureCause = "refused") -> ArmRun:
    """A run that gave nothing, with the cause and the reason."""
    return ArmRun(
        arm=arm.name,
        seed=seed,
        status="failed",
        reason=reason,
        cause=cause,
        trained=arm.parts,
        lora=arm.lora,
        switch=arm.switch,
        example_depths=arm.example_depths,
        learning_rate=arm.learning_rate,
        trainable_parameters=0,
        steps=0,
        micro_batch_size=settings.micro_batch_size,
        accumulation=settings.accumulation,
        prefix_cache=False,
        notes=[],
        train_losses=[],
        step_seconds=[],
        cache_seconds=0.0,
        cache_bytes=0,
        points=[],
        flop=FlopEntry(counted=0, predicted=0),
        peak_bytes=PeakEntry(
            measured=0,
            predicted=None,
            kind="process resident, less its baseline after import",
            saved_tensors=0,
            saved_tensors_predicted=None,
        ),
    )
