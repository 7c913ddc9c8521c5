"""Arguments of the trainer: one device, the model's own, however many GPUs there are."""

from dataclasses import replace

import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from transformers.training_args import ParallelMode

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.arguments import trainer_arguments
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.records.training import TrainableParts, TrainingSetup

ARM = Arm("full", TrainableParts((True, True), True, True, True), None, 1e-3)
SETTINGS = ArmSettings(TrainingSetup(batch_size=4, steps=4), seed=0, warmup_steps=1)


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs, as far as it is asked; returns what was made current."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr("accelerate.state.check_cuda_p2p_ib_support", lambda: True)
    yield chosen
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("name", ["cuda:0", "cuda:1"])
def test_a_trainer_takes_the_models_gpu_alone(two_gpus, tmp_path, name):
    arguments = trainer_arguments(str(tmp_path), ARM, SETTINGS, torch.device(name))
    assert arguments.device == torch.device(name)
    assert two_gpus[-1] == torch.device(name)
    assert PartialState().device == torch.device(name), "what accelerate moves the model and batches to"
    assert arguments.n_gpu == 1
    assert arguments.parallel_mode is ParallelMode.NOT_PARALLEL
    assert arguments.train_batch_size == 4, "not as many again for the other GPU"


def test_a_trainer_on_the_cpu_takes_no_gpu(two_gpus, tmp_path):
    in_pieces = replace(SETTINGS, setup=replace(SETTINGS.setup, micro_batch_size=2))
    arguments = trainer_arguments(str(tmp_path), ARM, in_pieces, torch.device("cpu"))
    assert arguments.device == PartialState().device == torch.device("cpu")
    assert (arguments.n_gpu, arguments.train_batch_size) == (0, 2)
    assert two_gpus == []


@pytest.mark.parametrize("precision", ["float32", "bf16-autocast"])
def test_a_gpu_without_bfloat16_is_refused_only_where_it_is_needed(two_gpus, tmp_path, monkeypatch, precision):
    monkeypatch.setattr("semfreeze_core.finetune.arm.arguments.multiplies_bfloat16", lambda device: False)
    settings = replace(SETTINGS, setup=replace(SETTINGS.setup, precision=precision))
    if precision == "float32":
        assert trainer_arguments(str(tmp_path), ARM, settings, torch.device("cuda:0")).bf16 is False
        return
    with pytest.raises(InputError, match="cuda:0 does not multiply bfloat16, which bf16-autocast needs"):
        trainer_arguments(str(tmp_path), ARM, settings, torch.device("cuda:0"))
