"""Running an arm in its own process, following it, and ending it with everything it started."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from semfreeze_core.errors import InputError, ResourceError, SemfreezeError
from semfreeze_core.finetune.arm.process import NO_ROOM, OUT_OF_MEMORY, REFUSED
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.temporary import remove_leftovers, scratch_parent

_LOG_LINES = 15
_start = subprocess.Popen


class OutOfMemory(SemfreezeError):  # noqa: N818 - what happened, not whose mistake
    """An arm's process ran out of memory."""


def run_arm_process(job: Path, log: Path, progress: Progress) -> None:
    """Start the job's process and follow it to its end.

    Args:
        job: file of an ArmJob.
        log: receives the process's other output.
        progress: receives the process's progress.

    Raises:
        OutOfMemory: memory ran out, or the system killed the process, as it does when memory runs out.
        ResourceError: the disk is full, or memory does not hold the model.
        InputError: the model cannot be trained in this way.
        SemfreezeError: it failed otherwise; the message holds the end of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "semfreeze_core.finetune.arm.process", str(job)]
    with log.open("ab") as errors:
        process = _start(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        reason = ""
        try:
            for line in process.stdout or ():
                reason = _forward_event(line, progress) or reason
            code = process.wait()
        finally:
            _stop(process)
            with suppress(ResourceError):
                remove_leftovers(scratch_parent())  # of a process that was ended
    match code:
        case 0:
            return
        case _ if code == OUT_OF_MEMORY or code == -signal.SIGKILL:
            raise OutOfMemory(reason or "the system killed its process, as it does when memory runs out")
        case _ if code == NO_ROOM:
            raise ResourceError(reason)
        case _ if code == REFUSED:
            raise InputError(reason)
    raise SemfreezeError(f"Its process ended with code {code}. The end of {log}:\n{_last_lines(log)}")


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


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def halve(batch_size: int, accumulation: int) -> int:
    """The accumulation that halves the micro-batch.

    Raises:
        ResourceError: the micro-batch holds one example already.
    """
    micro = batch_size // accumulation
    smaller = max((m for m in range(1, micro // 2 + 1) if batch_size % m == 0), default=0)
    if not smaller:
        raise ResourceError(
            "Memory ran out with one example at a time: use shorter examples (--max-length), a larger device, or LoRA."
        )
    return batch_size // smaller
