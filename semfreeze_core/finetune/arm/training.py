"""An arm's training by transformers' Trainer, and the short ones that search its learning rate."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from semfreeze_core.device import tf32_products
from semfreeze_core.finetune.arm.arguments import trainer_arguments
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.batch_order import DepthCollator, DepthOrder
from semfreeze_core.finetune.arm.evaluate import ArmEvaluator
from semfreeze_core.finetune.arm.example_order import example_order
from semfreeze_core.finetune.arm.rate_search import EndTrial, RateTrials, Sizes, Trial, parameters_before
from semfreeze_core.finetune.arm.recorder import Record, Recorder
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.switch import EndPhase
from semfreeze_core.finetune.arm.trainer import PlanTrainer, checkpoint_step, last_complete_checkpoint
from semfreeze_core.finetune.model.batches import Collator, ExampleIndices
from semfreeze_core.finetune.model.network import Network
from semfreeze_core.progress import Progress
from semfreeze_core.wording.rates import learning_rate


@dataclass(frozen=True)
class ArmTraining:
    """What all trainings of an arm share: those of its search and its own.

    Attributes:
        network: the model, ready to train.
        collator: of the training examples.
        settings: how.
        baseline_bytes: resident size of the process after import, before the model was loaded.
        progress: receives steps and stages.
    """

    network: Network
    collator: Collator
    settings: ArmSettings
    baseline_bytes: int
    progress: Progress

    def recorder(self, evaluate: Callable[[int], None], at: frozenset[int], **how: Any) -> Recorder:
        """A recorder that evaluates after these steps."""
        return Recorder(
            self.network.supervised,
            evaluate,
            at,
            begin=self.network.offload,
            device=self.network.decoder.device,
            baseline_bytes=self.baseline_bytes,
            progress=self.progress,
            **how,
        )

    def fit_until(
        self, step: int, arm: Arm, folder: Path, callbacks: list[TrainerCallback], checkpoint: Path | None
    ) -> Path | None:
        """Train at the arm's rate until a step; returns the checkpoint there, or None when it did not get there."""
        if checkpoint is not None and checkpoint_step(checkpoint) == step:
            return checkpoint
        self.fit(arm, folder, [*callbacks, EndPhase(step)], checkpoint)
        last = last_complete_checkpoint(folder)
        return last if last is not None and checkpoint_step(last) == step else None

    def fit(self, arm: Arm, folder: Path, callbacks: list[TrainerCallback], checkpoint: Path | None = None) -> None:
        """Train at the arm's rate, from a checkpoint on where there is one, until the steps are done or a callback
        ends it."""
        device = self.network.decoder.device
        lengths = [len(example.input_ids) for example in self.collator.examples]
        n_examples = len(lengths)
        how: dict[str, Any] = {
            "model": self.network.supervised,
            "args": trainer_arguments(str(folder), arm, self.settings, device),
            "train_dataset": ExampleIndices(n_examples),
            "callbacks": callbacks,
        }
        if arm.example_depths is None:
            order = example_order(lengths, self.settings)
            trainer = PlanTrainer(order=order, data_collator=self.collator.ahead(), **how)
        else:
            self.network.supervised.move_boundary = self.network.freezing.move_boundary
            setup = self.settings.setup
            depths = DepthOrder(
                ExampleIndices(n_examples), arm.example_depths, setup.batch_size, self.settings.seed,
                lengths if setup.batches == "by-length" else None,
            )  # fmt: skip
            trainer = PlanTrainer(order=depths, data_collator=DepthCollator(self.collator.ahead()), **how)
        trainer.remove_callback(PrinterCallback)
        with tf32_products(device):  # but not for the cache, which is verified in float32
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        # Under mixed precision accelerate wraps the model's forward; the next trainer would wrap it again.
        trainer.accelerator.unwrap_model(self.network.supervised, keep_fp32_wrapper=False)


def rate_trials(training: ArmTraining, evaluator: ArmEvaluator, arm: Arm, folder: Path) -> RateTrials:
    """The search of this arm's rate, on the eval examples that draw its curve or on the training's own batches."""
    supervised, settings = training.network.supervised, training.settings
    stage = f"{arm.name} (seed {settings.seed}), learning rate"
    reset = parameters_before(supervised)

    def train(trial: Trial, trial_folder: Path) -> tuple[Record, Sizes, int]:
        supervised.clear_batches()
        record = Record()
        recorder = training.recorder(
            lambda step: trial.read(step, record.losses),
            trial.at,
            record=record,
            total=trial.steps,
            stage=f"{stage} {learning_rate(trial.rate)}",
        )
        training.fit(replace(arm, learning_rate=trial.rate), trial_folder, [recorder, EndTrial(trial)])
        sizes = supervised.sizes[:]
        flop = evaluator.phase_flop() - evaluator.cache_flop
        supervised.clear_batches()
        return record, sizes, flop

    return RateTrials(
        folder=folder,
        start=arm.learning_rate,
        steps=settings.rate_steps or 0,
        reset=reset,
        train=train,
        evaluate=evaluator.curve_losses if settings.rates_on == "eval examples" else None,
        n_batch=settings.setup.batch_size,
        evaluation_flop=evaluator.curve_flop(),
        progress=training.progress,
        stage=stage,
        lower_first=settings.lower_rates_first,
        too_high=settings.too_high_rate,
    )
