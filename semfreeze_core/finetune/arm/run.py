"""One arm with one seed: a real finetune by transformers' Trainer, evaluated at its marks."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from semfreeze_core.cost import training_bytes
from semfreeze_core.device import autocast
from semfreeze_core.finetune.arm.arguments import setup_at_lengths
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.evaluate import ArmEvaluator
from semfreeze_core.finetune.arm.flop import batch_flop
from semfreeze_core.finetune.arm.recorder import Record
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.trainer import SaveLastStep, checkpoint_step, load_trained
from semfreeze_core.finetune.arm.training import ArmTraining, rate_trials
from semfreeze_core.finetune.audit.step_count import CountedStep, count_step
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import CacheSettings, Network, build_network
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.rates import RateSearch, RateTrial
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.validation import ArmRun, FailureCause, FlopEntry, LiveArm, PeakEntry
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.temporary import remove_leftovers, scratch_parent, temporary_folder
from semfreeze_core.unlocked_leftovers import remove_abandoned
from semfreeze_core.wording.rates import no_rate_reason


def run_arm(
    loaded: LoadedModel,
    arm: Arm,
    settings: ArmSettings,
    train: Sequence[TokenizedExample],
    evaluation: Sequence[TokenizedExample],
    *,
    baseline_bytes: int,
    cache: CacheSettings | None = None,
    rates_folder: Path | None = None,
    checkpoint_folder: Path | None = None,
    follow: Callable[[LiveArm], None] | None = None,
    progress: Progress = silent,
) -> ArmRun:
    """Finetune a model in place as the arm says, and return what was measured.

    Args:
        loaded: a model just loaded; it is finetuned on return.
        arm: what is trained, and at which rate.
        settings: how.
        train: training examples.
        evaluation: eval examples.
        baseline_bytes: resident size of the process after import, before the model was loaded.
        cache: where boundary states may be stored.
        rates_folder: keeps the trials of a search for the learning rate, so that a killed one goes on; None keeps none.
        checkpoint_folder: gets a checkpoint of the last step, from which another training can go on; None keeps none.
        follow: receives the arm's state after each step.
        progress: receives steps and stages.

    Raises:
        InputError: the model cannot be trained in this way.
    """
    settings = replace(settings, setup=replace(settings.setup, lora=arm.lora))  # the one thing arms do not share
    network = build_network(
        loaded, arm.parts, settings.setup, train, evaluation, seed=settings.seed, cache=cache, progress=progress
    )
    setup = setup_at_lengths(settings, train, cached=network.train_cache is not None)
    evaluator = ArmEvaluator(
        network, loaded.tokenizer, loaded.shape, arm.parts, setup, train, evaluation, n_accuracy=settings.n_accuracy
    )
    collator = Collator(train, network.train_cache)
    progress(ProgressEvent(f"{arm.name}: counting a step"))
    counted, estimated_flop = _count(network, collator, loaded.shape, arm, setup, settings)
    training = ArmTraining(network, collator, settings, baseline_bytes, progress)
    remove_leftovers(scratch_parent())
    remove_abandoned(scratch_parent(), "scratch")
    with temporary_folder(scratch_parent()) as scratch:
        search, won, checkpoint = None, None, None
        if settings.rate_steps is not None and not settings.rate_known:
            trials = rate_trials(training, evaluator, arm, rates_folder or scratch / "rates")
            search, won = trials.run()
            if search.rate is not None:
                arm = replace(arm, learning_rate=search.rate)
                checkpoint = None if won is None else trials.checkpoint(search.rate)
        marks = settings.marks()
        record = Record()
        if won is not None and search is not None:
            record = Record(won.train_losses[:], won.step_seconds[:], won.peak_bytes)
            network.supervised.sizes[:] = won.sizes
            if settings.rate_steps != settings.total_steps:
                evaluator.add_curve_point(
                    settings.rate_steps or 0, _chosen(search).losses or [], sum(record.step_seconds)
                )
        recorder = training.recorder(
            lambda step: evaluator.evaluate(step, marks[step], sum(record.step_seconds)),
            frozenset(marks),
            total=settings.total_steps,
            stage=f"{arm.name} (seed {settings.seed})",
            follow=lambda: follow(_live(arm, settings, record, evaluator)) if follow else None,
            record=record,
        )
        if checkpoint is not None and checkpoint_step(checkpoint) == settings.total_steps:
            load_trained(network.supervised, checkpoint)
            network.offload()
            evaluator.evaluate(settings.total_steps, marks[settings.total_steps], sum(record.step_seconds))
            if checkpoint_folder is not None:
                shutil.rmtree(checkpoint_folder, ignore_errors=True)
                checkpoint_folder.mkdir(parents=True)
                os.replace(checkpoint, checkpoint_folder / checkpoint.name)
        elif search is None or search.rate is not None:
            saving = [] if checkpoint_folder is None else [SaveLastStep()]
            training.fit(arm, checkpoint_folder or scratch / "run", [recorder, *saving], checkpoint)
    network.release()
    micro = settings.micro_batch_size
    predicted = training_bytes(loaded.shape, replace(setup, batch_size=micro), arm.parts)
    failure, cause = _failure(record, search)
    saved = None if predicted.activations is None else predicted.activations + predicted.logits
    return ArmRun(
        arm=arm.name,
        seed=settings.seed,
        status="failed" if failure else "done",
        reason=failure,
        cause=cause if failure else None,
        trained=arm.parts,
        lora=arm.lora,
        learning_rate=arm.learning_rate,
        trainable_parameters=network.trainable_parameters,
        steps=len(record.losses),
        micro_batch_size=micro,
        accumulation=settings.accumulation,
        prefix_cache=network.train_cache is not None,
        notes=[*network.notes, *_flop_notes(counted, estimated_flop)],
        train_losses=record.losses,
        step_seconds=record.step_seconds,
        cache_seconds=0.0 if network.train_cache is None else network.train_cache.seconds,
        cache_bytes=0 if network.train_cache is None else network.train_cache.bytes,
        points=evaluator.points,
        flop=FlopEntry(
            counted=evaluator.flop() * counted.flop // estimated_flop,
            predicted=evaluator.predicted_flop(len(record.losses)),
        ),
        peak_bytes=PeakEntry(
            measured=record.peak_bytes,
            predicted=predicted.total,
            kind=recorder.peak_kind,
            saved_tensors=counted.saved_bytes,
            saved_tensors_predicted=saved,
        ),
        rate_search=search,
    )


def _chosen(search: RateSearch) -> RateTrial:
    return next(trial for trial in search.trials if trial.rate == search.rate)


def _failure(record: Record, search: RateSearch | None) -> tuple[str, FailureCause]:
    """Why there is no result, or "", and of which kind that is."""
    if search is not None and search.rate is None:
        return no_rate_reason(search), "unlearned"
    return record.failure, "diverged"


def _live(arm: Arm, settings: ArmSettings, record: Record, evaluator: ArmEvaluator) -> LiveArm:
    return LiveArm(
        arm=arm.name,
        seed=settings.seed,
        step=len(record.losses),
        total_steps=settings.total_steps,
        seconds=sum(record.step_seconds) + evaluator.cache_seconds,
        cache_seconds=evaluator.cache_seconds,
        train_loss=record.losses[-1] if record.losses else None,
        peak_bytes=record.peak_bytes,
        points=evaluator.points,
    )


def _count(
    network: Network, collator: Collator, shape: ModelShape, arm: Arm, setup: TrainingSetup, settings: ArmSettings
) -> tuple[CountedStep, int]:
    """A step on the first examples as torch counts it, and its FLOPs by the cost model."""
    device = network.decoder.device
    batch = collator(range(min(settings.micro_batch_size, len(collator.examples))))
    network.supervised.train()
    with autocast(setup.precision, device):
        counted = count_step(
            network.supervised, network.decoder.model, {name: tensor.to(device) for name, tensor in batch.items()}
        )
    size = network.supervised.sizes[0]
    network.supervised.clear_batches()
    return counted, batch_flop(shape, setup, arm.parts, size)


def _flop_notes(counted: CountedStep, estimated_flop: int) -> list[str]:
    if counted.flop == estimated_flop:
        return []
    return [
        f"torch counted {counted.flop:,} FLOPs in a step for which the cost model estimates {estimated_flop:,}. The "
        "run's FLOPs are scaled by that ratio."
    ]
