"""transformers' Trainer as finetunes use it."""

import logging

from transformers import TrainerState, TrainingArguments
from transformers.trainer_utils import compare_trainer_and_checkpoint_args

import semfreeze_core.finetune.arm.trainer  # noqa: F401  # silences the warning


def test_a_training_that_continues_a_trial_saved_at_other_steps_does_not_warn(monkeypatch):
    records = []
    monkeypatch.setattr(logging.getLogger("transformers.trainer_utils"), "callHandlers", records.append)
    state = TrainerState(save_steps=500, train_batch_size=8)
    arguments = TrainingArguments(save_steps=37, per_device_train_batch_size=8, use_cpu=True, report_to=[])
    compare_trainer_and_checkpoint_args(arguments, state)
    assert records == []
