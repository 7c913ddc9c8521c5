"""A step's time and loss are recorded with one wait for the device, which is that for the loss."""

from types import SimpleNamespace

import pytest
import torch

from semfreeze_core.finetune.arm import recorder as recorder_module
from semfreeze_core.finetune.arm.recorder import Recorder
from semfreeze_core.progress import silent


class Device:
    """A device and its clock: what it is given is done only when somebody waits."""

    def __init__(self, monkeypatch):
        self.now, self.queued, self.waits = 0.0, 0.0, []
        monkeypatch.setattr(recorder_module, "synchronize", lambda _: self.wait("synchronize"))
        monkeypatch.setattr(recorder_module, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def wait(self, why):
        self.waits.append(why)
        self.now, self.queued = self.now + self.queued, 0.0

    def take_loss(self):
        self.wait("loss")
        return 1.5


@pytest.fixture
def device(monkeypatch):
    return Device(monkeypatch)


def train(device, steps, *, at=(), evaluation=0.0):
    def evaluate(_):
        device.queued += evaluation

    recorder = Recorder(
        device, evaluate, frozenset(at), begin=lambda: None, device=torch.device("cpu"), baseline_bytes=0,
        total=steps, stage="", progress=silent,
    )  # fmt: skip
    recorder.on_train_begin()
    device.waits.clear()
    for step in range(1, steps + 1):
        device.queued += 10.0 * step
        recorder.on_step_end(None, SimpleNamespace(global_step=step), SimpleNamespace())
    return recorder.record


def test_the_loss_is_the_only_thing_that_a_step_waits_for(device):
    record = train(device, 3)
    assert device.waits == ["loss"] * 3
    assert (record.step_seconds, record.losses) == ([10.0, 20.0, 30.0], [1.5] * 3)


def test_what_an_evaluation_left_on_the_device_is_in_no_step(device):
    record = train(device, 3, at=[2], evaluation=500.0)
    assert device.waits == ["loss", "loss", "synchronize", "loss"]
    assert record.step_seconds == [10.0, 20.0, 30.0]
