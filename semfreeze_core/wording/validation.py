"""Validations as text: verdicts, the quality and the cost of every variant, and how far one is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from semfreeze_core.records.defaults import MIN_SEEDS
from semfreeze_core.wording.costs import at_a_time
from semfreeze_core.wording.numbers import (
    CI,
    MISSING,
    counted,
    flops,
    gib,
    interval_with_ci,
    number,
    percent,
    percent_interval,
    percent_with_ci,
)
from semfreeze_core.wording.rates import learning_rate, rates_line, search_line
from semfreeze_core.wording.tables import Column, Table, table

if TYPE_CHECKING:
    from semfreeze_core.plan.document import Badge
    from semfreeze_core.records.interval import IntervalEntry
    from semfreeze_core.records.training import DepthSwitch
    from semfreeze_core.records.validation import ArmSummary, Budget, LiveArm, ValidationReport, ValidationSettings

Shown = Literal["pass", "fail", "inconclusive"]
_SHOWN: dict[str, Shown] = {"holds": "pass", "fails": "fail", "undecided": "inconclusive"}
RETRIED = "The same command tries again."
NOT_FINISHED = "Not finished. Run the same command again to resume."
SAME_COMPUTE_NOTE = (
    "Same compute: a cheaper variant trains on until it has used the FLOPs of full finetuning, cache included."
)
BATCH_DEPTHS = (
    "{name} freezes in each batch the least depth that its examples pick by the paper rule. Only semfreeze trains it, "
    "and only in a validation: plans and exports name one depth for all."
)
PEAK_NOTE = "A process holds more than its tensors: memory that its allocator keeps, and the checkpoint's pages."


def shown_verdict(verdict: str) -> Shown:
    """A recorded verdict as it is shown."""
    return _SHOWN[verdict]


def same(budget: Budget) -> str:
    """On what basis arms were compared, as a label."""
    return f"same {budget}"


def verdict_sentence(report: ValidationReport, budget: Budget) -> str:
    """One basis' verdict with its numbers, like "Same compute: pass. 102% of full finetuning's loss reduction (…)."."""
    label = f"{same(budget)}: {shown_verdict(report.verdicts[budget])}".capitalize()
    return f"{label}. {_verdict_reason(report, budget)}"


def _verdict_reason(report: ValidationReport, budget: Budget) -> str:
    planned, full = report.arms.get("planned"), report.arms.get("full")
    if planned is None or full is None or not (set(planned.seeds) & set(full.seeds)):
        reason = report.reasons[budget]
        return f"{reason[:1].upper()}{reason[1:]}."
    reduction = _reduction_share(planned, budget)
    if reduction.estimate is None:
        return (
            f"Full finetuning's own loss reduction, {interval_with_ci(full.improvement)} nats per example, is not "
            "significant, so there is nothing to compare with."
        )
    required = percent(1 - report.settings.margin)
    share = percent_with_ci(reduction, more=f"required: {required}").replace(
        " (", " of full finetuning's loss reduction (", 1
    )
    if report.verdicts[budget] != "undecided":
        return f"{share}."
    n_seeds = len(set(planned.seeds) & set(full.seeds))
    if n_seeds < MIN_SEEDS:
        return f"{share}. A verdict needs {MIN_SEEDS} seeds."
    return f"{share}. The data do not decide; add seeds or eval examples."


def _reduction_share(arm: ArmSummary, budget: Budget) -> IntervalEntry:
    return arm.improvement_kept if budget == "steps" else arm.improvement_kept_compute


def sample_size(report: ValidationReport) -> str:
    """What a validation's intervals rest on."""
    return f"{counted(report.baseline.n_items, 'eval example')}, {counted(len(report.settings.seeds), 'seed')}"


def switch_depths(switch: DepthSwitch) -> str:
    """The two freeze depths of a finetune that freezes deeper at a step."""
    return f"{switch.wide_depth}, then {switch.deep_depth}"


def depth_tested(report: ValidationReport) -> str:
    """Which depth a validation tested."""
    if report.layers is not None:
        return f"train layers {report.layers} of {report.n_layers}"
    if report.switch is not None:
        return f"freeze {switch_depths(report.switch)} of {report.n_layers} layers"
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
    depth = depth if report.layers is None else f"layers {report.layers}"
    depth = depth if report.switch is None else f"depth {switch_depths(report.switch)}"
    planned = report.arms.get("planned")
    shares = []
    for budget, verdict in report.verdicts.items():
        share = "" if planned is None else percent_interval(_reduction_share(planned, budget))
        shares.append(f"{share if share != MISSING else ''} {same(budget)} ({shown_verdict(verdict)})".strip())
    return f"{depth}: {', '.join(shares)}"


def finished_at(
    reports: Mapping[str, ValidationReport],
    depth: int | None,
    layers: str | None = None,
    switch: DepthSwitch | None = None,
) -> dict[str, ValidationReport]:
    """The finished validations that tested a depth, by name; None: those of a plan without a recommendation.

    Where a depth does not say what a plan trains, `layers` does, as ranges, or its `switch`.
    """
    return {
        name: report
        for name, report in reports.items()
        if report.finished and (report.freeze_depth, report.layers, report.switch) == (depth, layers, switch)
    }


def measured_sentence(reports: Mapping[str, ValidationReport], depth: int | None) -> str:
    """What the newest finished finetunes measured, of a depth or else of another, or that none did.

    Args:
        reports: the run's validations by name, the newest last.
        depth: k, or None where none is recommended.
    """
    finished = finished_at(reports, depth) or {name: report for name, report in reports.items() if report.finished}
    if not finished:
        return "Not measured yet."
    report = list(finished.values())[-1]
    budget: Budget = "compute" if "compute" in report.verdicts else "steps"
    return f"Measured ({depth_tested(report)}; {sample_size(report)}). {verdict_sentence(report, budget)}"


def evidence_text(badge: Badge, reports: Mapping[str, ValidationReport], depth: int | None) -> str:
    """What a plan's badge rests on, in short: the shares that finished finetunes kept, or that there are none.

    Args:
        badge: which stands beside it.
        reports: the run's validations by name.
        depth: k, or None where none is recommended.
    """
    tested = list(finished_at(reports, depth).values())
    if tested:
        return " ".join(map(_share_sentence, tested))
    text = "Short finetunes of several variants chose it." if badge == "checked" else "No finetune has confirmed it."
    depths = validated_depths(reports)
    return f"{text} Validated depths: {', '.join(map(str, depths))}." if depths else text


def _share_sentence(report: ValidationReport) -> str:
    planned, parts = report.arms.get("planned"), []
    of_what = " of full finetuning's loss reduction"
    for budget, verdict in report.verdicts.items():
        share = MISSING if planned is None else percent_interval(_reduction_share(planned, budget))
        share_text = "unknown" if share == MISSING else f"{share}{of_what}"
        parts.append(f"{same(budget).capitalize()}: {share_text}, {shown_verdict(verdict)}.")
        of_what = ""  # said once
    return " ".join([*parts, f"{CI}, {sample_size(report)}."])


def measured_lines(
    reports: Mapping[str, ValidationReport], depth: int | None, n_layers: int, switch: DepthSwitch | None = None
) -> list[str]:
    """What finished finetunes have measured of a depth, or that none has measured it.

    Args:
        reports: the run's validations by name.
        depth: k, or None where none is recommended.
        n_layers: of the model.
        switch: of a plan that freezes deeper at a step.
    """
    tested = finished_at(reports, depth, switch=switch)
    here = [line for name, report in tested.items() for line in verdict_lines(name, report)]
    return here or [not_measured_sentence(reports, depth, n_layers, switch=switch)]


def validated_depths(reports: Mapping[str, ValidationReport]) -> list[int]:
    """Freeze depths that finished validations tested, rising; those of layer sets and switches are left out."""
    finished = [one for one in reports.values() if one.finished and one.layers is None and one.switch is None]
    return sorted({one.freeze_depth for one in finished if one.freeze_depth is not None})


def not_measured_sentence(
    reports: Mapping[str, ValidationReport],
    depth: int | None,
    n_layers: int,
    layers: str | None = None,
    switch: DepthSwitch | None = None,
) -> str:
    """That no finished finetune has measured a depth or set of layers, and which depths were measured."""
    tested = "this plan" if depth is None else f"freezing {depth} of {n_layers} layers"
    tested = tested if layers is None else f"training layers {layers} of {n_layers}"
    tested = tested if switch is None else f"freezing {switch_depths(switch)} of {n_layers} layers"
    elsewhere = validated_depths(reports)
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
        f"{sets}; {settings.steps} steps of {counted(settings.batch_size, 'example')}{at_a_time(settings.setup)}, "
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
        row = [name, frozen_layers(arm), learning_rate(arm.learning_rate)]
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
    switches = [f" {switch_sentence(name, arm.switch)}" for name, arm in report.arms.items() if arm.switch is not None]
    switches += [f" {BATCH_DEPTHS.format(name=name)}" for name, arm in report.arms.items() if _has_own_depths(arm)]
    return (
        f"Eval loss in nats per token (mean over {counted(base.n_items, 'example')}); loss reduction in % of full "
        f"finetuning's [{CI}]{accuracy}. Same steps: {report.settings.steps}.{''.join(switches)}"
    )


def frozen_layers(arm: ArmSummary) -> str:
    """How many layers a variant froze, or how many at first and then, or the least and most in a batch."""
    if _has_own_depths(arm):
        return f"{arm.freeze_depth} to {arm.deepest_batch}"
    return str(arm.freeze_depth) if arm.switch is None else switch_depths(arm.switch)


def _has_own_depths(arm: ArmSummary) -> bool:
    return arm.deepest_batch is not None


def switch_sentence(name: str, switch: DepthSwitch) -> str:
    """How a variant that freezes deeper after some steps is trained."""
    return (
        f"{name} freezes {counted(switch.wide_depth, 'layer')} for {counted(switch.step, 'step')}, then "
        f"{switch.deep_depth}."
    )


def rate_lines(report: ValidationReport) -> list[str]:
    """How the variants' learning rates were chosen, and all that were tried."""
    searches = {name: arm.rate_search for name, arm in report.arms.items()}
    searched = {name: search for name, search in searches.items() if search is not None}
    return [rates_line(searches), *(f"{name}: {search_line(search)}" for name, search in searched.items())]


def best_checkpoint_sentence(report: ValidationReport) -> str | None:
    """Loss reductions where each variant is stopped at its own lowest loss; None where evaluations were not kept."""
    share_by_variant = {name: arm.improvement_kept_stopped for name, arm in report.arms.items() if name != "full"}
    shares = [
        f"{name} {percent_with_ci(share)}" for name, share in share_by_variant.items() if share.estimate is not None
    ]
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


def failed_variants_sentence(report: ValidationReport) -> str | None:
    """Which variants failed, why, and what to do about it; None where all have trained."""
    failed = {name: arm for name, arm in report.arms.items() if arm.failed_seeds}
    if not failed:
        return None
    reasons = [
        f"{name}, {'seed' if len(arm.failed_seeds) == 1 else 'seeds'} {', '.join(map(str, arm.failed_seeds))} "
        f"({arm.reason.removesuffix(RETRIED).strip().removesuffix('.')})"
        for name, arm in failed.items()
    ]
    advice = []
    if any(run.retried for run in report.runs):
        advice.append("The same command trains the failed ones again.")
    if any(run.status == "failed" and not run.retried for run in report.runs):
        advice.append("A loss that is not a number stays so: choose a lower --lr and another --out.")
    heading = f"{len(failed)} of {counted(len(report.arms), 'variant')} failed: {'; '.join(reasons)}."
    return f"{heading} Finished variants are kept. {' '.join(advice)}"


def live_sentence(arm: LiveArm) -> str:
    """How far a finetune is, how fast it trains, and how much memory it has taken."""
    trained = arm.seconds - arm.cache_seconds - arm.switch_cache_seconds
    pace = f", {trained / arm.step:.2f} s per step" if arm.step else ""
    loss = "" if arm.train_loss is None else f", train loss {number(arm.train_loss)}"
    progress = f"{arm.arm} (seed {arm.seed}): step {arm.step} of {arm.total_steps}"
    return f"{progress}{pace}{loss}, peak memory {gib(arm.peak_bytes)}."
