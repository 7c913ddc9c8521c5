"""A process that fills a prefix cache again and again, killed each time; run as a module with a folder.

Prints a line of JSON a kill: the moment, the signal that ended the child, whole shards and half-written files left.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from semfreeze_core.finetune.prefix import fill
from tests.core.finetune.boundary import frozen_decoder, tiny_cache

FILES_ONLY = {"memory_limit_bytes": 0}


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(n: int, act: Callable[..., object], original: Callable[..., object]) -> Callable[..., object]:
    """`original`, but the n-th call goes to `act`."""
    calls = 0

    def call(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        return act(*args, **kwargs) if calls == n else original(*args, **kwargs)

    return call


def half_written(descriptor: int) -> None:
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    kill_self()


def written(_: int) -> None:
    kill_self()


def renamed(source: str, target: Path) -> None:
    os.rename(source, target)
    kill_self()


MOMENTS: dict[str, tuple[str, int, Callable[..., object]]] = {
    "first shard half written": ("fsync", 1, half_written),
    "third shard half written": ("fsync", 3, half_written),
    "shard written, not yet in place": ("fsync", 2, written),
    "shard just in place": ("replace", 2, renamed),
}


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    decoder = frozen_decoder()
    fill.SHARD_BYTES = 1  # a shard a sample
    for moment, (name, n, act) in MOMENTS.items():
        child = os.fork()
        if child == 0:
            setattr(os, name, at_call(n, act, getattr(os, name)))
            tiny_cache(decoder, 2, folder=folder, **FILES_ONLY)
            os._exit(0)
        report(moment, child, folder)
    child = os.fork()
    if child == 0:
        # between two passes, whenever that is
        tiny_cache(decoder, 2, folder=folder, batch_tokens=1, progress=lambda _: time.sleep(0.2), **FILES_ONLY)
        os._exit(0)
    time.sleep(0.5)
    os.kill(child, signal.SIGKILL)
    report("some time", child, folder)


def report(moment: str, child: int, folder: Path) -> None:
    _, status = os.waitpid(child, 0)
    (cache,) = (path for path in folder.iterdir() if path.is_dir())
    whole, half = len(list(cache.glob("*.safetensors"))), len(list(cache.glob(".*")))
    print(json.dumps([moment, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, whole, half]), flush=True)


if __name__ == "__main__":
    main()
