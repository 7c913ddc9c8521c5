"""Running an arm in a process of its own, following it, and ending it with everything it started."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from semfreeze_core.errors import InputError, ResourceError, SemfreezeError
from semfreeze_core.finetune.arm.process import OUT_OF_MEMORY, REFUSED
from semfreeze_core.progress import Progress, ProgressEvent

_LOG_LINES = 15
_start = subprocess.Popen


class OutOfMemory(SemfreezeError):  # noqa: N818 - what happened, not whose mistake
    """An arm's process ran out of memory."""


def run_child(job: Path, log: Path, progress: Progress) -> None:
    """Start the job's process and follow it to its end.

    Args:
        job: file of an ArmJob.
        log: gets what the process says beside its progress.
        progress: told what the process tells.

    Raises:
        OutOfMemory: memory ran out, or the system killed it, as it does when memory runs out.
        InputError: the model cannot be trained in this way.
        SemfreezeError: it failed otherwise; with the end of its log.
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
                reason = _pass_on(line, progress) or reason
            code = process.wait()
        finally:
            _end(process)
    match code:
        case 0:
            return
        case _ if code == OUT_OF_MEMORY or code == -signal.SIGKILL:
            raise OutOfMemory(reason or "the system killed its process, as it does when memory runs out")
        case _ if code == REFUSED:
            raise InputError(reason)
    raise SemfreezeError(f"Its process ended with code {code}. The end of {log}:\n{_end_of(log)}")


def _pass_on(line: str, progress: Progress) -> str:
    """Tell an event; returns a reason when the line is one."""
    try:
        told = json.loads(line)
    except ValueError:  # something else printed; it is no event of ours
        return ""
    if not isinstance(told, dict):
        return ""
    if "stage" in told:
        progress(ProgressEvent(**told))
    return str(told.get("reason", ""))


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def halve(batch_size: int, accumulation: int) -> int:
    """The accumulation that halves the micro-batch.

    Raises:
        ResourceError: it holds one example already.
    """
    micro = batch_size // accumulation
    smaller = max((m for m in range(1, micro // 2 + 1) if batch_size % m == 0), default=0)
    if not smaller:
        raise ResourceError(
            "Memory ran out with one example at a time: use shorter examples (--max-length), a larger device, or LoRA."
        )
    return batch_size // smaller
