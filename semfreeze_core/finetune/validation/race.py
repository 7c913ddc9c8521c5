"""A race of variants: their first steps on the training's own batches, each at its own best learning rate.

It is a validation that ends where learning rates are compared, and its winner's checkpoint starts the training.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.files import checkpoint_folder
from semfreeze_core.finetune.arm.trainer import last_complete_checkpoint
from semfreeze_core.finetune.validation.race_estimate import RaceEstimate, estimate_race, last_evaluation_flop
from semfreeze_core.finetune.validation.race_request import RaceRequest
from semfreeze_core.finetune.validation.request import Prepared, prepare
from semfreeze_core.finetune.validation.validate import run_name, validate
from semfreeze_core.gains.race import RaceChoice, RaceLosses, choose_balanced, choose_lowest
from semfreeze_core.gains.task_checks import loss_variation
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import MARGIN, RACE_CONFIDENCE
from semfreeze_core.records.race import RACE_RESULT, Race, RaceVariant
from semfreeze_core.records.validation import REPORT, ArmRun, Baseline, ValidationReport
from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.race import NOT_RANKED, RaceSeconds, nothing_learned, race_reason, race_time_line


def race(request: RaceRequest, folder: Path, progress: Progress = silent) -> Race:
    """Race the variants and choose one.

    Args:
        request: what is raced.
        folder: of the race's validation; results that are there are used.
        progress: receives steps and stages.

    Raises:
        InputError: as `prepare`; or no variant learned anything at its rates.
    """
    path = folder / RACE_RESULT
    if path.exists():
        return Race.model_validate_json(path.read_text())
    validation = request.validation()
    prepared = prepare(validation, progress)
    estimate = estimate_race(request, prepared)

    def time(baseline: Baseline) -> None:
        if baseline.seconds:
            line = race_time_line(_seconds(estimate, estimate.baseline_flop / baseline.seconds))
            progress(ProgressEvent("Race", message=line))

    report = validate(validation, folder, progress=progress, after_baseline=time)
    result = decide_race(request, prepared, report)
    write_atomically(path, result.model_dump_json(indent=1) + "\n")
    for name in request.variants:
        if name != result.chosen:
            shutil.rmtree(checkpoint_folder(_result_path(folder, name)), ignore_errors=True)
    return result


def winning_checkpoint(folder: Path, chosen: str) -> Path | None:
    """The checkpoint of the chosen variant's last step in the race; None where a training has taken it."""
    checkpoints = checkpoint_folder(_result_path(folder, chosen))
    return last_complete_checkpoint(checkpoints) if checkpoints.is_dir() else None


def fitting_micro_batch(folder: Path, chosen: str) -> int | None:
    """Examples at a time that the chosen variant found room for, where memory ran out; else None."""
    run = ArmRun.model_validate_json(_result_path(folder, chosen).read_text())
    setup = ValidationReport.model_validate_json((folder / REPORT).read_text()).settings.setup
    return run.micro_batch_size if run.micro_batch_size < setup.examples_per_pass else None


def decide_race(request: RaceRequest, prepared: Prepared, report: ValidationReport) -> Race:
    """The race's result from its validation's.

    Raises:
        InputError: no variant learned anything.
    """
    runs = {run.arm: run for run in report.runs}
    estimate = estimate_race(request, prepared)
    losses = RaceLosses(
        before=np.array(report.baseline.item_losses),
        tokens=np.array([float(e.supervised.sum()) for e in prepared.data.evaluation.tokenized]),
        after={
            name: np.array(run.points[-1].item_losses)
            for name, run in runs.items()
            if run.status == "done" and run.points and run.points[-1].item_losses
        },
        flop={name: cost.flop for name, cost in estimate.costs.items()},
    )
    if not losses.learned():
        raise InputError(nothing_learned(list(runs.values())))
    seconds = {name: _run_seconds(run, estimate.costs[name].flop) for name, run in runs.items()}
    choice = _choose(request, losses, seconds)
    tried = _deeper_depth(request, losses, choice, estimate)
    variants = [
        _variant(runs[name], depth, losses, choice, estimate, seconds)
        for name, depth in request.variants.items()
        if name in runs
    ]
    return Race(
        objective=request.objective,
        steps=request.raced_steps,
        batch_size=request.setup.batch_size,
        n_eval=len(losses.before),
        margin=MARGIN,
        confidence=RACE_CONFIDENCE,
        loss_before=float(losses.before.mean()),
        token_loss_before=float(np.average(losses.before, weights=losses.tokens)),
        loss_variation=loss_variation(losses.before),
        variants=variants,
        chosen=choice.variant,
        told_apart=choice.decided,
        deeper_depth=tried,
        reason=race_reason(request.objective, variants, choice.variant, choice.decided, len(losses.before), tried),
        lost_flop=estimate.baseline_flop
        + sum(_lost_flop(prepared, run, wins=name == choice.variant) for name, run in runs.items()),
        full_flop=estimate.full_flop,
    )


def _choose(request: RaceRequest, losses: RaceLosses, seconds: Mapping[str, float | None]) -> RaceChoice:
    objective, learned = request.objective, losses.learned()
    if objective.kind == "balanced":
        return choose_balanced(losses, request.safe)
    if objective.kind == "time" and objective.limit is not None:
        known = {name: value for name in learned if (value := seconds[name]) is not None}
        within = [name for name, value in known.items() if value <= objective.limit]
        return choose_lowest(losses, within or [min(known, key=lambda name: known[name])])
    return choose_lowest(losses, learned)


def _deeper_depth(request: RaceRequest, losses: RaceLosses, choice: RaceChoice, estimate: RaceEstimate) -> int | None:
    """The depth that a trial tries from the winner's checkpoint: the deepest one's, which trained and did not win."""
    trial = estimate.trial
    if trial is None or request.variants[choice.variant] != trial.wide_depth:
        return None
    trained = {request.variants[name] for name in losses.after}
    return trial.deep_depth if trial.deep_depth in trained else None


def _variant(
    run: ArmRun,
    depth: int,
    losses: RaceLosses,
    choice: RaceChoice,
    estimate: RaceEstimate,
    seconds: Mapping[str, float | None],
) -> RaceVariant:
    after = losses.after.get(run.arm)
    items, tokens = choice.standings.get(run.arm, (None, None))
    reason = run.reason if after is None else "" if items is not None else NOT_RANKED
    return RaceVariant(
        name=run.arm,
        freeze_depth=depth,
        learning_rate=run.learning_rate,
        loss=None if after is None else float(after.mean()),
        token_loss=None if after is None else float(np.average(after, weights=losses.tokens)),
        items_standing=items,
        tokens_standing=tokens,
        run_flop=estimate.costs[run.arm].flop,
        run_seconds=seconds[run.arm],
        reason=reason,
    )


def _run_seconds(run: ArmRun, whole_flop: int) -> float | None:
    """The whole finetune's seconds at the speed of the variant's own race, evaluation not included."""
    spent = run.points[-1].seconds if run.points else 0.0
    return whole_flop * spent / run.flop.counted if spent and run.flop.counted else None


def _lost_flop(prepared: Prepared, run: ArmRun, *, wins: bool) -> int:
    """What of a variant's race does not serve the training: its steps unless it wins, losing rates, evaluations."""
    searched = 0 if run.rate_search is None else run.rate_search.spent_flop
    evaluation = last_evaluation_flop(prepared, run.arm) if run.points else 0
    return searched + evaluation + (0 if wins else run.flop.counted)


def _seconds(estimate: RaceEstimate, flop_per_second: float) -> RaceSeconds:
    runs = [cost.flop / flop_per_second for cost in estimate.costs.values()]
    price = estimate.price
    return RaceSeconds(price.likely / flop_per_second, price.worst / flop_per_second, min(runs), max(runs))


def _result_path(folder: Path, name: str) -> Path:
    return folder / "runs" / f"{run_name(name, 0)}.json"
