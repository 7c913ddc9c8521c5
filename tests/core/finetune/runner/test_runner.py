"""Who carries out arms: the choice by name, one arm on each GPU of this machine, and the end of all of them."""

import threading

import pytest

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.cancel import Cancel, Canceled
from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.finetune.runner.runner import open_runner
from semfreeze_core.finetune.runner.this_machine import ThisMachine


@pytest.mark.parametrize("name", ["rays", "ray://", "ray:/x", "slurm"])
def test_a_runner_of_another_name_is_refused(name):
    with pytest.raises(InputError, match=r"expected processes, ray, or ray://HOST:PORT"), open_runner(name, "cpu"):
        pytest.fail("it opened")


def test_the_default_trains_on_this_machine_one_at_a_time():
    with open_runner(None, "cpu") as runner:
        assert isinstance(runner, ThisMachine)
        assert (runner.trains_here, runner.at_once()) == (True, 1)


def test_a_runner_is_itself():
    machine = ThisMachine("cpu")
    with open_runner(machine, "cuda") as runner:
        assert runner is machine


@pytest.fixture
def three_gpus(monkeypatch):
    monkeypatch.setattr(this_machine, "count_gpus", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(this_machine, "read_result", lambda job: job)


def test_each_of_several_gpus_takes_one_arm(three_gpus, monkeypatch):
    together, devices = threading.Barrier(3), []

    def run(job, log, progress, *, environment, cancel):
        devices.append(environment)
        together.wait(20)

    monkeypatch.setattr(this_machine, "run_arm_process", run)
    runner = ThisMachine("auto")
    assert runner.at_once() == 3
    arms = [threading.Thread(target=runner.run, args=(i, None, None)) for i in range(6)]
    for arm in arms:
        arm.start()
    for arm in arms:
        arm.join(20)
    visible = sorted(environment["CUDA_VISIBLE_DEVICES"] for environment in devices)
    assert visible == ["4", "4", "6", "6", "7", "7"]


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "mps"])
def test_a_named_device_takes_all_arms_one_at_a_time(three_gpus, device):
    assert ThisMachine(device).at_once() == 1


def test_cancel_ends_what_runs_and_what_comes():
    cancel, ended = Cancel(), []
    with cancel.ended_by(lambda: ended.append("running")):
        cancel()
    with cancel.ended_by(lambda: ended.append("later")):
        pass
    assert ended == ["running", "later"]
    with pytest.raises(Canceled):
        cancel.require_none()
