"""Peak memory of a stretch of a process: CUDA's allocator on a GPU, else the resident peak over a baseline."""

import contextlib
import ctypes
import gc
from pathlib import Path

import psutil
import torch

from semfreeze_core.records.validation import PeakKind

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes() -> int:
    """Resident size of this process now."""
    return int(psutil.Process().memory_info().rss)


class TrainingPeak:
    """The most memory used between its making and `read`.

    On a CPU it is the process's resident peak less `baseline`, its resident size after import and before any model was
    loaded. Linux can forget an earlier peak; elsewhere the peak since the process began is read.
    """

    def __init__(self, device: torch.device, baseline: int) -> None:
        self.device, self.baseline = device, baseline
        self.kind: PeakKind = "process resident, less its baseline after import"
        if device.type == "cuda":
            self.kind = "cuda allocator"
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _forget_peak()

    def read(self) -> int:
        """Bytes."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return max(0, _resident_peak() - self.baseline)


def _forget_peak() -> None:
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before belongs to no step, and glibc would keep it
    try:
        _CLEAR.write_text("5")
    except OSError:  # not Linux, or not allowed: the peak is then that of the whole process
        return


def _resident_peak() -> int:
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
