"""Running an arm in its own process, following it, and ending it with everything it started."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semfreeze_core.errors import InputError, ResourceError, SemfreezeError
from semfreeze_core.finetune.arm.cancel import Cancel
from semfreeze_core.finetune.arm.process import NO_ROOM, OUT_OF_MEMORY, REFUSED
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.records.training import TrainingSetup, largest_divisor
from semfreeze_core.temporary import remove_leftovers, scratch_parent

_LOG_LINES = 15
_start = subprocess.Popen


class OutOfMemory(SemfreezeError):  # noqa: N818 - what happened, not whose mistake
    """An arm's process ran out of memory."""


@dataclass(frozen=True)
class Ended:
    """How an arm's process ended.

    Attributes:
        code: its exit code; the number of a signal that killed it, negative.
        reason: what it printed last about it, or "".
    """

    code: int
    reason: str


def run_arm_process(job: Path, log: Path, progress: Progress, **how: Any) -> None:
    """Start the job's process and follow it to its end.

    Args:
        job, log, progress, how: as for `follow_arm_process`.

    Raises:
        OutOfMemory: memory ran out, or the system killed the process, as it does when memory runs out.
        ResourceError: the disk is full, or memory does not hold the model.
        InputError: the model cannot be trained in this way.
        Canceled: it was ended by `cancel`.
        SemfreezeError: it failed otherwise; the message holds the end of its log.
    """
    require_done(follow_arm_process(job, log, progress, **how), log)


def follow_arm_process(
    job: Path,
    log: Path,
    progress: Progress,
    *,
    environment: Mapping[str, str | None] = {},
    cancel: Cancel | None = None,
) -> Ended:
    """Start the job's process and follow it to its end; how it ended.

    Args:
        job: file of an ArmJob.
        log: receives the process's other output.
        progress: receives the process's progress.
        environment: variables that the process has besides this one's; None takes one away.
        cancel: ends it from another thread.

    Raises:
        Canceled: it was ended by `cancel`.
    """
    cancel = cancel or Cancel()
    cancel.require_none()
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "semfreeze_core.finetune.arm.process", str(job)]
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    with log.open("ab") as errors:
        process = _start(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            env=variables,
        )
        reason = ""
        try:
            with cancel.ended_by(lambda: _kill(process)):
                for line in process.stdout or ():
                    reason = _forward_event(line, progress) or reason
                code = process.wait()
        finally:
            _stop(process)
            with suppress(ResourceError):
                remove_leftovers(scratch_parent())  # of a process that was ended
    cancel.require_none()
    return Ended(code, reason)


def require_done(ended: Ended, log: Path) -> None:
    """Raise what an arm's process ended with, if it did not do its job.

    Args:
        ended: how it ended.
        log: of its other output.

    Raises:
        SemfreezeError: as `run_arm_process`.
    """
    match ended.code:
        case 0:
            return
        case code if code == OUT_OF_MEMORY or code == -signal.SIGKILL:
            raise OutOfMemory(ended.reason or "the system killed its process, as it does when memory runs out")
        case code if code == NO_ROOM:
            raise ResourceError(ended.reason)
        case code if code == REFUSED:
            raise InputError(ended.reason)
    raise SemfreezeError(f"Its process ended with code {ended.code}. The end of {log}:\n{_last_lines(log)}")


def _forward_event(line: str, progress: Progress) -> str:
    """Report the event on a line; returns the reason when the line holds one, else ""."""
    try:
        event = json.loads(line)
    except ValueError:  # printed by something else
        return ""
    if not isinstance(event, dict):
        return ""
    if "stage" in event:
        progress(ProgressEvent(**event))
    return str(event.get("reason", ""))


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process with all of its group, which it is the first of."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _stop(process: subprocess.Popen[str]) -> None:
    _kill(process)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def halved(setup: TrainingSetup) -> TrainingSetup:
    """The setup with micro-batches of half the size, or the next smaller one that divides the batch.

    Raises:
        ResourceError: a micro-batch holds one example already.
    """
    smaller = largest_divisor(setup.batch_size, setup.examples_per_pass // 2)
    if not smaller:
        raise ResourceError(
            "Memory ran out with one example at a time: use shorter examples (--max-length), a larger device, or LoRA."
        )
    return replace(setup, micro_batch_size=smaller)
