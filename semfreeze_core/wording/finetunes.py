"""Real finetunes as text: verdicts of validations, the depths of a sweep, pilots, trainings, and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from semfreeze_core.records.defaults import CONFIDENCE, MIN_SEEDS
from semfreeze_core.wording.numbers import (
    CI,
    MISSING,
    Bounded,
    Estimate,
    counted,
    duration,
    flops,
    gib,
    interval,
    interval_with_ci,
    nats,
    number,
    percent,
    percent_interval,
    percent_with_ci,
)
from semfreeze_core.wording.rules import method_name
from semfreeze_core.wording.tables import Column, Table, table

if TYPE_CHECKING:
    from semfreeze_core.plan.forecast import FinetuneForecast
    from semfreeze_core.records.interval import IntervalEntry
    from semfreeze_core.records.pilots import Measurement
    from semfreeze_core.records.prediction_error import Calibration, PredictedMeasured, Quantity
    from semfreeze_core.records.sweep import RuleRegret, SweepDepth, SweepReport
    from semfreeze_core.records.validation import (
        ArmSummary,
        Budget,
        EvalPoint,
        LiveArm,
        ValidationReport,
        ValidationSettings,
    )

Shown = Literal["pass", "fail", "inconclusive"]
_SHOWN: dict[str, Shown] = {"holds": "pass", "fails": "fail", "undecided": "inconclusive"}
NOT_FINISHED = "Not finished. Run the same command again to resume."
SAME_COMPUTE_NOTE = (
    "Same compute: a cheaper variant trains on until it has used the FLOPs of full finetuning, cache included."
)
PEAK_NOTE = "A process holds more than its tensors: memory that its allocator keeps, and the checkpoint's pages."


def shown_verdict(verdict: str) -> Shown:
    """A recorded verdict as it is shown."""
    return _SHOWN[verdict]


def same(budget: Budget) -> str:
    """On what basis arms were compared, as a label."""
    return f"same {budget}"


# Validations


def verdict_sentence(report: ValidationReport, budget: Budget) -> str:
    """One basis' verdict with its numbers, like "Same compute: pass. 102% of full finetuning's loss reduction (…)."."""
    label = f"{same(budget)}: {shown_verdict(report.verdicts[budget])}".capitalize()
    return f"{label}. {_verdict_reason(report, budget)}"


def _verdict_reason(report: ValidationReport, budget: Budget) -> str:
    planned, full = report.arms.get("planned"), report.arms.get("full")
    if planned is None or full is None or not (set(planned.seeds) & set(full.seeds)):
        reason = report.reasons[budget]
        return f"{reason[:1].upper()}{reason[1:]}."
    kept = _kept(planned, budget)
    if kept.estimate is None:
        return (
            f"Full finetuning's own loss reduction, {interval_with_ci(full.improvement)} nats per example, is not "
            "significant, so there is nothing to compare with."
        )
    required = percent(1 - report.settings.margin)
    share = percent_with_ci(kept, more=f"required: {required}").replace(
        " (", " of full finetuning's loss reduction (", 1
    )
    if report.verdicts[budget] != "undecided":
        return f"{share}."
    n_seeds = len(set(planned.seeds) & set(full.seeds))
    if n_seeds < MIN_SEEDS:
        return f"{share}. A verdict needs {MIN_SEEDS} seeds."
    return f"{share}. The data do not decide; add seeds or eval examples."


def _kept(arm: ArmSummary, budget: Budget) -> IntervalEntry:
    return arm.improvement_kept if budget == "steps" else arm.improvement_kept_compute


def sample_size(report: ValidationReport) -> str:
    """What a validation's intervals rest on."""
    return f"{counted(report.baseline.n_items, 'eval example')}, {counted(len(report.settings.seeds), 'seed')}"


def depth_tested(report: ValidationReport) -> str:
    """Which depth a validation tested."""
    if report.freeze_depth is None:
        return "no depth recommended"
    return f"freeze {report.freeze_depth} of {report.n_layers} layers"


def verdict_lines(name: str, report: ValidationReport) -> list[str]:
    """A validation in a heading and one verdict per basis of comparison."""
    unfinished = "" if report.finished else "; not finished"
    heading = f"Measured in validation {name} ({depth_tested(report)}; {sample_size(report)}{unfinished}):"
    return [heading, *(verdict_sentence(report, budget) for budget in report.verdicts)]


def short_verdicts(report: ValidationReport) -> str:
    """A validation in a table cell: the depth, and the measured share on each basis with its verdict."""
    depth = "plan" if report.freeze_depth is None else f"depth {report.freeze_depth}"
    planned = report.arms.get("planned")
    shares = []
    for budget, verdict in report.verdicts.items():
        share = "" if planned is None else percent_interval(_kept(planned, budget))
        shares.append(f"{share if share != MISSING else ''} {same(budget)} ({shown_verdict(verdict)})".strip())
    return f"{depth}: {', '.join(shares)}"


def finished_at(reports: Mapping[str, ValidationReport], depth: int | None) -> dict[str, ValidationReport]:
    """The finished validations that tested a depth, by name; None: those of a plan without a recommendation."""
    return {name: report for name, report in reports.items() if report.finished and report.freeze_depth == depth}


def measured_lines(reports: Mapping[str, ValidationReport], depth: int | None, n_layers: int) -> list[str]:
    """What finished finetunes have measured of a depth, or that none has measured it.

    Args:
        reports: the run's validations by name.
        depth: k, or None where none is recommended.
        n_layers: of the model.
    """
    here = [line for name, report in finished_at(reports, depth).items() for line in verdict_lines(name, report)]
    return here or [not_measured_sentence(reports, depth, n_layers)]


def not_measured_sentence(reports: Mapping[str, ValidationReport], depth: int | None, n_layers: int) -> str:
    """That no finished finetune has measured a depth, and which depths were measured."""
    tested = "this plan" if depth is None else f"freezing {depth} of {n_layers} layers"
    elsewhere = sorted({one.freeze_depth for one in reports.values() if one.finished and one.freeze_depth is not None})
    others = f" Validated depths: {', '.join(map(str, elsewhere))}." if elsewhere else ""
    return f"Not measured yet: no finished validation of this run tested {tested}.{others}"


def finetune_conditions(settings: ValidationSettings, n_eval: int, train: str, evaluation: str) -> str:
    """Data, length and seeds of finetunes in one line.

    Args:
        settings: of the validation or sweep.
        n_eval: eval examples.
        train, evaluation: what to call the data.
    """
    sets = f"{settings.n_train:,} training examples of {train}, {n_eval:,} eval examples"
    sets += f" of {evaluation}" if evaluation else ""
    return (
        f"{sets}; {settings.steps} steps of {counted(settings.batch_size, 'example')}, "
        f"{counted(len(settings.seeds), 'seed')}."
    )


def validation_line(report: ValidationReport) -> str:
    """What was finetuned, on which data, and how."""
    settings = report.settings
    conditions = finetune_conditions(settings, settings.n_eval, settings.train, settings.eval)
    logits = "full logits" if settings.all_logits else "target-token logits"
    return f"{settings.model}: {conditions.removesuffix('.')}, {settings.precision}, {logits}."


def quality_table(report: ValidationReport) -> Table:
    """One row per variant: eval loss and share of full finetuning's loss reduction, on either basis."""
    base, both = report.baseline, len(report.verdicts) > 1
    answered = bool(base.n_accuracy_items)
    titles = ["frozen", "learning rate", *_quality_titles("steps", answered)]
    if both:
        titles += ["steps, same compute", *_quality_titles("compute", answered)]
    before = ["before training", "", "", number(base.loss), "", *([_accuracy(base.accuracy)] if answered else [])]
    rows = [before + [""] * (len(titles) + 1 - len(before))]
    for name, arm in report.arms.items():
        row = [name, str(arm.freeze_depth), f"{arm.learning_rate:g}"]
        row += [number(arm.eval_loss_after), percent_interval(arm.improvement_kept)]
        row += [_accuracy(arm.eval_accuracy_after)] if answered else []
        if both:
            row += [str(arm.steps_compute or MISSING), number(arm.eval_loss_after_compute)]
            row += [percent_interval(arm.improvement_kept_compute)]
            row += [_accuracy(arm.eval_accuracy_after_compute)] if answered else []
        rows.append(row)
    return table([Column("variant", text=True), *map(Column, titles)], rows)


def _quality_titles(budget: Budget, answered: bool) -> list[str]:
    titles = ["loss", "loss reduction", *(["accuracy"] if answered else [])]
    return [f"{title}, {same(budget)}" for title in titles]


def quality_caption(report: ValidationReport) -> str:
    """What the quality table's numbers are, and on how much they rest."""
    base = report.baseline
    accuracy = f"; accuracy on {counted(base.n_accuracy_items, 'example')}" if base.n_accuracy_items else ""
    return (
        f"Eval loss in nats per token (mean over {counted(base.n_items, 'example')}); loss reduction in % of full "
        f"finetuning's [{CI}]{accuracy}. Same steps: {report.settings.steps}."
    )


def best_checkpoint_sentence(report: ValidationReport) -> str | None:
    """Loss reductions where each variant is stopped at its own lowest loss; None where evaluations were not kept."""
    kept = {name: arm.improvement_kept_stopped for name, arm in report.arms.items() if name != "full"}
    shares = [f"{name} {percent_with_ci(share)}" for name, share in kept.items() if share.estimate is not None]
    if not shares:
        return None
    return (
        "At each variant's best checkpoint, selected on other examples, the loss reduction is, of full finetuning's: "
        f"{'; '.join(shares)}."
    )


def arm_cost_table(report: ValidationReport) -> Table:
    """One row per variant: parameters, seconds per step, and estimated beside measured compute and memory."""
    rows = []
    for name, arm in report.arms.items():
        peak = arm.peak_bytes
        rows.append(
            (
                name,
                f"{arm.trainable_parameters / 1e6:,.1f} M",
                MISSING if arm.median_step_seconds is None else f"{arm.median_step_seconds:.2f} s",
                f"{arm.cache_seconds:.1f} s" if arm.cache_seconds else MISSING,
                percent(arm.relative_flop),
                flops(arm.flop.predicted),
                flops(arm.flop.counted),
                gib(peak.predicted),
                gib(peak.measured),
            )
        )
    titles = ["parameters trained", "step", "cache", "compute, same steps", "compute, estimated", "compute, counted"]
    titles += ["memory, estimated", "memory, measured"]
    return table([Column("variant", text=True), *map(Column, titles)], rows)


def arm_cost_caption(report: ValidationReport) -> str:
    """How memory was estimated and measured."""
    kinds = dict.fromkeys(arm.peak_bytes.kind for arm in report.arms.values())
    note = f" {PEAK_NOTE}" if any(kind.startswith("process") for kind in kinds) else ""
    return (
        "Estimated memory: sum of tensor sizes; allocator and runtime overhead not included. Measured: "
        f"{', '.join(kinds)}.{note}"
    )


def _accuracy(value: float | None) -> str:
    return MISSING if value is None else percent(value)


# Sweeps


def best_depth_sentences(report: SweepReport) -> list[str]:
    """Which swept depth reduced the loss most, on each basis."""
    return [
        f"{same(budget).capitalize()}: freezing {depth} of {report.n_layers} layers reduced the loss most."
        for budget, depth in report.best_depth.items()
        if depth is not None
    ]


def sweep_line(report: SweepReport) -> str:
    """What was finetuned at every depth, on which data, and how."""
    conditions = finetune_conditions(report.settings, report.n_items, report.settings.train, "")
    return f"{conditions} Loss before training: {nats(report.loss_before)}."


def sweep_table(report: SweepReport) -> Table:
    """One row per freeze depth: compute, coverage, and the loss reduction after the same compute and the same steps."""
    stopped = any(depth.share_stopped is not None for depth in report.depths)
    budgets: tuple[Budget, ...] = ("compute", "steps")
    titles = ["frozen layers", "compute, same steps", "R(k)"]
    for budget in budgets:
        titles += [f"nats, {same(budget)}", f"of full, {same(budget)}"]
    titles += ["of full, best checkpoint"] if stopped else []
    rows = []
    for depth in sorted(report.depths, key=lambda one: one.freeze_depth):
        row = [str(depth.freeze_depth), percent(depth.relative_flop), number(depth.gain_coverage, 2)]
        for budget in budgets:
            row += _reduction_cells(depth, budget)
        row += [percent_interval(Bounded.of(depth.share_stopped, depth.share_stopped_interval))] if stopped else []
        rows.append(row)
    return table([Column(title) for title in titles], rows)


def _reduction_cells(depth: SweepDepth, budget: Budget) -> list[str]:
    reduction = Bounded.of(depth.improvement[budget], depth.interval[budget])
    share = Bounded.of(depth.share[budget], depth.share_interval[budget])
    return [MISSING if reduction.estimate is None else interval(reduction), percent_interval(share)]


SWEEP_CAPTION = (
    f"Loss reduction in nats per token, and in % of full finetuning's [{CI}, over examples and seeds]. Coverage R(k) "
    "does not forecast it. Best checkpoint: where each finetune's own loss was lowest."
)
REGRET_CAPTION = (
    "Regret: how much of the best depth's loss reduction a choice gives up; 0% is best. vs. half: regret minus that of "
    "freezing half of the layers; negative is better than half."
)


def regret_table(report: SweepReport) -> Table:
    """One row per rule and score, the least regret at the same compute first; the reason where there is no regret."""
    budgets: tuple[Budget, ...] = ("compute", "steps")
    columns = [Column("method", text=True), Column("selects")]
    for budget in budgets:
        columns += [Column(f"regret, {same(budget)}"), Column(f"vs. half, {same(budget)}")]

    def order(item: tuple[str, RuleRegret]) -> float:
        regret = item[1].regret.get("compute")
        return float("inf") if regret is None else regret

    rows = []
    for name, rule in sorted(report.rules.items(), key=order):
        depth = "none" if rule.freeze_depth is None else str(rule.freeze_depth)
        row = [method_name(name), depth + (" (not recommended)" if rule.recommendation == "abstain" else "")]
        for budget in budgets:
            regret = Bounded.of(rule.regret.get(budget), rule.regret_interval.get(budget))
            half = Bounded.of(rule.beyond_half.get(budget), rule.beyond_half_interval.get(budget))
            row.append(percent_interval(regret, 1) if regret.estimate is not None else rule.reason or MISSING)
            row.append(percent_interval(half, 1))
        rows.append(row)
    return table(columns, rows)


# Pilots


def pilots_sentence(measured: Measurement) -> str:
    """What pilots decided, and what share of a finetune they took."""
    share = percent(measured.spent_flop / measured.full_flop)
    took = f"The pilot runs ({share} of the compute of one full finetune of {measured.steps:,} steps)"
    if measured.freeze_depth is None:
        return f"{took} found no significant winner."
    return f"{took} selected freezing {measured.freeze_depth} of {measured.n_layers} layers."


def pilots_table(measured: Measurement) -> Table:
    """One row per pilot, round by round."""
    rows = []
    for n, one in enumerate(measured.rounds, 1):
        for pilot in one.pilots:
            known = pilot.ahead.estimate is not None
            rows.append(
                (
                    str(n),
                    str(pilot.freeze_depth),
                    f"{pilot.steps:,}",
                    number(pilot.loss),
                    interval(pilot.ahead) if known else pilot.reason,
                    flops(pilot.flop),
                    "yes" if pilot.freeze_depth in one.kept else "no",
                )
            )
    titles = ("round", "frozen layers", "steps", "eval loss", f"below the shallowest depth's, {CI}", "compute", "kept")
    return table([Column(title) for title in titles], rows)


# Forecast and progress


def forecast_sentence(forecast: FinetuneForecast, whose_rate: str) -> str:
    """What finetunes will take, before they start.

    Args:
        forecast: of all of them.
        whose_rate: at which rate the time was estimated, in words.
    """
    time = "time unknown (no finetune of this run was timed)"
    if forecast.seconds is not None:
        time = f"about {duration(forecast.seconds)} at the rate {whose_rate}, evaluation not included"
    return (
        f"Estimated: {flops(forecast.flop)}, {time}. Largest variant, full finetuning: {gib(forecast.peak_bytes)} of "
        "memory (if it does not fit, fewer examples are processed at a time)."
    )


def live_sentence(arm: LiveArm) -> str:
    """How far a finetune is, how fast it trains, and how much memory it has taken."""
    trained = arm.seconds - arm.cache_seconds
    pace = f", {trained / arm.step:.2f} s per step" if arm.step else ""
    loss = "" if arm.train_loss is None else f", train loss {number(arm.train_loss)}"
    progress = f"{arm.arm} (seed {arm.seed}): step {arm.step} of {arm.total_steps}"
    return f"{progress}{pace}{loss}, peak memory {gib(arm.peak_bytes)}."


def trained_lines(steps: int, losses: Sequence[float], before: EvalPoint | None, after: EvalPoint | None) -> list[str]:
    """What a training gave: train loss, and eval loss and accuracy where there are eval examples.

    Args:
        steps: of the training.
        losses: train loss of each step since the start or resumption, nats per token; none when all had been made.
        before, after: evaluations before and after it; None without eval examples.
    """
    how = f"train loss {number(losses[0])} -> {nats(losses[-1])}" if losses else "all trained before this start"
    lines = [f"{counted(steps, 'step')}; {how}"]
    if after is not None and after.loss is not None:
        was = "" if before is None or before.loss is None else f"{number(before.loss)} -> "
        lines.append(f"eval loss {was}{nats(after.loss)}")
        if after.accuracy is not None:
            was = "" if before is None or before.accuracy is None else f"{percent(before.accuracy)} -> "
            lines.append(f"accuracy {was}{percent(after.accuracy)}")
    return lines


# Calibration


def calibration_sentence(calibration: Calibration) -> str:
    """How far a quantity's estimates were off in the finetunes so far."""
    error = calibration.error
    off = error.estimate or 0.0
    direction = "overestimated" if off > 0 else "underestimated"
    points = calibration.quantity.startswith("coverage")
    unit = " percentage points" if points else "%"
    quantity = _quantity_name(calibration.quantity)
    sample = f"{counted(calibration.n_finetunes, 'finetune')}, {counted(calibration.n_arms, 'variant')}"
    mean = f"{abs(100 * off):.0f}{unit}"
    if error.low is None or error.high is None or calibration.spread is None:
        return f"On average, {quantity} was {direction} by {mean} ({sample}); one finetune gives no interval."
    ends = f"{CI} {number(100 * error.low, 0)} to {number(100 * error.high, 0)}{unit}, positive is too high"
    significant = " The error is not significant." if error.low <= 0 <= error.high else ""
    return (
        f"On average, {quantity} was {direction} by {mean} ({ends}; {sample}; standard deviation "
        f"{100 * calibration.spread:.0f}{unit}).{significant}"
    )


def _quantity_name(quantity: Quantity) -> str:
    return {"FLOP": "compute", "seconds": "time"}.get(quantity, quantity.replace("equal", "the same"))


def corrected_sentence(coverage: float, calibration: Calibration, corrected: Estimate) -> str:
    """What a plan's coverage becomes by what finetunes showed.

    Args:
        coverage: R(k) of the plan, a fraction.
        calibration: of coverage.
        corrected: R(k) less its mean error, with the range that the next finetune falls into.
    """
    low, high = corrected.low, corrected.high
    ends = "" if low is None or high is None else f" (next finetune, {percent(CONFIDENCE)}: {low:.2f} to {high:.2f})"
    return (
        f"{calibration_sentence(calibration)} Corrected for that, R(k) = {coverage:.2f} becomes "
        f"{number(corrected.estimate, 2)}{ends}."
    )


BUNDLED_CALIBRATION = "The bundled example's own estimates, next to what its finetunes measured:"
CALIBRATION_CAPTION = (
    "Coverage is a fraction; memory is in bytes; time, and its estimate, are relative to full finetuning's."
)


def calibration_table(pairs: Sequence[PredictedMeasured]) -> Table:
    """One row per estimate and what was measured."""
    rows = []
    for pair in pairs:
        form = "{:.2f}" if pair.quantity.startswith(("coverage", "seconds")) else "{:.3g}"
        quantity = _quantity_name(pair.quantity)
        rows.append((pair.finetune, pair.arm, quantity, form.format(pair.predicted), form.format(pair.measured)))
    names = [Column(title, text=True) for title in ("finetune", "variant", "quantity")]
    return table([*names, Column("estimated"), Column("measured")], rows)
