"""One phase of an arm: steps that train the same parts, by one network with its own caches and optimizer."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import TrainerCallback

from semfreeze_core.cost import Phase, training_bytes
from semfreeze_core.device import autocast, release_unused_memory
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.evaluate import ArmEvaluator, Course
from semfreeze_core.finetune.arm.example_order import examples_met
from semfreeze_core.finetune.arm.flop import batch_flop
from semfreeze_core.finetune.arm.recorder import Record, Recorder
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.switch import deeper_checkpoint
from semfreeze_core.finetune.arm.timed_saves import RecordedSteps, SaveByTime, TimedSaves, last_saved
from semfreeze_core.finetune.arm.trainer import SaveLastStep, checkpoint_step, load_trained
from semfreeze_core.finetune.arm.training import ArmTraining, rate_trials
from semfreeze_core.finetune.audit.step_count import CountedStep, count_step
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import CacheSettings, Network, build_network
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.records.cost import TrainingBytes
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.rates import RateSearch, RateTrial
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from semfreeze_core.records.validation import LiveArm, PeakKind
from semfreeze_core.sources.models.causal_lm import LoadedModel


@dataclass(frozen=True)
class ArmRequest:
    """What an arm is trained on, and how; the same in all its phases.

    Attributes:
        loaded: a model just loaded; it is finetuned in place.
        settings: how.
        train, evaluation: examples.
        baseline_bytes: resident size of the process after import, before the model was loaded.
        cache: where boundary states of the first phase may be stored.
        rates_folder: of the trials of a search for the learning rate.
        checkpoint_folder: gets a checkpoint of the last step; None keeps none.
        saves: checkpoints by time, in the first phase; None makes none.
        scratch: a folder for the arm's own checkpoints and states.
        follow: receives the arm's state after each step.
        progress: receives steps and stages.
    """

    loaded: LoadedModel
    settings: ArmSettings
    train: Sequence[TokenizedExample]
    evaluation: Sequence[TokenizedExample]
    baseline_bytes: int
    cache: CacheSettings
    rates_folder: Path
    checkpoint_folder: Path | None
    saves: TimedSaves | None
    scratch: Path
    follow: Callable[[LiveArm], None] | None
    progress: Progress


@dataclass
class ArmState:
    """An arm on its way through its phases.

    Attributes:
        arm: with the rate that was searched, once that is known.
        record: of all steps so far.
        course: of all evaluations so far.
        search: of its rate, or None.
        checkpoint: what the next phase goes on from; None at the start and where there is nothing to go on from.
    """

    arm: Arm
    record: Record = field(default_factory=Record)
    course: Course = field(default_factory=Course)
    search: RateSearch | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Tally:
    """What a phase took.

    Attributes:
        parts: what it trained.
        setup: as it trained, with the steps it made.
        bytes: estimated memory of a step.
        peak_kind: what the measured peak is of.
        saved_bytes: what autograd was counted to save in a step.
        counted_flop: FLOPs on its batches, by torch's counter on the first.
        cache_seconds, cache_bytes: of its boundary states.
        trainable_parameters: number of trained elements.
        notes: on its cache and its FLOPs.
    """

    parts: TrainableParts
    setup: TrainingSetup
    bytes: TrainingBytes
    peak_kind: PeakKind
    saved_bytes: int
    counted_flop: int
    cache_seconds: float
    cache_bytes: int
    trainable_parameters: int
    notes: list[str]


def train_phase(request: ArmRequest, state: ArmState, phase: Phase, *, first: bool, last: bool) -> Tally:
    """Train one phase, from the state's checkpoint on where there is one; what it took.

    The first phase searches the rate where that is wanted. All but the last end with a checkpoint in the state and a
    model that can be frozen anew; a checkpoint is missing where the phase did not get to its end.

    Raises:
        InputError: the model cannot be trained in this way.
        ResourceError: the disk is full.
    """
    settings, progress = request.settings, request.progress
    met = _examples_met(request, state.arm, first=first)
    training, setup = _ready(request, state.arm, phase, met, first=first)
    network = training.network
    counted, estimated_flop = _count(training, request.loaded.shape, phase.parts, setup, met)
    evaluator = ArmEvaluator(
        network, request.loaded.tokenizer, request.loaded.shape, phase.parts, setup,
        [request.train[i] for i in met], request.evaluation,
        n_accuracy=settings.n_accuracy, course=state.course,
    )  # fmt: skip
    if first:
        _search_rate(request, state, training, evaluator)
        _take_up(request, state, training)
    elif state.checkpoint is not None:
        state.checkpoint = _without_frozen(network, state.checkpoint, request.scratch)
    begun = len(state.record.losses) if not first else 0
    recorder = _recorder(request, state, training, evaluator)
    folder, saving = _saving(request, state, training) if first else (request.scratch / "run", [])
    if state.search is None or state.search.rate is not None:
        if last:
            _train_to_the_end(request, state, training, evaluator, folder, [recorder, *saving])
        else:
            end = begun + phase.setup.steps
            state.checkpoint = training.fit_until(end, state.arm, folder, [recorder, *saving], state.checkpoint)
    steps = len(state.record.losses) - begun
    cache = network.train_cache
    tally = Tally(
        parts=phase.parts,
        setup=replace(setup, steps=max(1, steps)),
        bytes=training_bytes(request.loaded.shape, setup, phase.parts),
        peak_kind=recorder.peak_kind,
        saved_bytes=counted.saved_bytes,
        counted_flop=evaluator.phase_flop() * counted.flop // estimated_flop,
        cache_seconds=evaluator.cache_seconds,
        cache_bytes=0 if cache is None else cache.bytes,
        trainable_parameters=network.trainable_parameters,
        notes=[*network.notes, *_flop_notes(counted, estimated_flop)],
    )
    evaluator.end_phase()
    if last or state.checkpoint is None:
        network.release()
    else:
        load_trained(network.supervised, state.checkpoint)  # a search has put back those of the start
        network.unfreeze()
        progress(ProgressEvent(f"{state.arm.name}: freezing deeper"))
    return tally


def release_phase(request: ArmRequest) -> None:
    """Free what a phase held that has returned: the optimizer's moments, the boundary states, the graph."""
    release_unused_memory(request.loaded.decoder.device)


def _examples_met(request: ArmRequest, arm: Arm, *, first: bool) -> Sequence[int]:
    """Indices of the training examples that a phase's boundary states are needed of.

    A later phase has a cache where it meets every example, and examples with own depths come in another order.
    """
    if not first or arm.example_depths is not None:
        return range(len(request.train))
    return examples_met([len(example.input_ids) for example in request.train], request.settings)


def _ready(
    request: ArmRequest, arm: Arm, phase: Phase, met: Sequence[int], *, first: bool
) -> tuple[ArmTraining, TrainingSetup]:
    """The model ready to train the phase, and the phase's setup with the cache that there is."""
    settings, cache = request.settings, replace(request.cache, met=met)
    if not first:
        # A moved prefix is this training's alone: its states are of no use to another one, nor is another's to it.
        folder = None if cache.folder is None else request.scratch / "states"
        cache = replace(cache, folder=folder, shared_from=None)
    network = build_network(
        request.loaded,
        phase.parts,
        replace(settings.setup, prefix_cache=phase.setup.prefix_cache),
        request.train,
        request.evaluation,
        seed=settings.seed,
        cache=cache,
        progress=request.progress,
    )
    request.progress(ProgressEvent(f"{arm.name}: counting a step"))
    collator = Collator(request.train, network.train_cache)
    training = ArmTraining(network, collator, settings, request.baseline_bytes, request.progress)
    return training, replace(phase.setup, prefix_cache=network.train_cache is not None)


def _search_rate(request: ArmRequest, state: ArmState, training: ArmTraining, evaluator: ArmEvaluator) -> None:
    """Search the arm's rate where that is wanted, and go on from the best trial."""
    settings = request.settings
    if settings.rate_steps is None or settings.rate_known:
        return
    trials = rate_trials(training, evaluator, state.arm, request.rates_folder)
    search, won = trials.run()
    state.search = search
    if search.rate is None:
        return
    state.arm = replace(state.arm, learning_rate=search.rate)
    if won is None:
        return
    state.checkpoint = trials.checkpoint(search.rate)
    state.record = Record(won.train_losses[:], won.step_seconds[:], won.peak_bytes)
    training.network.supervised.sizes[:] = won.sizes
    if settings.rate_steps != settings.total_steps and settings.rates_on == "eval examples":
        losses = _chosen(search).losses or []
        evaluator.add_curve_point(settings.rate_steps, losses, sum(state.record.step_seconds))


def _take_up(request: ArmRequest, state: ArmState, training: ArmTraining) -> None:
    """Go on from the last checkpoint by time, which is after the search that found the arm's rate."""
    saved = None if request.saves is None else last_saved(request.saves.folder)
    if saved is None:
        return
    state.checkpoint, recorded = saved
    state.record = recorded.record
    state.course.points[:] = recorded.points
    training.network.supervised.sizes[:] = recorded.sizes


def _saving(request: ArmRequest, state: ArmState, training: ArmTraining) -> tuple[Path, list[TrainerCallback]]:
    """Where the first phase's checkpoints go, and the callbacks that make them by time."""
    saves = request.saves
    if saves is None:
        return request.scratch / "run", []

    def recorded() -> RecordedSteps:
        return RecordedSteps.of(state.record, training.network.supervised.sizes, state.course)

    return saves.folder, [SaveByTime(saves.seconds, recorded)]


def _train_to_the_end(
    request: ArmRequest,
    state: ArmState,
    training: ArmTraining,
    evaluator: ArmEvaluator,
    folder: Path,
    callbacks: list[TrainerCallback],
) -> None:
    """Train the last phase's steps; none are left where a search's best trial made them all."""
    settings, checkpoint_folder = request.settings, request.checkpoint_folder
    end = settings.total_steps
    if state.checkpoint is None or checkpoint_step(state.checkpoint) < end:
        saving = [] if checkpoint_folder is None else [SaveLastStep()]
        training.fit(state.arm, checkpoint_folder or folder, [*callbacks, *saving], state.checkpoint)
        return
    load_trained(training.network.supervised, state.checkpoint)
    training.network.offload()
    evaluator.evaluate(end, settings.marks()[end], sum(state.record.step_seconds))
    if checkpoint_folder is not None:
        shutil.rmtree(checkpoint_folder, ignore_errors=True)
        checkpoint_folder.mkdir(parents=True)
        os.replace(state.checkpoint, checkpoint_folder / state.checkpoint.name)


def _chosen(search: RateSearch) -> RateTrial:
    return next(trial for trial in search.trials if trial.rate == search.rate)


def _without_frozen(network: Network, checkpoint: Path, scratch: Path) -> Path:
    """The phase before's last checkpoint without what the network no longer trains.

    The best trial's of a search stays where it is: a killed arm goes on from it.
    """
    trained = {name for name, parameter in network.supervised.named_parameters() if parameter.requires_grad}
    folder = deeper_checkpoint(checkpoint, trained, scratch / "deeper")
    if checkpoint.is_relative_to(scratch):
        shutil.rmtree(checkpoint)
    return folder


def _recorder(request: ArmRequest, state: ArmState, training: ArmTraining, evaluator: ArmEvaluator) -> Recorder:
    settings, record = request.settings, state.record
    marks = settings.marks()

    def evaluate(step: int) -> None:
        evaluator.evaluate(step, marks[step], sum(record.step_seconds))

    def follow() -> None:
        if request.follow is not None:
            request.follow(_live(state.arm, settings, record, evaluator))

    stage = f"{state.arm.name} (seed {settings.seed})"
    return training.recorder(
        evaluate, frozenset(marks), total=settings.total_steps, stage=stage, follow=follow, record=record
    )


def _live(arm: Arm, settings: ArmSettings, record: Record, evaluator: ArmEvaluator) -> LiveArm:
    at_first, *at_switch = evaluator.all_cache_seconds
    return LiveArm(
        arm=arm.name,
        seed=settings.seed,
        step=len(record.losses),
        total_steps=settings.total_steps,
        seconds=evaluator.seconds(sum(record.step_seconds)),
        cache_seconds=at_first,
        switch_cache_seconds=sum(at_switch),
        train_loss=record.losses[-1] if record.losses else None,
        peak_bytes=record.peak_bytes,
        points=evaluator.points,
    )


def _count(
    training: ArmTraining, shape: ModelShape, parts: TrainableParts, setup: TrainingSetup, met: Sequence[int]
) -> tuple[CountedStep, int]:
    """A step on the first of the examples as torch counts it, and its FLOPs by the cost model."""
    network, collator = training.network, training.collator
    device = network.decoder.device
    batch = collator(met[: training.settings.micro_batch_size])
    network.supervised.train()
    with autocast(setup.precision, device):
        counted = count_step(
            network.supervised, network.decoder.model, {name: tensor.to(device) for name, tensor in batch.items()}
        )
    size = network.supervised.sizes[0]
    network.supervised.clear_batches()
    return counted, batch_flop(shape, setup, parts, size)


def _flop_notes(counted: CountedStep, estimated_flop: int) -> list[str]:
    if counted.flop == estimated_flop:
        return []
    return [
        f"torch counted {counted.flop:,} FLOPs in a step for which the cost model estimates {estimated_flop:,}. The "
        "run's FLOPs are scaled by that ratio."
    ]
