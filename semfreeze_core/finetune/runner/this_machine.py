"""Arms in processes of this machine: one at a time, or one on each of several GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from semfreeze_core.device import count_gpus
from semfreeze_core.finetune.arm.cancel import Cancel
from semfreeze_core.finetune.arm.job import read_result
from semfreeze_core.finetune.arm.launch import run_arm_process
from semfreeze_core.finetune.arm.process import one_gpu_environment
from semfreeze_core.progress import Progress
from semfreeze_core.records.validation import ArmRun, Baseline


class ThisMachine:
    """Runs arms in processes of this machine.

    Args:
        device: of the arms, as a command takes it. On auto and cuda, each GPU takes an arm.
    """

    trains_here = True

    def __init__(self, device: str) -> None:
        n_gpus = count_gpus() if device in ("auto", "cuda") else 0
        self._n_gpus = n_gpus if n_gpus > 1 else 0
        self._free: SimpleQueue[int] = SimpleQueue()
        for index in range(self._n_gpus):
            self._free.put(index)
        self.cancel = Cancel()

    def at_once(self) -> int:
        """How many arms run at once."""
        return self._n_gpus or 1

    def run(self, job: Path, log: Path, progress: Progress) -> ArmRun | Baseline:
        """Run a job in a process of its own, as the interface says."""
        if not self._n_gpus:
            run_arm_process(job, log, progress)
            return read_result(job)
        with self._gpu() as index:
            environment, _ = one_gpu_environment(f"cuda:{index}", os.environ)
            run_arm_process(job, log, progress, environment=environment, cancel=self.cancel)
        return read_result(job)

    @contextmanager
    def _gpu(self) -> Iterator[int]:
        """A GPU that no other arm has, once there is one."""
        index = self._free.get()
        try:
            yield index
        finally:
            self._free.put(index)
