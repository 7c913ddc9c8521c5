"""Joining a Ray cluster, or starting one for this command alone, and checking that its machines can train arms.

What is started here ends here: a cluster at an address is only joined and left.
"""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Literal

from semfreeze_core.errors import InputError
from semfreeze_core.version import __version__

_SECONDS_TO_ANSWER = 10.0  # of a machine at an address
_SECONDS_TO_JOIN = 120.0  # Ray's own wait is longer; a busy machine took 40 to start it
_SECONDS_TO_CHECK = 120.0  # the machines, each of which starts a process

_NICENESS = "RAY_worker_niceness"
_USAGE, _MODE, _TOKEN, _TOKEN_FILE = (
    "RAY_USAGE_STATS_ENABLED",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
)


@dataclass(frozen=True)
class Cluster:
    """A cluster that this command has joined.

    Attributes:
        ray: the package.
        device: of the arms there, "cuda" or "cpu".
        n_cpus: that an arm takes; none beside a GPU.
        is_own: it was started for this command.
    """

    ray: Any
    device: Literal["cuda", "cpu"]
    n_cpus: int
    is_own: bool

    @property
    def takes(self) -> dict[str, int]:
        """What an arm takes of a machine, by Ray's names."""
        return {"num_cpus": self.n_cpus, "num_gpus": int(self.device == "cuda")}

    def at_once(self) -> int:
        """How many arms there is room for, when nobody else uses the cluster."""
        return sum(room(node["Resources"], self.device, self.n_cpus) for node in alive_nodes(self.ray))


@contextmanager
def joined(address: str | None, device: str) -> Iterator[Cluster]:
    """The cluster at an address, or without one a cluster of this machine, while the block runs.

    Args:
        address: HOST:PORT of a running cluster's head, "auto" for the one on this machine, or None.
        device: of the arms, as a command takes it.

    Raises:
        InputError: Ray is not installed, nobody answers, a machine cannot train arms, or none has what an arm needs.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(
            f"--device {device} names a device of one machine: with --runner ray choose auto, cuda or cpu."
        )
    if find_spec("ray") is None:
        raise InputError("--runner ray needs Ray: pip install 'semfreeze[ray]'")
    with _environment(is_own=address is None):
        import ray

        joined_here, terminated = not ray.is_initialized(), signal.getsignal(signal.SIGTERM)
        if joined_here:
            _join(ray, address)
        try:
            cluster = _chosen(ray, device, is_own=address is None and joined_here)
            _require_package(cluster)
            yield cluster
        finally:
            if joined_here:
                ray.shutdown()
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, terminated)  # Ray puts its own there


@contextmanager
def _environment(*, is_own: bool) -> Iterator[None]:
    """Ray's variables while the block runs: no usage statistics, and on our own cluster a password of its own."""
    before = dict(os.environ)
    os.environ.setdefault(_USAGE, "0")
    if is_own:
        os.environ.setdefault(_NICENESS, "0")  # as without Ray
        os.environ.setdefault(_MODE, "token")
        if not {_TOKEN, _TOKEN_FILE} & os.environ.keys():
            os.environ[_TOKEN] = _own_token()
    try:
        yield
    finally:
        for name in {_USAGE, _MODE, _TOKEN, _NICENESS} - before.keys():
            os.environ.pop(name, None)


@cache
def _own_token() -> str:
    """The password of all that this process starts: Ray reads it once."""
    return secrets.token_hex(32)


def _join(ray: Any, address: str | None) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    init = partial(ray.init, log_to_driver=False, configure_logging=False)
    try:
        if address is None:
            # In this thread: the system kills what a thread has started for Ray when that thread ends.
            init(address="local", include_dashboard=False)
            return
        if address != "auto":
            _require_answer(address)
        _within(_SECONDS_TO_JOIN, partial(init, address=address))
    except InputError:
        raise
    except TimeoutError as error:
        raise InputError(
            _no_cluster(address, f"Ray has not joined it within {_SECONDS_TO_JOIN:.0f} seconds")
        ) from error
    except Exception as error:
        raise InputError(_no_cluster(address, f"Ray reports: {_first_line(error)}")) from error


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Do work that may not come back.

    Raises:
        TimeoutError: it has not after so many seconds; its thread is left behind.
        Exception: what it raised.
    """
    errors: list[Exception] = []

    def guarded() -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if errors:
        raise errors[0]


def _require_answer(address: str) -> None:
    """Refuse an address where nobody answers; Ray itself would try for many minutes.

    Raises:
        InputError: nobody does, or it is none.
    """
    host, mark, port = address.rpartition(":")
    if not (host and mark and port.isdecimal()):
        raise InputError(f"--runner ray://{address}: expected HOST:PORT, such as ray://10.0.0.5:6379, or ray://auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise InputError(_no_cluster(address, _first_line(error))) from error


def _no_cluster(address: str | None, why: str) -> str:
    if address is None:
        return f"Ray could not be started on this machine. {why}."
    return (
        f"No Ray cluster was joined at {address}: {why}. Give the head's address as `ray start --head` prints it (port "
        "6379 unless another was chosen), and run this command on a machine of the cluster."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _chosen(ray: Any, device: str, *, is_own: bool) -> Cluster:
    """The cluster with the device that its arms train on.

    Raises:
        InputError: no machine has what one arm needs.
    """
    nodes = [node["Resources"] for node in alive_nodes(ray)]
    n_gpus = sum(room(node, "cuda", 0) for node in nodes)
    if device == "cuda" and not n_gpus:
        raise InputError(
            f"--device cuda: the Ray cluster has no GPU ({_resources(nodes)}), and an arm takes one. Start a machine "
            "with a GPU, name GPUs that Ray does not find by itself (ray start --num-gpus N), or use --device cpu."
        )
    if device != "cpu" and n_gpus:
        return Cluster(ray, "cuda", 0, is_own)
    cpus = max((int(node.get("CPU", 0)) for node in nodes), default=0)
    if not cpus:
        raise InputError(
            f"The Ray cluster has no CPU for arms ({_resources(nodes)}). Start a machine with some, as ray start "
            "--num-cpus N does."
        )
    # On this machine alone one arm at a time takes all of them, as without Ray.
    return Cluster(ray, "cpu", cpus if is_own else 1, is_own)


def alive_nodes(ray: Any) -> list[dict[str, Any]]:
    """The cluster's machines, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def room(resources: dict[str, float], device: str, n_cpus: int) -> int:
    """How many arms a machine takes at once."""
    return int(resources.get("GPU", 0)) if device == "cuda" else int(resources.get("CPU", 0)) // max(1, n_cpus)


def _resources(nodes: list[dict[str, float]]) -> str:
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    return f"machines: {len(nodes)}, CPUs: {cpus:.0f}, GPUs: {gpus:.0f}"


def _require_package(cluster: Cluster) -> None:
    """Refuse machines that would take arms and have no semfreeze, or another version of it.

    Raises:
        InputError: with their names.
    """
    if cluster.is_own:
        return
    ray = cluster.ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task, here = ray.remote(version_reader()), ray.get_runtime_context().get_node_id()  # which has the mailbox
    asked = {
        task.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(): node_name(node)
        for node in alive_nodes(ray)
        if room(node["Resources"], cluster.device, cluster.n_cpus) or node["NodeID"] == here
    }
    ready, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS_TO_CHECK)
    versions: list[tuple[str, str | None]] = []  # a machine may have several of Ray's nodes
    for reference in ready:
        try:
            versions.append((asked[reference], ray.get(reference)))
        except Exception as error:
            versions.append((asked[reference], f"(it cannot tell: {_first_line(error)})"))
    versions += [(asked[reference], "(no answer)") for reference in silent]
    require_versions(versions)


def require_versions(versions: Sequence[tuple[str, str | None]]) -> None:
    """Refuse machines with another version of semfreeze than this one.

    Args:
        versions: each machine with its version of semfreeze, None where it is not installed.

    Raises:
        InputError: with their names.
    """
    problems = dict.fromkeys(refused_version(*machine) for machine in versions if machine[1] != __version__)
    if problems:
        raise InputError(
            f"{'; '.join(problems)}. Every machine of the cluster needs semfreeze {__version__}, as here, in the "
            "environment that Ray was started in."
        )


def refused_version(machine: str, version: str | None) -> str:
    """What is wrong with a machine that has another version of semfreeze, or none."""
    return f"{machine} has no semfreeze" if version is None else f"{machine} has semfreeze {version}"


def version_reader() -> Callable[[], str | None]:
    """A function that returns a machine's version of semfreeze, as an arm's process would import it; None without one.

    It is sent as code, not by its name: the machine may not have this package.
    """

    def read() -> str | None:
        import subprocess
        import sys

        code = "from semfreeze_core.version import __version__; print(__version__)"
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    return read


def node_name(node: dict[str, Any]) -> str:
    """A machine's name and address, for messages."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
