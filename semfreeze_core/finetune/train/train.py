"""Training a plan: a full finetune with a prefix cache, checkpoints and resumption."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from transformers import PrinterCallback, TrainerCallback

from semfreeze_core.cost import Phase, parts_at_depth, require_step
from semfreeze_core.device import choose_device, is_out_of_memory, release_unused_memory, tf32_products
from semfreeze_core.errors import InputError, PlanError, ResourceError, RunError
from semfreeze_core.finetune.arm.arguments import setup_at_lengths, trainer_arguments
from semfreeze_core.finetune.arm.arms import DEFAULT_RATES, Arm
from semfreeze_core.finetune.arm.evaluate import ArmEvaluator, Course
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.arm.rate_search import WinningTrial
from semfreeze_core.finetune.arm.recorder import Record, Recorder
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.switch import EndPhase, deeper_checkpoint
from semfreeze_core.finetune.arm.trainer import (
    BestTrainer,
    PlanTrainer,
    best_checkpoint,
    checkpoint_step,
    last_complete_checkpoint,
    load_trained,
    relocate_best,
    remove_incomplete_checkpoints,
    trained_tensors,
)
from semfreeze_core.finetune.arm.training import ArmTraining, rate_trials
from semfreeze_core.finetune.model.batches import Collator, ExampleIndices
from semfreeze_core.finetune.model.network import CacheSettings, Network, build_network
from semfreeze_core.finetune.model.task_data import read_task_data
from semfreeze_core.finetune.quantize.quantize import quantize_layers, require_bitsandbytes, trained_bits
from semfreeze_core.finetune.train.deeper import (
    DEEPER,
    LOOK,
    LOOKS,
    STATES,
    read_looks,
    save_look,
    save_switch,
    saved_search,
    saved_switch,
    wide_weights,
    write_looks,
)
from semfreeze_core.finetune.train.request import (
    TrainRequest,
    different_settings,
    kept_settings,
    memory_advice,
    setup_note,
)
from semfreeze_core.finetune.train.result import Trained, best_checkpoint_note, training_result
from semfreeze_core.finetune.train.save import save_finetuned
from semfreeze_core.finetune.train.trackers import reporters
from semfreeze_core.gains.looks import decide_look
from semfreeze_core.gains.rates import compared_steps, starting_rate
from semfreeze_core.plan.consistency import require_names
from semfreeze_core.plan.document import FreezePlan, require_model, require_recommendation
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import (
    CURVE_EXAMPLES,
    LOOK_STEPS,
    MIN_RATE_EXAMPLES,
    MIN_RATE_STEPS,
    TRAINING_WARMUP_FRACTION,
)
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.finetune_report import DECISION
from semfreeze_core.records.looks import Look, Looks
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.training import DepthSwitch, TrainableParts
from semfreeze_core.records.validation import Mark
from semfreeze_core.sources.models.causal_lm import LoadedModel, load_causal_lm
from semfreeze_core.storage import disk_errors, prefix_cache_folder, write_atomically
from semfreeze_core.temporary import is_temporary, remove_leftovers, require_locks
from semfreeze_core.unlocked_leftovers import is_unlocked_leftover, remove_from_claimed
from semfreeze_core.wording.rates import no_rate_reason, rate_note
from semfreeze_core.wording.training import look_sentence

CHECKPOINTS, RATES, SETTINGS, RESULT = "checkpoints", "rates", "training_settings.json", "training.json"
_ONLY_TO_RESUME = (CHECKPOINTS, RATES, DEEPER, STATES, LOOK, LOOKS)
RESUME_ADVICE = "Free some space and run the same command again: it resumes."
BEST_LOST_NOTE = "The checkpoint with the lowest eval loss is gone, so this model is the last step's, not the best."
UNQUANTIZED_NOTE = (
    "The plan's cost estimate has frozen layers in {bits} bits, but this finetune of whole layers keeps their "
    "precision. With the prefix cache they leave the device anyway; without it training takes more memory "
    "than estimated."
)


def train_plan(request: TrainRequest, folder: Path, progress: Progress = silent) -> Trained:
    """Finetune the plan's model as the plan says, and write it in a format that others load.

    A second call with the same request resumes from the last checkpoint. A LoRA plan with frozen bits trains on
    layers in 8 or 4 bits: the model is loaded on the CPU and rounded on its way to the device.

    Args:
        request: what to train, and how.
        folder: gets the model; its checkpoints while it is being trained.
        progress: receives steps, stages and notes.

    Raises:
        InputError: the plan makes no recommendation or is another model's, the data cannot be used, the folder holds
            something else, bitsandbytes is needed and missing, or the loss is not a number.
        ResourceError: memory or disk ran out; checkpoints remain.
    """
    plan = request.plan
    require_recommendation(plan)
    source = request.model or ModelSource.of(plan.model)
    trackers = reporters(request.report_to, folder)
    bits = trained_bits(plan)
    if bits is not None:
        require_bitsandbytes()
    device = choose_device(source.device)
    with _claimed(folder, request):
        loaded = load_causal_lm(
            source.source,
            revision=source.revision,
            dtype=request.how.precision,
            device=source.device if bits is None else "cpu",
            trust_remote_code=source.trust_remote_code,
            allow_pickle=source.allow_pickle,
            progress=progress,
        )
        require_model(plan, loaded.identity)
        require_names(plan, loaded.decoder.names)
        try:
            quantized: tuple[str, ...] = ()
            if bits is not None:
                quantized = quantize_layers(
                    loaded.decoder, bits, precision=request.how.precision, device=device, progress=progress
                )
            elif plan.cost.setup.frozen_bits is not None:
                quantized = (UNQUANTIZED_NOTE.format(bits=plan.cost.setup.frozen_bits),)
            return _train(request, loaded, trackers, quantized, folder, progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(memory_advice(request)) from error


def _train(
    request: TrainRequest,
    loaded: LoadedModel,
    trackers: list[TrainerCallback],
    quantized: tuple[str, ...],
    folder: Path,
    progress: Progress,
) -> Trained:
    plan, setup = request.plan, request.how
    data = read_task_data(
        request.data,
        request.evaluation or request.data,
        loaded.tokenizer,
        mapping=request.mapping,
        # no more than its steps use: the others' boundary states would be computed for nothing
        n_train=request.steps and request.steps * setup.batch_size,
        n_eval=None if request.evaluation else 1,
        max_length=min(setup.sequence_length, loaded.shape.max_positions or setup.sequence_length),
        add_eos=request.add_eos,
        seed=request.seed,
        progress=progress,
    )
    train, evaluation = data.train.tokenized, data.evaluation.tokenized if request.evaluation else ()
    all_steps = request.steps or request.epochs * -(-len(train) // setup.batch_size)
    steps = min(all_steps, request.last_step or all_steps)
    arm = _planned_arm(plan, loaded.shape, steps)
    compared = compared_steps(steps) if request.learning_rate is None and len(evaluation) >= MIN_RATE_EXAMPLES else None
    if compared is not None and arm.switch is not None:
        compared = min(compared, arm.switch.step)  # a trial that froze deeper could not be gone on from
        if compared < MIN_RATE_STEPS:
            raise InputError(
                f"The plan freezes deeper after step {compared}, too early to compare learning rates: name one with "
                f"--lr, or make a plan that freezes deeper after step {MIN_RATE_STEPS} or later."
            )
    if arm.switch is not None and arm.switch.measured and len(evaluation) < MIN_RATE_EXAMPLES:
        raise InputError(
            f"Trials on eval examples decide when the plan freezes deeper: expected at least {MIN_RATE_EXAMPLES}, "
            f"found {len(evaluation)}. Give more with --eval, or make a plan that names the step, as --progressive "
            f"@{arm.switch.step} does."
        )
    before = None if request.first_steps is None else request.first_steps.steps  # whose warm-up is over
    start = starting_rate(loaded.shape.d_model, arm.kind) if compared else DEFAULT_RATES[arm.kind]
    arm = replace(arm, learning_rate=request.learning_rate or start)
    warmup = int(TRAINING_WARMUP_FRACTION * all_steps)
    settings = ArmSettings(
        setup=replace(setup, steps=steps, lora=arm.lora),
        seed=request.seed,
        warmup_steps=max(1, min(warmup, (compared or before or steps) // 4)),
        rate_steps=compared,
        accumulation=setup.batch_size // (request.micro_batch_size or setup.batch_size),
        n_accuracy=request.n_accuracy,
    )
    note = setup_note(request, settings.setup)
    progress(ProgressEvent("Training", message=note))
    warnings = data.warnings if request.evaluation else data.skipped[:1]
    training = _Training(request, loaded, arm, settings, train, evaluation, trackers, folder, progress)
    trained, network = training.fit_phases()
    network.release()
    rate = rate_note(trained.search, arm.learning_rate, given=request.learning_rate is not None)
    of_the_data = (*data.train_notes, *data.train.notes, *warnings)
    notes = (f"{note} {rate}", *of_the_data, *quantized, *network.notes, *trained.notes)
    trained = replace(trained, notes=tuple(dict.fromkeys(notes)))
    sentence = trained.sentence(setup.batch_size, len(evaluation), trained_bits(plan))
    save_finetuned(network.tuned, loaded.tokenizer, plan, sentence, folder)
    write_atomically(folder / RESULT, json.dumps(training_result(trained, request, arm.learning_rate), indent=1) + "\n")
    _remove_what_only_resumes(folder)
    return trained


def _planned_arm(plan: FreezePlan, shape: ModelShape, steps: int) -> Arm:
    """What the plan trains, at first where it freezes deeper at a step.

    Raises:
        PlanError: so few steps end before it freezes deeper.
    """
    parts, switch = require_recommendation(plan), plan.switch
    if switch is None:
        return Arm("planned", parts, plan.cost.setup.lora, 0.0)
    try:
        require_step(switch, steps)
    except PlanError as error:
        raise PlanError(
            f"The plan {error}. Train for more --steps or --epochs, or make a plan with another --progressive."
        ) from error
    return Arm("planned", parts_at_depth(shape, switch.wide_depth), None, 0.0, switch)


@dataclass
class _Training:
    """A training on its way through its phases: one, or two where the plan freezes deeper at a step.

    Attributes:
        request, loaded, settings, trackers, folder, progress: of the training.
        arm: what trains in the first phase, with the rate once it is known.
        train, evaluation: examples.
        course: of all evaluations so far.
        record: of the steps since the start or resumption.
        search: of the learning rate, or None.
        notes: on the phases that have ended.
    """

    request: TrainRequest
    loaded: LoadedModel
    arm: Arm
    settings: ArmSettings
    train: Sequence[TokenizedExample]
    evaluation: Sequence[TokenizedExample]
    trackers: list[TrainerCallback]
    folder: Path
    progress: Progress
    course: Course = field(default_factory=Course)
    record: Record = field(default_factory=Record)
    search: RateSearch | None = None
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return self.settings.setup.steps

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    @property
    def saved(self) -> frozenset[int]:
        """After which steps there is a checkpoint."""
        every = self.save_every
        switch = self.arm.switch
        ends = () if switch is None else switch.looks(self.steps) or (switch.step,)
        return frozenset({*range(every, self.steps, every), *ends, self.steps})

    @property
    def save_every(self) -> int:
        return self.request.save_steps or max(1, self.steps // 10)

    def fit_phases(self) -> tuple[Trained, Network]:
        """Train all that is left to train; the result, and the network with its weights."""
        remove_incomplete_checkpoints(self.checkpoints)
        switch, setup = self.arm.switch, self.settings.setup
        phases = self.arm.phases(
            self.loaded.shape, setup_at_lengths(self.settings, self.train, cached=setup.prefix_cache)
        )
        wide = phases[0]
        last = phases[-1]
        if switch is None:
            network = self._network(wide, first=True)
        elif not switch.measured:
            network = self._freeze_deeper(wide, last, switch)
        elif self._look_until_deeper(wide, last, switch):
            network = self._second_network(wide, last)
        else:
            network, last = self._network(self._whole(wide), first=True), wide
        with tf32_products(network.decoder.device):  # but not for the cache, which is verified in float32
            trained, best = self._fit_to_the_end(network, last.parts)
        if best is not None:
            network.unfreeze()
            network = self._network(wide, first=True, cached=False)
            load_trained(network.supervised, best)
            evaluator = self._evaluator(network, wide.parts)
            notes = self._evaluate_best(evaluator, checkpoint_step(best))
            trained = replace(trained, after=evaluator.points[-1], notes=notes)
        looks = read_looks(self.folder)
        return replace(
            trained, notes=(*self.notes, *trained.notes), looks=() if looks is None else tuple(looks.looks)
        ), network

    def _freeze_deeper(self, wide: Phase, deep: Phase, switch: DepthSwitch) -> Network:
        """Train the first phase, or what is left of it; the model ready to train the second."""
        if saved_switch(self.folder) is not None:
            return self._second_network(wide, deep)
        end = self._first_phase(wide, switch.step)
        network = self._network(deep, first=False)
        save_switch(end, trained_tensors(network.supervised), self.folder, self.search)
        return network

    def _first_phase(self, wide: Phase, step: int) -> Path:
        """Train the first phase until a step; its checkpoint, whose weights the unfrozen model has."""
        network = self._network(wide, first=True)
        with tf32_products(network.decoder.device):
            end = self._fit_until(network, wide.parts, step)
        load_trained(network.supervised, end)  # a trainer that keeps the best ends with its weights
        self.notes = network.notes
        self._unfreeze(network, "Training: freezing deeper")
        return end

    def _second_network(self, wide: Phase, deep: Phase) -> Network:
        """The model ready to train the second phase, once the first has ended."""
        self._load(wide, wide_weights(self.folder))
        return self._network(deep, first=False)

    def _load(self, wide: Phase, checkpoint: Path) -> None:
        """Give the unfrozen model the weights of a checkpoint of the first phase."""
        network = self._network(wide, first=True, cached=False)
        load_trained(network.supervised, checkpoint)
        self._unfreeze(network, "Training: freezing deeper")

    def _unfreeze(self, network: Network, stage: str) -> None:
        network.unfreeze()
        release_unused_memory(self.loaded.decoder.device)
        self.progress(ProgressEvent(stage))

    def _whole(self, wide: Phase) -> Phase:
        """The first phase where it is the whole training: then it has a cache where the training is to have one."""
        return replace(wide, setup=replace(wide.setup, prefix_cache=self.settings.setup.prefix_cache))

    def _look_until_deeper(self, wide: Phase, deep: Phase, switch: DepthSwitch) -> bool:
        """Train the first phase until a short training that freezes deeper loses nothing; whether one did.

        What each decision gave is kept before anything is done about it: a killed training does that, and decides
        nothing anew.
        """
        for step in switch.looks(self.steps):
            if saved_switch(self.folder) is not None:
                return True
            looks = read_looks(self.folder)
            decided = None if looks is None else next((look for look in looks.looks if look.step == step), None)
            last = last_complete_checkpoint(self.checkpoints)
            if decided is not None and last is not None and checkpoint_step(last) > step:
                continue  # it went on from there
            end = self._first_phase(wide, step)
            if decided is None:
                decided = self._look(wide, deep, end)
            where = self.folder / LOOK / ("deep" if decided.deeper else "wide") / f"checkpoint-{step + LOOK_STEPS}"
            if decided.deeper:
                save_look(end, where, self.folder, self.search)
            else:
                _adopt(where, self.checkpoints)
                shutil.rmtree(self.folder / LOOK, ignore_errors=True)
        return saved_switch(self.folder) is not None

    def _look(self, wide: Phase, deep: Phase, end: Path) -> Look:
        """Train LOOK_STEPS steps from a checkpoint with either depth, and decide by their losses."""
        looks = read_looks(self.folder)
        assert looks is not None, "the first phase begins with it"
        shutil.rmtree(self.folder / LOOK, ignore_errors=True)
        losses: dict[str, list[float]] = {}
        records: dict[str, Record] = {}
        for name, phase in (("deep", deep), ("wide", wide)):
            if name == "wide":
                self._load(wide, end)
            network = self._network(phase, first=name == "wide", cached=False)
            begin = end
            if name == "deep":
                begin = deeper_checkpoint(end, trained_tensors(network.supervised), self.folder / LOOK / "begin")
            place = self.folder / LOOK / name
            losses[name], records[name] = self._short_training(network, phase.parts, begin, place)
            self._unfreeze(network, f"Training: {name} trial after step {checkpoint_step(end)}")
        self._load(wide, end)
        look = decide_look(
            checkpoint_step(end), looks.before, losses["wide"], losses["deep"], self._target_tokens(len(looks.before))
        )
        write_looks(looks.model_copy(update={"looks": [*looks.looks, look]}), self.folder)
        made = records["deep" if look.deeper else "wide"]
        self.record.losses += made.losses
        self.record.step_seconds += made.step_seconds
        self.progress(ProgressEvent("Training", message=look_sentence(look)))
        return look

    def _short_training(
        self, network: Network, parts: TrainableParts, begin: Path, folder: Path
    ) -> tuple[list[float], Record]:
        """Train LOOK_STEPS steps from a checkpoint, and leave one in a folder; losses of the eval examples then."""
        training = ArmTraining(network, Collator(self.train, network.train_cache), self.settings, 0, self.progress)
        end = checkpoint_step(begin) + LOOK_STEPS
        recorder = training.recorder(lambda _: None, frozenset(), total=self.steps, stage="Training: trial")
        with disk_errors(folder), tf32_products(network.decoder.device):
            training.fit(self.arm, folder, [recorder, EndPhase(end)], begin)
            if recorder.record.failure:
                raise InputError(f"Training ended: {recorder.record.failure}. Checkpoints are in {self.checkpoints}.")
            return self._evaluator(network, parts).curve_losses(), recorder.record

    def _target_tokens(self, n_examples: int) -> list[float]:
        return [float(example.supervised.sum()) for example in self.evaluation[:n_examples]]

    def _network(self, phase: Phase, *, first: bool, cached: bool = True) -> Network:
        """The model ready to train a phase."""
        states = prefix_cache_folder() if first else self.folder / STATES  # a moved prefix is this training's alone
        return build_network(
            self.loaded,
            phase.parts,
            replace(self.settings.setup, prefix_cache=cached and phase.setup.prefix_cache),
            self.train,
            self.evaluation,
            seed=self.request.seed,
            cache=CacheSettings(folder=states),
            progress=self.progress,
        )

    def _evaluator(self, network: Network, parts: TrainableParts) -> ArmEvaluator:
        setup = setup_at_lengths(self.settings, self.train, cached=network.train_cache is not None)
        return ArmEvaluator(
            network, self.loaded.tokenizer, self.loaded.shape, parts, setup, self.train, self.evaluation,
            n_accuracy=self.settings.n_accuracy, course=self.course,
        )  # fmt: skip

    def _fit_until(self, network: Network, parts: TrainableParts, step: int) -> Path:
        """Train the first phase until a step; returns the checkpoint there."""
        evaluator = self._evaluator(network, parts)
        resumed = self._begin(network, evaluator)
        if resumed is None or checkpoint_step(resumed) < step:
            self._run(network, evaluator, resumed, [EndPhase(step)])
        evaluator.end_phase()
        end = last_complete_checkpoint(self.checkpoints)
        assert end is not None, "EndPhase saves it"
        return end

    def _fit_to_the_end(self, network: Network, parts: TrainableParts) -> tuple[Trained, Path | None]:
        """Train the last phase; the result, and the best checkpoint where that is one of the phase before."""
        evaluator, switched = self._evaluator(network, parts), saved_switch(self.folder)
        if switched is None:
            resumed, since = self._begin(network, evaluator), 0
        else:
            resumed, since = last_complete_checkpoint(self.checkpoints), checkpoint_step(switched)
            if resumed is None or checkpoint_step(resumed) <= since:
                resumed = switched
            if self.request.keep_best:
                relocate_best(resumed, self.checkpoints)
            if (search := saved_search(self.folder)) is not None and search.rate is not None:
                self.search, self.arm = search, replace(self.arm, learning_rate=search.rate)
        if resumed is not None and checkpoint_step(resumed) >= self.steps:
            return self._evaluated(network, evaluator, resumed, since)
        trainer = self._run(network, evaluator, resumed, [], since)
        notes: tuple[str, ...] = ()
        if self.request.keep_best:
            # none when the checkpoint was deleted between two starts: then the last step's weights are left
            best = int(trainer.state.best_global_step or self.steps) if trainer.state.best_model_checkpoint else None
            if best is not None and best <= since:
                return self._result(evaluator), self.checkpoints / f"checkpoint-{best}"
            notes = self._evaluate_best(evaluator, best)
        return replace(self._result(evaluator), notes=notes), None

    def _result(self, evaluator: ArmEvaluator) -> Trained:
        points = {mark: point for point in evaluator.points for mark in point.marks}
        return Trained(
            self.folder, self.steps, self.record.losses, points.get("start"), points.get("steps"), (), self.search
        )

    def _begin(self, network: Network, evaluator: ArmEvaluator) -> Path | None:
        """The checkpoint that the first phase goes on from, once the rate is known; None starts from the model."""
        request = self.request
        resumed = last_complete_checkpoint(self.checkpoints)
        if self.evaluation and resumed is None:
            evaluator.evaluate(0, ["start"], 0.0)
        if self.arm.switch is not None and self.arm.switch.measured and read_looks(self.folder) is None:
            started = evaluator.points[0].item_losses if evaluator.points else None
            before = evaluator.curve_losses() if started is None else started
            write_looks(Looks(before=before[:CURVE_EXAMPLES], looks=[]), self.folder)
        _save_settings(self.folder, request)  # before the Trainer, which makes the folder of checkpoints
        if resumed is None and request.first_steps is not None and request.first_steps.checkpoint.is_dir():
            resumed = _adopt(request.first_steps.checkpoint, self.checkpoints)
        if self.settings.rate_steps is not None:
            won = self._take_rate(network, evaluator)
            if won is not None and resumed is None:
                trial, checkpoint = won
                resumed = _adopt(checkpoint, self.checkpoints)
                self.record = Record(trial.train_losses[:], trial.step_seconds[:], trial.peak_bytes)
                network.supervised.sizes[:] = trial.sizes
        if resumed is not None and request.keep_best:
            relocate_best(resumed, self.checkpoints)
        return resumed

    def _take_rate(self, network: Network, evaluator: ArmEvaluator) -> tuple[WinningTrial, Path | None] | None:
        """Search the rate, or find it in the finished search; what the best trial gave, and its checkpoint.

        Raises:
            InputError: nothing was learned at any rate.
        """
        training = ArmTraining(network, Collator(self.train, network.train_cache), self.settings, 0, self.progress)
        trials = rate_trials(training, evaluator, self.arm, self.folder / RATES)
        self.search, won = trials.run()
        if self.search.rate is None:
            raise InputError(f"{no_rate_reason(self.search)} Name one with --lr, or check the data.")
        self.arm = replace(self.arm, learning_rate=self.search.rate)
        return None if won is None else (won, trials.checkpoint(self.search.rate))

    def _run(
        self,
        network: Network,
        evaluator: ArmEvaluator,
        resumed: Path | None,
        ends: list[TrainerCallback],
        since: int = 0,
    ) -> PlanTrainer:
        """Train by transformers' Trainer, from a checkpoint on where there is one.

        Raises:
            InputError: the loss is not a number.
        """
        request, steps, record, checkpoints = self.request, self.steps, self.record, self.checkpoints
        arguments = trainer_arguments(str(checkpoints), self.arm, self.settings, network.decoder.device)
        arguments.save_strategy = "steps"
        arguments.save_steps = self.save_every
        arguments.save_total_limit = 2
        if self.trackers:
            arguments.logging_strategy, arguments.logging_steps = "steps", max(1, steps // 500)
        mark: Mark = "checkpoint" if request.keep_best else "steps"
        recorder = Recorder(
            network.supervised,
            lambda step: evaluator.evaluate(step, [mark], sum(record.step_seconds)),
            self.saved if request.keep_best else frozenset({steps} if self.evaluation else ()),
            begin=network.offload,
            device=network.decoder.device,
            baseline_bytes=0,
            total=steps,
            stage="Training",
            progress=self.progress,
            record=record,
        )
        how: dict[str, Any] = {
            "model": network.supervised,
            "args": arguments,
            "train_dataset": ExampleIndices(len(self.train)),
            "data_collator": Collator(self.train, network.train_cache),
            "callbacks": [recorder, *ends, *self.trackers],
        }
        trainer = (
            BestTrainer(last_loss=lambda: float(evaluator.points[-1].loss), after=since, **how)  # type: ignore[arg-type]  # a checkpoint's is whole
            if request.keep_best
            else PlanTrainer(**how)
        )
        trainer.remove_callback(PrinterCallback)
        with disk_errors(checkpoints):  # around it, `_claimed` knows what is kept
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
        # Under mixed precision accelerate wraps the model's forward; the next trainer would wrap it again.
        trainer.accelerator.unwrap_model(network.supervised, keep_fp32_wrapper=False)
        if record.failure:
            raise InputError(f"Training ended: {record.failure}. Checkpoints are in {checkpoints}.")
        return trainer

    def _evaluated(
        self, network: Network, evaluator: ArmEvaluator, last: Path, since: int
    ) -> tuple[Trained, Path | None]:
        """The result of a training that ended between its last checkpoint, which has all steps, and its result."""
        best = best_checkpoint(last, self.checkpoints) if self.request.keep_best else None
        ended = Trained(self.folder, self.steps, [], None, None, (), self.search)
        if best is not None and checkpoint_step(best) <= since:
            return ended, best
        load_trained(network.supervised, last if best is None else best)
        network.offload()
        notes: tuple[str, ...] = ()
        if self.request.keep_best:
            notes = self._evaluate_best(evaluator, None if best is None else checkpoint_step(best))
        elif evaluator.evaluation:
            evaluator.evaluate(self.steps, ["steps"], 0.0)
        return replace(ended, after=evaluator.points[-1] if evaluator.points else None, notes=notes), None

    def _evaluate_best(self, evaluator: ArmEvaluator, best: int | None) -> tuple[str, ...]:
        """Evaluate the weights that keep_best ends with, the last step's where the best are lost; returns the note."""
        evaluator.evaluate(self.steps if best is None else best, ["steps"], sum(self.record.step_seconds))
        if best is None:
            return (BEST_LOST_NOTE,)
        return (best_checkpoint_note(best, self.steps, len(self.saved)),)


def _remove_what_only_resumes(folder: Path) -> None:
    for used in _ONLY_TO_RESUME:
        if (folder / used).is_file():
            (folder / used).unlink()
        else:
            shutil.rmtree(folder / used, ignore_errors=True)


def _adopt(checkpoint: Path | None, checkpoints: Path) -> Path | None:
    """Move a checkpoint of the first steps to where the training goes on from."""
    if checkpoint is None:
        return None
    checkpoints.mkdir(exist_ok=True)
    place = checkpoints / checkpoint.name
    os.replace(checkpoint, place)
    return place


def _checkpoint_sentence(checkpoints: Path) -> str:
    last = last_complete_checkpoint(checkpoints)
    return "No checkpoint was saved." if last is None else f"The checkpoint of step {checkpoint_step(last)} is kept."


@contextmanager
def _claimed(folder: Path, request: TrainRequest) -> Iterator[None]:
    """Lock the folder for this request and this process; what is refused leaves nothing there.

    Raises:
        RunError: it holds something else, is finished, or is in use.
    """
    made = not folder.exists()
    lock = folder / ".lock"
    with disk_errors(folder, kept=lambda: _checkpoint_sentence(folder / CHECKPOINTS), advice=RESUME_ADVICE):
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is not a folder. Choose another --out.")
        _refuse_foreign(folder)  # before the lock, which others would find there
        folder.mkdir(parents=True, exist_ok=True)
        try:
            require_locks(folder)
            with FileLock(lock, timeout=0):
                try:
                    remove_leftovers(folder)
                    remove_from_claimed(folder)
                    _refuse_foreign(folder)
                    if (folder / RESULT).exists():
                        _remove_what_only_resumes(folder)  # killed in its deletion
                        raise RunError(f"{folder} holds a finished training. Choose another --out.")
                    _refuse_another(folder, request)
                    yield
                finally:
                    lock.unlink(missing_ok=True)
        except Timeout as error:
            raise RunError(f"A training is already running in {folder}.") from error
        finally:
            if made:
                with suppress(OSError):
                    folder.rmdir()  # only an empty one goes


def _refuse_foreign(folder: Path) -> None:
    if (folder / SETTINGS).exists() or not folder.exists():
        return
    left = (
        ".lock",
        DECISION,
        *(p.name for p in folder.iterdir() if is_temporary(p.name) or is_unlocked_leftover(p.name)),
    )
    if any(path.name not in left for path in folder.iterdir()):
        raise RunError(f"{folder} is not empty. Choose another --out.")


def _save_settings(folder: Path, request: TrainRequest) -> None:
    """Write what this folder trains, once nothing can be refused any more: a corrected request finds it free."""
    write_atomically(folder / SETTINGS, json.dumps(kept_settings(request, folder), indent=1) + "\n")


def _refuse_another(folder: Path, request: TrainRequest) -> None:
    """Refuse a folder whose settings are another request's, unless it has no checkpoint to lose."""
    begun = last_complete_checkpoint(folder / CHECKPOINTS) is not None or saved_switch(folder) is not None
    if not (folder / SETTINGS).exists() or not begun:
        return
    try:
        document = json.loads((folder / SETTINGS).read_text())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RunError(f"{folder / SETTINGS} is damaged: expected an object. Choose another --out, or remove {folder}.")
    if different := different_settings(document, request):
        raise RunError(
            f"{folder} holds another training (other settings: {', '.join(different)}). Choose another --out, or "
            "remove it."
        )
