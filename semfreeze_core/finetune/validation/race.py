"""A race of variants: their first steps on the training's own batches, each at its own best learning rate.

It is a validation that ends where learning rates are compared, and its winner's checkpoint starts the training.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semfreeze_core.cost import depth_cost, parts_at_depth, run_flop, step_flop
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.flop import evaluation_flop
from semfreeze_core.finetune.arm.job import ModelSource, checkpoint_folder
from semfreeze_core.finetune.arm.trainer import last_complete_checkpoint
from semfreeze_core.finetune.validation.request import Prepared, ValidationRequest, prepare
from semfreeze_core.finetune.validation.search_price import search_flop
from semfreeze_core.finetune.validation.validate import run_name, validate
from semfreeze_core.gains.race import RaceChoice, RaceLosses, choose_balanced, choose_lowest
from semfreeze_core.gains.task_checks import loss_variation
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.defaults import MARGIN, RACE_CONFIDENCE, RACE_ROWS, RACE_STEPS
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.race import RACE_RESULT, Objective, Race, RaceVariant
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.validation import ArmRun, ValidationReport
from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.race import NOT_RANKED, nothing_learned, race_reason


@dataclass(frozen=True)
class RaceRequest:
    """What is raced.

    Attributes:
        plan: of the model; its own depth does not matter.
        setup: the whole finetune: its steps, batch, longest example.
        train, evaluation, mapping, add_eos, model: as in ValidationRequest.
        n_train: training examples that the whole finetune draws, so that its first batches are the race's.
        n_rows: training examples that there are.
        variants: names with their freeze depths, as `candidate_variants` gives them; two or more.
        safe: the variant to take where the race cannot tell.
        objective: what the winner is to be good at.
    """

    plan: FreezePlan
    setup: TrainingSetup
    train: str
    evaluation: str
    n_train: int
    n_rows: int
    variants: Mapping[str, int]
    safe: str
    objective: Objective
    mapping: FieldMapping
    add_eos: bool
    model: ModelSource

    @property
    def prefix_cache(self) -> bool:
        """Whether the race computes frozen layers once per example.

        Only where it meets every example: a cache is filled for all of them, and the race of a large training set
        meets few. Where memory is short, frozen layers leave the device only with one.
        """
        whole = self.n_rows <= RACE_STEPS * self.setup.batch_size
        return self.setup.prefix_cache and (whole or self.objective.kind == "memory")

    def validation(self) -> ValidationRequest:
        """The race as a validation."""
        return ValidationRequest(
            plan=self.plan,
            train=self.train,
            evaluation=self.evaluation,
            setup=replace(
                self.setup, steps=RACE_STEPS, train_examples=self.n_train, prefix_cache=self.prefix_cache, lora=None
            ),
            mapping=self.mapping,
            add_eos=self.add_eos,
            arms=tuple(self.variants),
            seeds=1,
            match="steps",
            n_eval=RACE_ROWS[1],
            n_accuracy=0,
            share_caches=self.prefix_cache,
            n_between=0,
            rate_steps=RACE_STEPS,
            keep_checkpoints=True,
            model=self.model,
        )


@dataclass(frozen=True)
class RaceEstimate:
    """What a race and the finetunes it chooses from cost, before it starts.

    Attributes:
        costs: of each variant's whole finetune, by name, at the data's own lengths.
        least_flop, most_flop: what the race adds.
        full_flop: of the whole finetune with every layer trained.
        n_eval: eval examples.
    """

    costs: dict[str, DepthCost]
    least_flop: int
    most_flop: int
    full_flop: int
    n_eval: int


def estimate_race(request: RaceRequest, prepared: Prepared) -> RaceEstimate:
    """The cost of a race: trials of rates that lose, the losers' steps, and all evaluations.

    Args:
        request: of the race.
        prepared: its validation.
    """
    costs = {arm.name: _whole_cost(request, prepared, arm.name) for arm in prepared.arms}
    steps = [RACE_STEPS * _step_flop(prepared, arm.name) for arm in prepared.arms]
    last = sum(_last_evaluation_flop(prepared, name) for name in costs)
    least, most = (sum(search_flop(prepared, arm, longest) for arm in prepared.arms) for longest in (False, True))
    return RaceEstimate(
        costs=costs,
        least_flop=least + last + sum(steps) - max(steps),
        most_flop=most + last + sum(steps) - min(steps),
        full_flop=run_flop(
            prepared.shape,
            replace(_whole_setup(request, prepared), prefix_cache=False),
            parts_at_depth(prepared.shape, 0),
        ),
        n_eval=len(prepared.data.evaluation.tokenized),
    )


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
    report = validate(validation, folder, progress=progress)
    result = decide_race(request, prepare(validation, progress), report)
    write_atomically(path, result.model_dump_json(indent=1) + "\n")
    for name in request.variants:
        if name != result.chosen:
            shutil.rmtree(checkpoint_folder(_result_path(folder, name)), ignore_errors=True)
    return result


def winning_checkpoint(folder: Path, chosen: str) -> Path | None:
    """The checkpoint of the chosen variant's last step in the race; None where a training has taken it."""
    kept = checkpoint_folder(_result_path(folder, chosen))
    return last_complete_checkpoint(kept) if kept.is_dir() else None


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
    variants = [_variant(runs[name], request.variants[name], losses, choice, estimate, seconds) for name in runs]
    return Race(
        objective=request.objective,
        steps=RACE_STEPS,
        batch_size=request.setup.batch_size,
        n_eval=len(losses.before),
        margin=MARGIN,
        confidence=RACE_CONFIDENCE,
        loss_before=float(losses.before.mean()),
        token_loss_before=float(np.average(losses.before, weights=losses.tokens)),
        loss_variation=loss_variation(losses.before),
        variants=variants,
        chosen=choice.variant,
        told_apart=choice.told_apart,
        reason=race_reason(request.objective, variants, choice.variant, choice.told_apart, len(losses.before)),
        lost_flop=sum(_lost_flop(prepared, run, wins=name == choice.variant) for name, run in runs.items()),
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
    evaluation = _last_evaluation_flop(prepared, run.arm) if run.points else 0
    return searched + evaluation + (0 if wins else run.flop.counted)


def _whole_setup(request: RaceRequest, prepared: Prepared) -> TrainingSetup:
    """The whole finetune at the data's own mean length."""
    lengths = next(iter(prepared.setups.values()))
    return replace(
        lengths,
        steps=request.setup.steps,
        train_examples=min(request.n_rows, request.n_train),
        prefix_cache=request.setup.prefix_cache,
    )


def _whole_cost(request: RaceRequest, prepared: Prepared, name: str) -> DepthCost:
    return depth_cost(
        prepared.shape, _whole_setup(request, prepared), parts_at_depth(prepared.shape, request.variants[name])
    )


def _step_flop(prepared: Prepared, name: str) -> int:
    setup = prepared.setups[name]
    arm = next(arm for arm in prepared.arms if arm.name == name)
    return step_flop(prepared.shape, setup, arm.parts, cached=setup.prefix_cache and arm.freeze_depth > 0).total


def _last_evaluation_flop(prepared: Prepared, name: str) -> int:
    arm = next(arm for arm in prepared.arms if arm.name == name)
    return evaluation_flop(prepared.shape, prepared.setups[name], arm.parts, prepared.data.evaluation.tokenized)


def _result_path(folder: Path, name: str) -> Path:
    return folder / "runs" / f"{run_name(name, 0)}.json"
