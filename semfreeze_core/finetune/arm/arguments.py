"""From an arm's settings to what the trainer and the cost model take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from transformers import TrainingArguments

from semfreeze_core.cost.setup import padded_length
from semfreeze_core.device import make_current, multiplies_bfloat16
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.training import TRANSFORMERS_OPTIMIZERS, TrainingSetup


def setup_at_lengths(settings: ArmSettings, train: Sequence[TokenizedExample], *, cached: bool) -> TrainingSetup:
    """The arm's setup with the data's lengths and counts, for the cost model.

    Its length is the mean padded length of the batches that it makes of the examples; its steps are all of the arm's.
    """
    length = padded_length(
        [len(example.input_ids) for example in train], settings.micro_batch_size, settings.setup.batches
    )
    target_tokens = sum(int(e.supervised.sum()) for e in train) / len(train)
    return replace(
        settings.setup,
        sequence_length=length,
        supervised_fraction=min(1.0, target_tokens / length),
        train_examples=len(train),
        steps=settings.total_steps,
        prefix_cache=cached,
    )


# In one kernel for all parameters, and without copies of them.
_OPTIMIZERS = TRANSFORMERS_OPTIMIZERS | {"adamw": "adamw_torch_fused"}


# The model comes sharded: accelerate is told of it for the sake of optimizer, clipping and checkpoints.
_SHARDED = {"version": 2, "auto_wrap_policy": "NO_WRAP", "state_dict_type": "SHARDED_STATE_DICT"}


@dataclass
class OneDeviceArguments(TrainingArguments):
    """Arguments of a Trainer that trains on the device the model is on, and on no other.

    The Trainer by itself takes the first GPU whichever holds the model, and with more than one wraps the model in
    DataParallel, which spreads every batch and knows no prefix cache.

    Attributes:
        model_device: as torch writes it, such as "cuda:1".
    """

    model_device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.mixed_precision = "bf16" if self.bf16 else "no"  # not that of `accelerate config`

    @cached_property
    def _setup_devices(self) -> torch.device:
        super()._setup_devices  # noqa: B018 - sets up accelerate's state, for the first GPU
        device = torch.device(self.model_device)
        if device.type == "cuda":
            self._n_gpu = 1
        make_current(device)
        if self.distributed_state is not None:
            self.distributed_state.device = device
        return device

    @property
    def place_model_on_device(self) -> bool:
        """The Trainer moves nothing: the model is there, but for what is kept elsewhere."""
        return False


def trainer_arguments(folder: str, arm: Arm, settings: ArmSettings, device: torch.device) -> TrainingArguments:
    """Arguments of transformers' Trainer: a constant rate after warm-up, gradients clipped at 1, no evaluation.

    One seed gives every arm the same examples in the same order.

    Raises:
        InputError: the GPU does not multiply bfloat16, which the precision needs.
    """
    if settings.setup.precision == "bf16-autocast" and device.type == "cuda" and not multiplies_bfloat16(device):
        raise InputError(f"{device} does not multiply bfloat16, which bf16-autocast needs: use --precision float32.")
    sharded: dict[str, Any] = {"fsdp": True, "fsdp_config": dict(_SHARDED)} if settings.sharded else {}
    return OneDeviceArguments(
        output_dir=folder,
        model_device=str(device),
        max_steps=settings.total_steps,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=arm.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=settings.warmup_steps,
        optim=_OPTIMIZERS[settings.setup.optimizer],
        max_grad_norm=1.0,
        seed=settings.seed,
        data_seed=settings.seed,
        # For shards accelerate has a way of its own, which autocasts nothing: the trainer does.
        bf16=settings.setup.precision == "bf16-autocast" and not settings.sharded,
        use_cpu=device.type == "cpu",
        save_strategy="no",
        save_total_limit=2,  # of those that callbacks ask for
        logging_strategy="no",
        logging_nan_inf_filter=False,  # reads the loss twice a step; the recorder ends a training whose loss is none
        log_level_replica="error",  # of several processes the first one warns
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        average_tokens_across_devices=settings.processes > 1,  # else each process would take its own tokens' mean
        ddp_find_unused_parameters=False,
        **sharded,
    )
