"""Arms on the machines of a Ray cluster, each in a process of its own inside a task that takes a GPU or CPUs.

The job, the examples and a local model travel there, progress and the result come back, and a lost machine's arm is
begun again on another, from its last checkpoint: the machines need no file system in common.
"""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from semfreeze_core.errors import InputError, ResourceError, SemfreezeError
from semfreeze_core.finetune.arm.cancel import Cancel, Canceled
from semfreeze_core.finetune.arm.job import ArmJob, read_job, read_result
from semfreeze_core.finetune.arm.launch import Ended, OutOfMemory, require_done
from semfreeze_core.finetune.arm.progress_file import live_path
from semfreeze_core.finetune.runner.mailbox import Mailbox
from semfreeze_core.finetune.runner.outbox import EVENT, LIVE_TEXT
from semfreeze_core.finetune.runner.parcel import PackedModel, pack_model
from semfreeze_core.finetune.runner.ray_cluster import Cluster, joined, refused_version, version_reader
from semfreeze_core.finetune.runner.ray_node import LOST, STALE, UNSENT
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.records.defaults import CHECKPOINT_SECONDS
from semfreeze_core.records.validation import ArmRun, Baseline
from semfreeze_core.storage import write_atomically
from semfreeze_core.temporary import remove_leftovers, scratch_parent, temporary_folder
from semfreeze_core.version import __version__

_MOST_LOSSES = 3  # of an arm's machine, after which it fails
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_UNTIL_REPORT = 15.0  # that an arm waits for room
_REFUSED = "refused"  # in the place of an exit code: the machine has another version
_THREADS = "OMP_NUM_THREADS"  # Ray sets it to the CPUs of a task


class NodeRefused(SemfreezeError):  # noqa: N818 - what happened, not whose mistake
    """A machine that joined later cannot train arms."""

    exit_code = InputError.exit_code


@contextmanager
def ray_runner(address: str | None, device: str, *, save_seconds: float = CHECKPOINT_SECONDS) -> Iterator["RayRunner"]:
    """A runner on a Ray cluster while the block runs.

    Args:
        address, device: as for `joined`.
        save_seconds: between two checkpoints of an arm.

    Raises:
        InputError: as `joined`.
    """
    remove_leftovers(scratch_parent())
    with joined(address, device) as cluster, temporary_folder(scratch_parent()) as folder:
        runner = RayRunner(cluster, folder, save_seconds)
        try:
            yield runner
        finally:
            runner.cancel()


class RayRunner:
    """Runs arms as tasks of a Ray cluster.

    Args:
        cluster: to run them on.
        folder: for what arms go on from, on this machine.
        save_seconds: between two checkpoints of an arm.
    """

    trains_here = False

    def __init__(self, cluster: Cluster, folder: Path, save_seconds: float = CHECKPOINT_SECONDS) -> None:
        self.cluster, self._folder, self._save_seconds = cluster, folder, save_seconds
        self._mailbox: Any = None
        self._model: PackedModel | None = None
        self._sent: dict[Path, Any] = {}
        self._numbers = itertools.count()
        self.cancel = Cancel()

    def at_once(self) -> int:
        """How many arms there is room for."""
        return self.cluster.at_once()

    def run(self, job: Path, log: Path, progress: Progress) -> ArmRun | Baseline:
        """Run a job on a machine of the cluster, as the interface says."""
        self.cancel.require_none()
        read = read_job(job)
        arm, ray = f"{next(self._numbers)}", self.cluster.ray
        mailbox = self._open_mailbox(read)
        task = ray.remote(_task()).options(
            **self.cluster.takes,
            max_retries=_MOST_LOSSES,
            retry_exceptions=False,
            name=f"semfreeze {job.stem}",
        )
        reference = task.remote(__version__, arm, job.stem, self._parcel(job, read), mailbox, self._examples(read.data))
        end = partial(ray.cancel, reference, force=True)
        done = False
        try:
            with self.cancel.ended_by(end), self._errors(job.stem):
                outcome = self._follow(reference, arm, job.stem, read, progress)
            done = True
        finally:
            if not done:
                end()
        return self._take(outcome, job, read, log)

    def _follow(self, reference: Any, arm: str, name: str, job: ArmJob, progress: Progress) -> dict[str, Any]:
        """Pass on what the arm sends until it ends; its outcome."""
        ray, begun, waiting = self.cluster.ray, time.monotonic(), True
        while True:
            ready, _ = ray.wait([reference], timeout=_SECONDS_BETWEEN_LOOKS)
            messages = ray.get(self._mailbox.take.remote(arm))
            for message in messages:
                _pass_on(message, job, progress)
            if ready:
                break
            if waiting and time.monotonic() - begun > _SECONDS_UNTIL_REPORT and not messages:
                progress(ProgressEvent(name, message=f"{name}: waiting for room on the cluster."))
            waiting = waiting and not messages and time.monotonic() - begun <= _SECONDS_UNTIL_REPORT
        outcome: dict[str, Any] = ray.get(reference)
        ray.get(self._mailbox.forget.remote(arm))
        return outcome

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Ray's errors of a task as ours."""
        from ray import exceptions

        try:
            yield
        except exceptions.TaskCancelledError as error:
            raise Canceled("It was canceled.") from error
        except exceptions.OutOfMemoryError as error:
            raise OutOfMemory("Ray ended its process, as it does when a machine's memory runs out") from error
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.ObjectLostError) as error:
            self.cancel.require_none()
            raise _lost(name) from error
        except exceptions.RayError as error:
            self.cancel.require_none()
            raise SemfreezeError(f"{name} failed on the Ray cluster:\n{error}") from error

    def _take(self, outcome: dict[str, Any], job: Path, read: ArmJob, log: Path) -> ArmRun | Baseline:
        """Put an arm's result where its job says, or raise why there is none."""
        match outcome["code"]:
            case code if code == LOST:
                raise _lost(job.stem)
            case code if code == _REFUSED:
                raise NodeRefused(f"{refused_version(outcome['machine'], outcome['found'])}. It needs {__version__}.")
            case code if code == STALE:
                raise Canceled("Another attempt has begun.")
            case code if code == UNSENT:
                raise SemfreezeError(f"{job.stem} ended: {outcome['reason']}. Run the same command again to train it.")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(outcome.get("log", b""))
        require_done(Ended(outcome["code"], outcome["reason"]), log)
        write_atomically(read.result, outcome["result"])
        live_path(read.result).unlink(missing_ok=True)
        return read_result(job)

    def _open_mailbox(self, job: ArmJob) -> Any:
        """The mailbox, on this machine, from the first job on; all jobs are of one model."""
        if self._mailbox is None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            ray = self.cluster.ray
            self._model = pack_model(job.model.source, job.identity.weights_digest)
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            sources = {} if self._model is None else self._model.paths
            actor = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here)
            self._mailbox = actor.remote(str(self._folder), sources)
        return self._mailbox

    def _parcel(self, path: Path, job: ArmJob) -> dict[str, Any]:
        fields = json.loads(path.read_text())
        fields["model"] |= {"source": job.model.source, "device": self.cluster.device}
        fields["save_seconds"] = self._save_seconds
        # Alone on its machine an arm takes the threads that it would take without Ray.
        alone = self.cluster.is_own or self.cluster.device == "cuda"
        return {
            "job": fields,
            "model": None if self._model is None else asdict(self._model),
            "attempts": 1 + _MOST_LOSSES,
            "environment": {_THREADS: os.environ.get(_THREADS)} if alone else {},
        }

    def _examples(self, data: Path) -> Any:
        """The examples in Ray's object store, from which machines take them; once for all arms."""
        if data not in self._sent:
            self._sent[data] = self.cluster.ray.put(data.read_bytes())
        return self._sent[data]


def _pass_on(message: dict[str, Any], job: ArmJob, progress: Progress) -> None:
    if (event := message.get(EVENT)) is not None:
        progress(ProgressEvent(**event))
    if (live := message.get(LIVE_TEXT)) is not None:
        write_atomically(live_path(job.result), live)


def _lost(name: str) -> ResourceError:
    return ResourceError(f"{name}: its machine was lost {1 + _MOST_LOSSES} times.")


def _task() -> Callable[..., dict[str, Any]]:
    """What runs on a machine: sent as code, not by its name, because the machine may have another version, or none."""
    refused, read_version = _REFUSED, version_reader()

    def carry_out_here(
        version: str, arm: str, name: str, parcel: dict[str, Any], mailbox: Any, examples: bytes
    ) -> dict[str, Any]:
        import platform

        if (node_version := read_version()) != version:
            return {"code": refused, "found": node_version, "machine": platform.node()}
        import ray

        from semfreeze_core.finetune.runner.ray_node import carry_out

        def call(method: str, *arguments: Any) -> Any:
            return ray.get(getattr(mailbox, method).remote(*arguments))

        return carry_out(arm, name, {**parcel, "examples": examples}, call, platform.node())

    return carry_out_here
