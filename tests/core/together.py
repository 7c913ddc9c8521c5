"""Processes that work together, as a launcher starts them, without its cost: forks of this one, on its processor."""

import json
import os
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semfreeze_core import processes


def together(
    work: Callable[[int], Any], folder: Path, *, count: int = 2, seconds: float = 240, killed: tuple[int, ...] = ()
) -> list[Any]:
    """What `work(rank)` returns in each of some processes, as JSON keeps it; None for those that are to be killed.

    Raises:
        AssertionError: a process raised an error or took too long; all of its output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [_fork(work, folder, rank, count, port) for rank in range(count)]
    deadline = time.monotonic() + seconds
    left = dict(enumerate(children))
    while left and time.monotonic() < deadline:
        for rank, child in list(left.items()):
            if os.waitpid(child, os.WNOHANG)[0]:
                del left[rank]
        time.sleep(0.02)
    for child in left.values():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    outputs = [(folder / f"{rank}.out").read_text(errors="replace") for rank in range(count)]
    results = [folder / f"{rank}.json" for rank in range(count)]
    assert not left, f"processes {sorted(left)} did not end:\n" + "\n".join(outputs)
    assert all(path.exists() == (rank not in killed) for rank, path in enumerate(results)), "\n".join(outputs)
    return [json.loads(path.read_text()) if path.exists() else None for path in results]


def in_group(work: Callable[[int], Any]) -> Callable[[int], Any]:
    """Work for `together` that makes one process group, on processors, for all that is done together in it."""

    def joined(rank: int) -> Any:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        processes._make_group("cpu")
        return work(rank)

    return joined


def _fork(work: Callable[[int], Any], folder: Path, rank: int, count: int, port: int) -> int:
    with warnings.catch_warnings():
        # of threads, which later releases of Python warn of: those that the tests' own runner may have do not matter
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        output = os.open(folder / f"{rank}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ |= {name: str(value) for name, value in here.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        result = json.dumps(work(rank))
        (folder / f"{rank}.json").write_text(result)
        status = 0
    except BaseException:
        with open(folder / f"{rank}.out", "a") as log:
            traceback.print_exc(file=log)
    finally:
        os._exit(status)
