"""The setup of a validation or sweep from its flags: what no flag says is as the device has it."""

import pytest

from semfreeze_core.cli.options import plan_and_data
from semfreeze_core.cli.options.finetune import FinetuneFlags
from semfreeze_core.cli.options.plan_and_data import finetune_setup
from semfreeze_core.errors import InputError


def made(**flags):
    return finetune_setup(FinetuneFlags(**flags), None, steps=3, train_examples=8)


def test_the_precision_is_the_devices_unless_a_flag_says(monkeypatch):
    assert made(device="cpu").precision == "float32"
    monkeypatch.setattr(plan_and_data, "trained_precision", lambda precision, device: "bf16-autocast")
    assert made(device="cpu").precision == "bf16-autocast"
    assert made(device="cpu", precision="fp32").precision == "float32"
    assert made(device="cpu", precision="bfloat16").precision == "bf16"


def test_an_unknown_device_is_refused_before_anything_is_read():
    with pytest.raises(InputError, match="--device gpu: expected auto, cpu, cuda, cuda:N or mps"):
        made(device="gpu")
