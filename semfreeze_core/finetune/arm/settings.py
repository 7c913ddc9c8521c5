"""How an arm is trained, and what the trainer and the cost model are told of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import TrainingArguments

from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.records.examples import TokenisedExample
from semfreeze_core.records.training import Checkpointing, Precision, TrainingSetup
from semfreeze_core.records.validation import Mark


@dataclass(frozen=True)
class ArmSettings:
    """How an arm is trained.

    Attributes:
        seed: of the order of examples and of new adapters.
        batch_size: examples an optimiser step.
        accumulation: passes a step; each takes batch_size / accumulation examples.
        steps: where all arms are read.
        compute_steps: steps for the FLOP of full finetuning's `steps`; None when the arm is not read there.
        warmup_steps: steps of the linear warm-up; the rate is constant after it.
        precision, checkpointing: as in TrainingSetup.
        prefix_cache: whether frozen layers' states are computed once and kept.
        all_logits: compute the logits of every token, as stock trainers do.
        n_accuracy: eval items answered by generation at the marks; 0 for none.
        n_between: readings before the end: at half of the steps, a quarter, and so on, as the loss falls fastest early.
    """

    seed: int
    batch_size: int
    accumulation: int
    steps: int
    compute_steps: int | None
    warmup_steps: int
    precision: Precision = "float32"
    checkpointing: Checkpointing = "none"
    prefix_cache: bool = True
    all_logits: bool = False
    n_accuracy: int = 0
    n_between: int = 4

    @property
    def total_steps(self) -> int:
        """Steps made in all: to the further of the two marks."""
        return max(self.steps, self.compute_steps or 0)

    def marks(self) -> dict[int, list[Mark]]:
        """What is read after which step."""
        found: dict[int, list[Mark]] = {self.steps: ["steps"]}
        if self.compute_steps is not None:
            found.setdefault(self.compute_steps, []).append("compute")
        for halvings in range(1, self.n_between + 1):
            if (place := round(self.total_steps / 2**halvings)) >= 1:
                found.setdefault(place, ["between"])
        return found


def training_setup(
    arm: Arm, settings: ArmSettings, train: Sequence[TokenisedExample], *, cached: bool
) -> TrainingSetup:
    """The setup the cost model prices the arm with: mean padded length of batches drawn at random from the examples."""
    lengths = np.array([len(example.input_ids) for example in train])
    rows = settings.batch_size // settings.accumulation
    batches = np.random.default_rng(0).choice(lengths, size=(1000, rows))
    length = max(2, round(float(batches.max(1).mean())))
    supervised = sum(int(e.supervised.sum()) for e in train) / len(train) / length
    return TrainingSetup(
        batch_size=settings.batch_size,
        sequence_length=length,
        supervised_fraction=min(1.0, supervised),
        train_examples=len(train),
        steps=settings.total_steps,
        precision=settings.precision,
        loss="materialised" if settings.all_logits else "supervised-only",
        prefix_cache=cached,
        lora=arm.lora,
        checkpointing=settings.checkpointing,
    )


def trainer_arguments(folder: str, arm: Arm, settings: ArmSettings, device: torch.device) -> TrainingArguments:
    """What transformers' Trainer is told: AdamW, a constant rate after warm-up, gradients clipped at 1, no evaluation.

    One seed gives every arm the same examples in the same order.
    """
    return TrainingArguments(
        output_dir=folder,
        max_steps=settings.total_steps,
        per_device_train_batch_size=settings.batch_size // settings.accumulation,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=arm.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=settings.warmup_steps,
        optim="adamw_torch",
        max_grad_norm=1.0,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=settings.precision == "bf16-autocast",
        use_cpu=device.type == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        average_tokens_across_devices=False,
    )
