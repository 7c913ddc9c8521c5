"""Which process this is, and what several may do."""

import pytest
import torch

from semfreeze_core import processes
from semfreeze_core.errors import InputError
from semfreeze_core.processes import Launch, Share, launch, own_device, refuse_launcher, refuse_other_ways

TWO = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def second(monkeypatch):
    """This process, as if a launcher had started it second of two."""
    for name, value in TWO.items():
        monkeypatch.setenv(name, value)


def test_a_process_without_a_launcher_is_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")  # as some schedulers set it for all that they start
    assert launch() == Launch()
    refuse_launcher("anything")
    assert own_device("cuda:3") == "cuda:3"
    assert processes.gathered("x") == ["x"]
    assert processes.summed(1, 2.5) == [1, 2.5]
    assert processes.interleaved([1, 2]) == [1, 2]
    assert processes.from_first(lambda: 3) == processes.by_first(lambda: 3) == 3
    assert processes.from_all(lambda: 3) == processes.sent_to_first(3) == [3]
    assert processes.own_share() == Share(0, 1)
    with processes.joined("cpu", "training", "it resumes"):
        assert processes.is_first()


def test_a_launched_process_knows_which_it_is(second):
    assert launch() == Launch(1, 2, 1, 2)


def test_shares_are_every_example_once():
    shares = [Share(i, 3).indices(8) for i in range(3)]
    assert [list(share) for share in shares] == [[0, 3, 6], [1, 4, 7], [2, 5]]


@pytest.mark.parametrize(
    ("n_gpus", "named", "device"),
    [(2, "auto", "cuda:1"), (2, "cuda", "cuda:1"), (2, "cpu", "cpu"), (0, "auto", "cpu")],
)
def test_each_process_has_a_gpu_of_its_own(second, monkeypatch, n_gpus, named, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert own_device(named) == device


@pytest.mark.parametrize(
    ("n_gpus", "named", "message"),
    [
        (2, "cuda:1", "--device cuda:1: 2 processes cannot use one device. Use --device cuda"),
        (1, "auto", "started 2 processes on this machine, and torch sees 1 CUDA devices"),
        (0, "mps", "--device mps: 2 processes"),
    ],
)
def test_devices_that_two_processes_cannot_have_are_refused(second, monkeypatch, n_gpus, named, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    with pytest.raises(InputError, match=message):
        own_device(named)


def test_what_takes_one_process_is_refused_under_a_launcher(second):
    with pytest.raises(InputError, match="but comparing variants takes one: start it without torchrun"):
        refuse_launcher("comparing variants")


@pytest.mark.parametrize(
    ("name", "value", "way"),
    [("ACCELERATE_USE_FSDP", "true", "FSDP"), ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "torch.compile")],
)
def test_other_ways_of_accelerate_are_refused(monkeypatch, name, value, way):
    refuse_other_ways()
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"accelerate is configured for {way}, and semfreeze works without") as error:
        refuse_other_ways()
    assert ("`semfreeze train --shard`" in str(error.value)) == (way == "FSDP")
