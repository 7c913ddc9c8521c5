"""One phase of a training: its learning rate, its steps, and the checkpoint that it ends with."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from semfreeze_core.cost import Phase
from semfreeze_core.device import autocast
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.arguments import setup_at_lengths, trainer_arguments
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.evaluate import ArmEvaluator, Course
from semfreeze_core.finetune.arm.example_order import example_order
from semfreeze_core.finetune.arm.rate_search import WinningTrial
from semfreeze_core.finetune.arm.recorder import Record, Recorder
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.switch import EndPhase
from semfreeze_core.finetune.arm.timed_saves import SaveByTime
from semfreeze_core.finetune.arm.trainer import (
    PlanTrainer,
    checkpoint_step,
    end_shards,
    last_complete_checkpoint,
    load_trained,
)
from semfreeze_core.finetune.arm.training import ArmTraining, rate_trials
from semfreeze_core.finetune.model.batches import Collator, ExampleIndices
from semfreeze_core.finetune.model.network import CacheSettings, Network, build_network
from semfreeze_core.finetune.train.checkpoints import BestTrainer, best_weights, relocate_best
from semfreeze_core.finetune.train.deeper import STATES, read_looks, saved_search, saved_switch, write_looks
from semfreeze_core.finetune.train.folder import CHECKPOINTS, RATES, adopt, save_settings
from semfreeze_core.finetune.train.request import TrainRequest
from semfreeze_core.finetune.train.result import Trained, best_checkpoint_note
from semfreeze_core.processes import WHOLE, from_first, own_share
from semfreeze_core.progress import Progress
from semfreeze_core.records.defaults import BEST_EVALUATIONS, CHECKPOINT_SECONDS, CURVE_EXAMPLES
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.looks import Looks
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.training import TrainableParts
from semfreeze_core.records.validation import Mark
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.storage import disk_errors, prefix_cache_folder
from semfreeze_core.wording.rates import no_rate_reason

BEST_LOST_NOTE = "The checkpoint with the lowest eval loss is gone, so this model is the last step's, not the best."


@dataclass
class Fit:
    """Training one set of parts by transformers' Trainer, from the start or a checkpoint, and keeping what it gave.

    Attributes:
        request, loaded, settings, trackers, folder, progress: of the training.
        arm: what trains in the first phase, with the rate once it is known.
        train, evaluation: examples.
        course: of all evaluations so far.
        record: of the steps since the start or resumption.
        search: of the learning rate, or None.
        notes: on the phases that have ended.
        clock: seconds, that tell when a checkpoint is due.
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
    clock: Callable[[], float] = time.monotonic

    @property
    def steps(self) -> int:
        return self.settings.setup.steps

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    @property
    def evaluated(self) -> frozenset[int]:
        """After which steps keep_best evaluates."""
        every = self.request.save_steps or max(1, self.steps // BEST_EVALUATIONS)
        switch = self.arm.switch
        ends = () if switch is None else switch.looks(self.steps) or (switch.step,)
        return frozenset({*range(every, self.steps, every), *ends, self.steps})

    def network(self, phase: Phase, *, first: bool, cached: bool = True) -> Network:
        """The model ready to train a phase."""
        states = prefix_cache_folder() if first else self.folder / STATES  # a moved prefix is this training's alone
        return build_network(
            self.loaded,
            phase.parts,
            replace(self.settings.setup, prefix_cache=cached and phase.setup.prefix_cache),
            self.train,
            self.evaluation,
            seed=self.request.seed,
            cache=CacheSettings(
                folder=states,
                train_share=own_share() if self.settings.parts == self.settings.processes else WHOLE,
                eval_share=WHOLE if self.request.shard else own_share(),
            ),
            shard=self.request.shard,
            progress=self.progress,
        )

    def evaluator(self, network: Network, parts: TrainableParts) -> ArmEvaluator:
        setup = setup_at_lengths(self.settings, self.train, cached=network.train_cache is not None)
        return ArmEvaluator(
            network, self.loaded.tokenizer, self.loaded.shape, parts, setup, self.train, self.evaluation,
            n_accuracy=self.settings.n_accuracy, course=self.course, progress=self.progress,
        )  # fmt: skip

    def fit_until(self, network: Network, parts: TrainableParts, step: int) -> Path:
        """Train the first phase until a step; returns the checkpoint there."""
        evaluator = self.evaluator(network, parts)
        resumed = self._begin(network, evaluator)
        if resumed is None or checkpoint_step(resumed) < step:
            self._run(network, evaluator, resumed, [EndPhase(step)])
        evaluator.end_phase()
        end = self._last_checkpoint()
        assert end is not None, "EndPhase saves it"
        return end

    def fit_to_the_end(self, network: Network, parts: TrainableParts) -> tuple[Trained, Path | None]:
        """Train the last phase; the result, and the best checkpoint where that is one of the phase before."""
        evaluator, switched = self.evaluator(network, parts), self._saved_switch()
        if switched is None:
            resumed, since = self._begin(network, evaluator), 0
        else:
            resumed, since = self._last_checkpoint(), checkpoint_step(switched)
            if resumed is None or checkpoint_step(resumed) <= since:
                resumed = switched
            if self.request.keep_best:
                self._relocate_best(resumed)
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
                return self._result(evaluator), Path(str(trainer.state.best_model_checkpoint))
            notes = self.evaluate_best(evaluator, best)
        return replace(self._result(evaluator), notes=notes), None

    def _result(self, evaluator: ArmEvaluator) -> Trained:
        points = {mark: point for point in evaluator.points for mark in point.marks}
        return Trained(
            self.folder, self.steps, self.record.losses, points.get("start"), points.get("steps"), (), self.search
        )

    def _begin(self, network: Network, evaluator: ArmEvaluator) -> Path | None:
        """The checkpoint that the first phase goes on from, once the rate is known; None starts from the model."""
        request = self.request
        resumed = self._last_checkpoint()
        if self.evaluation and resumed is None:
            evaluator.evaluate(0, ["start"], 0.0)
        if self.arm.switch is not None and self.arm.switch.measured and self._looks() is None:
            started = evaluator.points[0].item_losses if evaluator.points else None
            before = evaluator.curve_losses() if started is None else started
            looks = Looks(before=before[:CURVE_EXAMPLES], looks=[])
            from_first(lambda: write_looks(looks, self.folder))
        # before the Trainer, which makes the folder of checkpoints
        from_first(lambda: save_settings(self.folder, request, self.settings.parts))
        first = request.first_steps
        if resumed is None and first is not None and from_first(first.checkpoint.is_dir):
            resumed = from_first(lambda: adopt(first.checkpoint, self.checkpoints))
        if self.settings.rate_steps is not None:
            won = self._take_rate(network, evaluator)
            if won is not None and resumed is None:
                trial, checkpoint = won
                resumed = from_first(lambda: adopt(checkpoint, self.checkpoints))
                self.record = Record(trial.train_losses[:], trial.step_seconds[:], trial.peak_bytes)
                network.supervised.sizes[:] = trial.sizes
        if resumed is not None and request.keep_best:
            self._relocate_best(resumed)
        return resumed

    def _looks(self) -> Looks | None:
        return from_first(lambda: read_looks(self.folder))

    def _saved_switch(self) -> Path | None:
        return from_first(lambda: saved_switch(self.folder))

    def _last_checkpoint(self) -> Path | None:
        return from_first(lambda: last_complete_checkpoint(self.checkpoints))

    def _relocate_best(self, resumed: Path) -> None:
        from_first(lambda: relocate_best(resumed, self.checkpoints))

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
        arguments.save_steps = request.save_steps or steps
        arguments.save_total_limit = 2
        by_time = [] if request.save_steps else [SaveByTime(CHECKPOINT_SECONDS, clock=self.clock)]
        if self.trackers:
            arguments.logging_strategy, arguments.logging_steps = "steps", max(1, steps // 500)
        mark: Mark = "checkpoint" if request.keep_best else "steps"
        recorder = Recorder(
            network.supervised,
            lambda step: evaluator.evaluate(step, [mark], sum(record.step_seconds)),
            self.evaluated if request.keep_best else frozenset({steps} if self.evaluation else ()),
            begin=network.offload,
            device=network.decoder.device,
            baseline_bytes=0,
            total=steps,
            stage="Training",
            progress=self.progress,
            record=record,
        )
        device, precision = network.decoder.device, self.settings.setup.precision
        how: dict[str, Any] = {
            "autocast": (lambda: autocast(precision, device)) if request.shard else None,
            "model": network.supervised,
            "args": arguments,
            "train_dataset": ExampleIndices(len(self.train)),
            "data_collator": Collator(self.train, network.train_cache).ahead(),
            "callbacks": [recorder, *by_time, *ends, *self.trackers],
            "order": example_order([len(example.input_ids) for example in self.train], self.settings),
        }
        trainer = (
            BestTrainer(
                evaluated=self.evaluated,
                last_loss=lambda: float(evaluator.points[-1].loss),  # type: ignore[arg-type]  # a checkpoint's is whole
                after=since,
                **how,
            )
            if request.keep_best
            else PlanTrainer(**how)
        )
        trainer.remove_callback(PrinterCallback)
        with disk_errors(checkpoints):  # around it, `claimed` knows what is kept
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
        # Under mixed precision accelerate wraps the model's forward; the next trainer would wrap it again.
        trainer.accelerator.unwrap_model(network.supervised, keep_fp32_wrapper=False)
        if request.shard:
            end_shards()
        if record.failure:
            raise InputError(f"Training ended: {record.failure}. Checkpoints are in {checkpoints}.")
        return trainer

    def _evaluated(
        self, network: Network, evaluator: ArmEvaluator, last: Path, since: int
    ) -> tuple[Trained, Path | None]:
        """The result of a training that ended between its last checkpoint, which has all steps, and its result."""
        best = from_first(lambda: best_weights(last, self.checkpoints)) if self.request.keep_best else None
        ended = Trained(self.folder, self.steps, [], None, None, (), self.search)
        if best is not None and checkpoint_step(best) <= since:
            return ended, best
        load_trained(network.supervised, last if best is None else best)
        network.offload()
        notes: tuple[str, ...] = ()
        if self.request.keep_best:
            notes = self.evaluate_best(evaluator, None if best is None else checkpoint_step(best))
        elif evaluator.evaluation:
            evaluator.evaluate(self.steps, ["steps"], 0.0)
        return replace(ended, after=evaluator.points[-1] if evaluator.points else None, notes=notes), None

    def evaluate_best(self, evaluator: ArmEvaluator, best: int | None) -> tuple[str, ...]:
        """Evaluate the weights that keep_best ends with, the last step's where the best are lost; returns the note."""
        evaluator.evaluate(self.steps if best is None else best, ["steps"], sum(self.record.step_seconds))
        if best is None:
            return (BEST_LOST_NOTE,)
        return (best_checkpoint_note(best, self.steps, len(self.evaluated)),)
