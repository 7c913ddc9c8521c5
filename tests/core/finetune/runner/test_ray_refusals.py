"""What is refused before Ray is asked: no Ray, an address of nobody, devices of one machine, other versions."""

import os
import socket
from pathlib import Path

import pytest

from semfreeze_core.errors import InputError, ResourceError, SemfreezeError
from semfreeze_core.finetune.runner import ray_cluster, ray_runner
from semfreeze_core.finetune.runner.ray_cluster import Cluster, joined, require_versions
from semfreeze_core.finetune.runner.ray_node import LOST, UNSENT
from semfreeze_core.finetune.runner.runner import open_runner
from semfreeze_core.version import __version__


class FakeRay:
    """A cluster of machines with these resources."""

    def __init__(self, *nodes):
        self._nodes = nodes

    def nodes(self):
        return [{"Alive": True, "Resources": resources} for resources in self._nodes]


def refused(name, device="cpu"):
    with pytest.raises(InputError) as error, open_runner(name, device):
        pytest.fail("it opened")
    return str(error.value)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    assert refused("ray") == "--runner ray needs Ray: pip install 'semfreeze[ray]'"


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_device_of_one_machine_is_refused(device):
    assert f"--device {device} names a device of one machine" in refused("ray", device)


def test_an_address_where_nobody_answers_is_refused_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(InputError, match=rf"No Ray cluster was joined at 127\.0\.0\.1:{port}: .*Connection refused"):
        ray_cluster._require_answer(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:http", "10.0.0.5:6379/x"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="expected HOST:PORT"):
        ray_cluster._require_answer(address)


def test_machines_without_the_package_or_with_another_version_are_named():
    require_versions([("a", __version__)])
    with pytest.raises(InputError) as error:
        require_versions([("b (10.0.0.2)", None), ("c (10.0.0.3)", "0.0.9"), ("c (10.0.0.3)", __version__)])
    assert "b (10.0.0.2) has no semfreeze; c (10.0.0.3) has semfreeze 0.0.9." in str(error.value)
    assert f"needs semfreeze {__version__}" in str(error.value)


def test_a_machine_that_joined_later_is_refused_by_its_task():
    outcome = ray_runner._task()("9.9.9", "0", "full-seed0", {}, None, b"")
    assert (outcome["code"], outcome["found"]) == (ray_runner._REFUSED, __version__)
    runner = ray_runner.RayRunner(Cluster(None, "cpu", 1, False), Path())
    with pytest.raises(ray_runner.NodeRefused, match=f"{outcome['machine']} has semfreeze {__version__}. It needs"):
        runner._take(outcome, Path("full-seed0.json"), None, Path())


def test_an_arm_whose_machine_was_lost_too_often_is_tried_again_later():
    runner = ray_runner.RayRunner(Cluster(None, "cpu", 1, False), Path())
    with pytest.raises(ResourceError, match="full-seed0: its machine was lost 4 times"):
        runner._take({"code": LOST}, Path("full-seed0.json"), None, Path())


def test_an_arm_that_could_not_send_ends_with_its_machines_reason():
    runner = ray_runner.RayRunner(Cluster(None, "cpu", 1, False), Path())
    outcome = {"code": UNSENT, "reason": "node7 could not send its progress and files: OSError: No space left"}
    with pytest.raises(SemfreezeError) as error:
        runner._take(outcome, Path("full-seed0.json"), None, Path())
    assert str(error.value) == (
        "full-seed0 ended: node7 could not send its progress and files: OSError: No space left. "
        "Run the same command again to train it."
    )


def test_a_cluster_without_room_for_one_arm_is_refused_with_what_it_has():
    cpus = FakeRay({"CPU": 4.0}, {"CPU": 2.0})
    with pytest.raises(InputError, match=r"has no GPU \(machines: 2, CPUs: 6, GPUs: 0\)"):
        ray_cluster._chosen(cpus, "cuda", is_own=False)
    with pytest.raises(InputError, match="has no CPU for arms"):
        ray_cluster._chosen(FakeRay({"memory": 1.0}), "auto", is_own=False)


@pytest.mark.parametrize(
    ("nodes", "device", "is_own", "takes", "at_once"),
    [
        ([{"CPU": 4.0}, {"CPU": 2.0}], "auto", False, {"num_cpus": 1, "num_gpus": 0}, 6),
        ([{"CPU": 4.0}], "auto", True, {"num_cpus": 4, "num_gpus": 0}, 1),
        ([{"CPU": 4.0, "GPU": 2.0}, {"CPU": 9.0}], "auto", False, {"num_cpus": 0, "num_gpus": 1}, 2),
        ([{"CPU": 4.0, "GPU": 2.0}], "cuda", True, {"num_cpus": 0, "num_gpus": 1}, 2),
        ([{"CPU": 4.0, "GPU": 2.0}], "cpu", False, {"num_cpus": 1, "num_gpus": 0}, 4),
    ],
)
def test_an_arm_takes_a_gpu_where_there_are_some_and_else_a_cpu(nodes, device, is_own, takes, at_once):
    cluster = ray_cluster._chosen(FakeRay(*nodes), device, is_own=is_own)
    assert isinstance(cluster, Cluster)
    assert (cluster.takes, cluster.at_once()) == (takes, at_once)


def test_work_that_does_not_come_back_is_left():
    with pytest.raises(TimeoutError):
        ray_cluster._within(0.01, lambda: socket.create_server(("127.0.0.1", 0)).accept())
    with pytest.raises(ZeroDivisionError):
        ray_cluster._within(20, lambda: 1 / 0)


def test_the_environment_is_as_it_was_after_it(monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    with ray_cluster._environment(is_own=True):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"} & os.environ.keys()
    with ray_cluster._environment(is_own=False):
        assert "RAY_AUTH_MODE" not in os.environ  # a cluster at an address has its own


def test_joined_asks_nothing_of_a_device_it_refuses(monkeypatch):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: pytest.fail("it looked for Ray"))
    with pytest.raises(InputError), joined(None, "mps"):
        pytest.fail("it joined")
