"""The device a model computes on: which one, its free and peak memory, waiting for it, and its precisions.

The only module that asks torch's backends or psutil about memory, so that every command gives the same answer.
"""

import contextlib
import ctypes
import errno
import gc
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from semfreeze_core.errors import InputError
from semfreeze_core.records.defaults import GPU_PRECISION, PRECISION
from semfreeze_core.records.training import Precision, precision_named

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_NO_LIMIT = 2**62  # version 1 writes the largest number of pages where there is no limit


class _Dtypes(NamedTuple):
    weights: torch.dtype
    products: torch.dtype


_PRECISIONS: dict[Precision, _Dtypes] = {
    "float32": _Dtypes(torch.float32, torch.float32),
    "bf16-autocast": _Dtypes(torch.float32, torch.bfloat16),
    "bf16": _Dtypes(torch.bfloat16, torch.bfloat16),
}


def _dtypes(precision: str) -> _Dtypes:
    known = precision_named(precision)
    if known is None:
        raise InputError(f"precision {precision}: expected {' or '.join(_PRECISIONS)}.")
    return _PRECISIONS[known]


def weight_dtype(precision: str) -> torch.dtype:
    """The dtype that weights are loaded in: float32 for "float32" and "bf16-autocast", else bfloat16."""
    return _dtypes(precision).weights


def product_dtype(precision: str) -> torch.dtype:
    """The dtype that matrices are multiplied in: float32 for "float32", else bfloat16."""
    return _dtypes(precision).products


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as files and messages spell it, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast that computing in this precision runs under; does nothing where products are in the weights' dtype.

    Args:
        precision: "float32", "bf16-autocast" or "bf16".
        device: where the model is.
    """
    weights, products = _dtypes(precision)
    return nullcontext() if weights == products else torch.autocast(device.type, products)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a GPU multiplies bfloat16 matrices in hardware, as NVIDIA's do from Ampere on; False elsewhere."""
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def trained_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision to train in where nobody names one: bf16-autocast for float32 on a GPU that multiplies bfloat16."""
    return GPU_PRECISION if precision == PRECISION and multiplies_bfloat16(device) else precision


@contextlib.contextmanager
def tf32_products(device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 matrices in TF32, with 10 bits of mantissa in place of 23; elsewhere nothing changes.

    Weights, sums and everything else stay in float32. A CPU would round its products too, and gain little.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def runs_triton(device: torch.device) -> bool:
    """Whether kernels written in Triton run there: on CUDA GPUs."""
    return device.type == "cuda"


def count_gpus() -> int:
    """How many CUDA devices torch sees."""
    return torch.cuda.device_count()


def choose_device(name: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        InputError: the name is unknown or the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps: torch sees no MPS device.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps.")
    return device


def make_current(device: torch.device) -> None:
    """Make a GPU the one that work without a named device goes to, in this thread; does nothing for others."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def has_own_memory(device: torch.device) -> bool:
    """Whether a device has memory apart from the system's: a CUDA GPU does; a CPU and Apple's MPS do not."""
    return device.type == "cuda"


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64, which MPS does not."""
    return device.type != "mps"


def free_bytes(device: torch.device) -> int:
    """Memory free on a device, in bytes.

    For a CPU and MPS it is what the system has available, or what the process's control groups still allow where that
    is less: a container or a batch job may have a limit far below the machine's memory.
    """
    if has_own_memory(device):
        return torch.cuda.mem_get_info(device)[0]
    available = int(psutil.virtual_memory().available)
    allowed = control_group_free_bytes()
    return available if allowed is None else min(available, allowed)


class _MemoryFiles(NamedTuple):
    """Names of a control group's files, and of the entries of its `memory.stat` that count reclaimable cache."""

    limit: str
    usage: str
    cache: tuple[str, ...]


_V2_FILES = _MemoryFiles("memory.max", "memory.current", ("active_file", "inactive_file"))
_V1_FILES = _MemoryFiles("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))


def control_group_free_bytes(mount: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int | None:
    """Bytes that this process may still take by its control groups (Linux, v1 or v2); None without a limit.

    The smallest of limit - (usage - page cache) over the process's group and the groups that hold it. The page cache is
    left out of the usage, as in the system's available memory: the kernel gives it back, and reading weights fills it.

    Args:
        mount: where control groups are mounted.
        membership: the file that names the process's groups.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return None
    free = (left for folder, files in _memory_groups(lines, mount) if (left := _group_free(folder, files)) is not None)
    return min(free, default=None)


def _memory_groups(lines: list[str], mount: Path) -> Iterator[tuple[Path, _MemoryFiles]]:
    """Every folder that may hold a memory limit of this process: its own groups' and those above them.

    Inside a container the named path can be the host's, of which the container sees the topmost folder alone.
    """
    roots: tuple[Path, ...]
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            roots, files = (mount, mount / "unified"), _V2_FILES
        elif "memory" in controllers.split(","):
            roots, files = (mount / "memory",), _V1_FILES
        else:
            continue
        for root in roots:
            group = root / path.lstrip("/")
            yield from ((folder, files) for folder in (group, *group.parents) if folder.is_relative_to(root))


def _group_free(folder: Path, files: _MemoryFiles) -> int | None:
    """Bytes left under a group's limit; None where it has none."""
    try:
        limit, usage = (folder / files.limit).read_text().strip(), int((folder / files.usage).read_text())
        if limit == "max" or int(limit) >= _NO_LIMIT:
            return None
        entries = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cache = sum(int(entries.get(name, 0)) for name in files.cache)
        return max(0, int(limit) - max(0, usage - cache))
    except (OSError, ValueError):  # no such group here, or a file that this kernel writes otherwise
        return None


def resident_bytes() -> int:
    """Resident size of this process now, in bytes."""
    return int(psutil.Process().memory_info().rss)


class PeakMemory:
    """The most memory used between its making and `read`: CUDA's allocator on a GPU, else the process's resident peak.

    Linux can forget an earlier resident peak; elsewhere `read` gives the peak since the process began.
    """

    def __init__(self, device: torch.device, baseline_bytes: int = 0) -> None:
        """Begin to measure.

        Args:
            device: where the model is.
            baseline_bytes: taken off a resident peak; the process's size before any model was loaded, or 0.
        """
        self.device, self.baseline_bytes = device, baseline_bytes
        if self.is_allocator:
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _forget_resident_peak()

    @property
    def is_allocator(self) -> bool:
        """Whether the peak is CUDA's allocator's; else it is the process's resident size."""
        return has_own_memory(self.device)

    def read(self) -> int:
        """The peak so far, in bytes."""
        if self.is_allocator:
            return int(torch.cuda.max_memory_allocated(self.device))
        return max(0, _resident_peak() - self.baseline_bytes)


def _forget_resident_peak() -> None:
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before belongs to no later peak, and glibc would keep it
    with contextlib.suppress(OSError):  # not Linux, or not allowed: the peak is then that of the whole process
        _CLEAR_REFS.write_text("5")


def _resident_peak() -> int:
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all work given to it; a CPU already has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def release_unused_memory(device: torch.device) -> None:
    """Collect garbage, and give the memory that torch's allocator keeps for reuse back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


# What torch, its backends and the C library write, in lower case.
_OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "status_alloc_failed",  # cuBLAS, cuDNN, cuSOLVER and ROCm's libraries, each with its own name in front
    "hiperroroutofmemory",
    "std::bad_alloc",
)
_WINDOWS_COMMIT_LIMIT = 1455  # "The paging file is too small for this operation to complete"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the machine ran out of memory, in any of the ways that there are."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM or getattr(error, "winerror", None) == _WINDOWS_COMMIT_LIMIT
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _OUT_OF_MEMORY_TEXTS)
