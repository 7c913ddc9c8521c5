"""The whole training of what was chosen."""

from dataclasses import replace
from pathlib import Path

from semfreeze_core.finetune.train.folder import CHECKPOINTS
from semfreeze_core.finetune.train.request import FirstSteps, TrainRequest
from semfreeze_core.finetune.validation.race import fitting_micro_batch, winning_checkpoint
from semfreeze_core.guided.request import GuidedRequest
from semfreeze_core.guided.task import GuidedTask
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.finetune_report import DECISION
from semfreeze_core.records.race import RACE_FOLDER, Race
from semfreeze_core.records.training import TrainingSetup


def training_request(
    request: GuidedRequest, task: GuidedTask, plan: FreezePlan, raced: Race | None, folder: Path
) -> TrainRequest:
    """The whole training of what was chosen, from the race's checkpoint where there was one."""
    rate, first, last_step, sizes = None, None, None, [plan.cost.setup.examples_per_pass]
    if request.options.micro_batch_size is not None:
        sizes = [request.options.micro_batch_size]
    if raced is not None:
        winner = next(variant for variant in raced.variants if variant.name == raced.chosen)
        rate = winner.learning_rate
        fitting = fitting_micro_batch(folder / DECISION / RACE_FOLDER, raced.chosen)
        sizes += [] if fitting is None else [fitting]
        checkpoint = winning_checkpoint(folder / DECISION / RACE_FOLDER, raced.chosen)
        first = FirstSteps(checkpoint or folder / CHECKPOINTS / f"checkpoint-{raced.steps}", raced.steps)
        limit = request.objective.limit
        if request.objective.kind == "time" and limit is not None and (winner.run_seconds or 0.0) > limit:
            within = int(task.setup.steps * limit / (winner.run_seconds or limit))
            last_step = max(raced.steps + 1, within)  # those of the race are made
    return TrainRequest(
        plan=plan,
        data=task.train,
        setup=_in_passes_of(plan.cost.setup, min(sizes)),
        evaluation=task.evaluation,
        mapping=request.mapping,
        add_eos=request.add_eos,
        epochs=request.epochs,
        steps=request.steps,
        last_step=last_step,
        learning_rate=rate,
        n_accuracy=request.n_accuracy,
        model=request.model,
        keep_best=True,
        first_steps=first,
    )


def _in_passes_of(setup: TrainingSetup, examples: int) -> TrainingSetup:
    return setup if examples == setup.examples_per_pass else replace(setup, micro_batch_size=examples)
