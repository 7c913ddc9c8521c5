"""The interface by which a comparison has its arms trained, and the choice of who does it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.cancel import Cancel
from semfreeze_core.progress import Progress
from semfreeze_core.records.defaults import RUNNER
from semfreeze_core.records.validation import ArmRun, Baseline

_RAY = "ray"


class Runner(Protocol):
    """Carries out the jobs of a comparison.

    Attributes:
        trains_here: arms train on this machine, whose free memory is theirs.
        cancel: ends all jobs, from any thread; every `run` then raises Canceled.
    """

    trains_here: bool
    cancel: Cancel

    def at_once(self) -> int:
        """How many jobs may run at once now; more than one are run from threads."""

    def run(self, job: Path, log: Path, progress: Progress) -> ArmRun | Baseline:
        """Run a job in a process of its own, to its end.

        Args:
            job: file of an ArmJob; its result is written where that says.
            log: receives the process's other output.
            progress: receives the process's progress.

        Raises:
            OutOfMemory: memory ran out: a smaller micro-batch may do.
            ResourceError: the disk is full, memory does not hold the model, or its machine was lost again and again.
            InputError: the model cannot be trained in this way.
            Canceled: it was ended by `cancel`.
            SemfreezeError: it failed otherwise; the message holds the end of its log.
        """


@contextmanager
def open_runner(name: Runner | str | None, device: str) -> Iterator[Runner]:
    """The runner of this name while the block runs; what it started ends with the block.

    Args:
        name: processes, ray, or ray://HOST:PORT; None is the default; a runner is itself, and whoever made it ends it.
        device: of the arms, as a command takes it.

    Raises:
        InputError: there is none of this name, or it cannot be used; with what to do.
    """
    if name is not None and not isinstance(name, str):
        yield name
        return
    chosen = name or RUNNER
    if chosen == RUNNER:
        from semfreeze_core.finetune.runner.this_machine import ThisMachine

        yield ThisMachine(device)
        return
    kind, mark, address = chosen.partition("://")
    if kind != _RAY or bool(mark) != bool(address):
        raise InputError(f"--runner {chosen}: expected {RUNNER}, ray, or ray://HOST:PORT of a running cluster.")
    from semfreeze_core.finetune.runner.ray_runner import ray_runner

    with ray_runner(address or None, device) as runner:
        yield runner
