"""The device: chosen by name, its memory by what a container allows, one test for running out of it."""

import contextlib
import errno
import re
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from semfreeze_core import device as device_module
from semfreeze_core.device import (
    PeakMemory,
    autocast,
    choose_device,
    control_group_free_bytes,
    dtype_name,
    free_bytes,
    has_float64,
    has_own_memory,
    is_out_of_memory,
    product_dtype,
    release_unused_memory,
    resident_bytes,
    synchronize,
    tf32_products,
    trained_precision,
    weight_dtype,
)
from semfreeze_core.errors import InputError
from semfreeze_core.records.training import dtype_named, precision_named

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda:0"), torch.device("mps")
GIB = 2**30


def test_choose_device_takes_what_is_there():
    assert choose_device("cpu") == CPU
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == best


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_choose_device_prefers_an_accelerator(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == expected


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "xpu", "cpu cuda", "CUDA"])
def test_choose_device_refuses_unknown_names(name):
    with pytest.raises(InputError) as caught:
        choose_device(name)
    assert str(caught.value) == f"--device {name}: expected auto, cpu, cuda, cuda:N or mps."


def test_choose_device_refuses_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match=r"^--device cuda:2: torch sees 2 CUDA devices\.$"):
        choose_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match=r"^--device cuda: torch sees 0 CUDA devices\.$"):
        choose_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^--device mps: torch sees no MPS device\.$"):
        choose_device("mps")


def group(folder, limit, usage, cache=0, version=2):
    """Write a control group's memory files; half of the cache counts as active."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (limit, usage), strict=True):
        (folder / name).write_text(f"{value}\n")
    prefix = "" if version == 2 else "total_"
    (folder / "memory.stat").write_text(
        f"anon {usage - cache}\n{prefix}active_file {cache // 2}\n{prefix}inactive_file {cache - cache // 2}\n"
    )


def membership(tmp_path, *lines):
    path = tmp_path / "cgroup"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_control_group_free_bytes_is_limit_minus_usage_without_page_cache(tmp_path):
    mount = tmp_path / "fs"
    group(mount / "job", 8 * GIB, 5 * GIB, cache=2 * GIB)
    assert control_group_free_bytes(mount, membership(tmp_path, "0::/job")) == 5 * GIB


def test_control_group_free_bytes_takes_the_tightest_group_of_those_above(tmp_path):
    mount = tmp_path / "fs"
    group(mount / "slurm", 4 * GIB, 3 * GIB)
    group(mount / "slurm" / "job", 8 * GIB, 1 * GIB)
    group(mount / "slurm" / "job" / "step", "max", 1 * GIB)
    assert control_group_free_bytes(mount, membership(tmp_path, "0::/slurm/job/step")) == GIB


def test_control_group_free_bytes_of_version_1_reads_the_memory_line_alone(tmp_path):
    mount = tmp_path / "fs"
    group(mount / "memory" / "job", 6 * GIB, 2 * GIB, cache=GIB, version=1)
    group(mount / "cpu" / "other", 1, 1, version=1)
    lines = membership(tmp_path, "7:cpu,cpuacct:/other", "4:memory:/job", "0::/")
    assert control_group_free_bytes(mount, lines) == 5 * GIB


def test_control_group_free_bytes_in_a_container_that_sees_only_its_own_group(tmp_path):
    """/proc names the host's path, which is not mounted inside; the limit stands in the topmost folder."""
    mount = tmp_path / "fs"
    group(mount / "memory", 3 * GIB, GIB, version=1)
    lines = membership(tmp_path, "4:memory:/docker/0123abcd")
    assert control_group_free_bytes(mount, lines) == 2 * GIB


@pytest.mark.parametrize(("limit", "version"), [("max", 2), (9223372036854771712, 1)])
def test_control_group_free_bytes_is_none_without_a_limit(tmp_path, limit, version):
    mount = tmp_path / "fs"
    group(mount / ("memory/job" if version == 1 else "job"), limit, GIB, version=version)
    line = "4:memory:/job" if version == 1 else "0::/job"
    assert control_group_free_bytes(mount, membership(tmp_path, line)) is None
    assert control_group_free_bytes(mount, tmp_path / "no such file") is None


def test_control_group_free_bytes_is_never_negative(tmp_path):
    group(tmp_path / "fs" / "job", GIB, 2 * GIB)
    assert control_group_free_bytes(tmp_path / "fs", membership(tmp_path, "0::/job")) == 0


@pytest.mark.parametrize(("allowed", "free"), [(None, 10), (4, 4), (25, 10)])
def test_free_bytes_is_the_smaller_of_system_and_control_group(monkeypatch, allowed, free):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10))
    monkeypatch.setattr(device_module, "control_group_free_bytes", lambda: allowed)
    assert free_bytes(CPU) == free_bytes(MPS) == free


def test_free_bytes_asks_the_device(monkeypatch):
    assert 2**20 < free_bytes(CPU) < 2**50
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (123, 456))
    assert free_bytes(CUDA) == 123


def test_peak_memory_sees_what_was_used_since_it_began():
    torch.zeros(40_000_000).add_(1)
    peak = PeakMemory(CPU, baseline_bytes=resident_bytes())
    quiet = peak.read()
    held = torch.ones(100_000_000)  # large beside what a busy system takes back meanwhile
    assert peak.read() >= quiet + 0.8 * held.nbytes
    del held
    assert peak.read() >= 90_000_000, "a peak stays one"
    assert not peak.is_allocator
    assert PeakMemory(CPU).read() > peak.read(), "without a baseline the whole process counts"


def test_peak_memory_of_a_gpu_is_its_allocators(monkeypatch):
    resets = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 789)
    peak = PeakMemory(CUDA, baseline_bytes=500)
    assert (peak.is_allocator, peak.read(), resets) == (True, 789, [CUDA])


def test_synchronize_and_release_call_the_backend_of_the_device(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append(device))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: calls.append(MPS))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("cuda cache"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: calls.append("mps cache"))
    for device in (CPU, CUDA, MPS):
        synchronize(device)
        release_unused_memory(device)
    assert calls == [CUDA, "cuda cache", MPS, "mps cache"]


def test_what_devices_have():
    assert [has_own_memory(device) for device in (CPU, CUDA, MPS)] == [False, True, False]
    assert [has_float64(device) for device in (CPU, CUDA, MPS)] == [True, True, False]


def small_paging_file():
    """Windows' error when it can promise no more memory, as Windows alone makes it."""
    error = OSError(errno.EINVAL, "The paging file is too small for this operation to complete")
    error.winerror = 1455
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("HIP error: hipErrorOutOfMemory"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        small_paging_file(),
    ],
    ids=lambda error: str(error)[-24:] or type(error).__name__,
)
def test_is_out_of_memory_knows_every_way_of_saying_so(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a matrix has the wrong shape"),
        InputError("there is not enough memory"),  # ours: it says what to do, and is shown as it stands
        OSError(errno.ENOENT, "No such file"),
        KeyboardInterrupt(),
    ],
)
def test_is_out_of_memory_leaves_other_errors_alone(error):
    assert not is_out_of_memory(error)


def test_is_out_of_memory_of_the_error_that_torch_really_raises():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("precision", "weights", "products"),
    [
        ("float32", torch.float32, torch.float32),
        ("bf16-autocast", torch.float32, torch.bfloat16),
        ("bf16", torch.bfloat16, torch.bfloat16),
        ("bfloat16", torch.bfloat16, torch.bfloat16),
    ],
)
def test_precisions_are_what_torch_computes_in(precision, weights, products):
    assert (weight_dtype(precision), product_dtype(precision)) == (weights, products)
    layer = torch.nn.Linear(3, 2, dtype=weight_dtype(precision))
    with autocast(precision, CPU):
        assert layer(torch.zeros(1, 3, dtype=weights)).dtype == products


def test_dtype_name_is_how_files_spell_it():
    assert [dtype_name(dtype) for dtype in (torch.float32, torch.bfloat16)] == ["float32", "bfloat16"]


def test_no_other_module_of_the_core_asks_torch_or_psutil_about_a_device():
    asking = re.compile(r"torch\.(cuda|mps|backends\.mps)\b|virtual_memory|memory_info")
    core = Path(device_module.__file__).parent
    files = {path.name for path in core.rglob("*.py") if asking.search(path.read_text())}
    assert files == {"device.py"}


def test_no_other_module_of_the_core_knows_what_running_out_of_memory_looks_like():
    core = Path(device_module.__file__).parent
    texts = {path.name: path.read_text() for path in core.rglob("*.py")}
    # Ray names its own error so, which tells of another machine's memory.
    knowing = re.compile(r"(?<!exceptions\.)OutOfMemoryError|allocate memory|bad_alloc")
    assert {name for name, text in texts.items() if knowing.search(text)} == {"device.py"}
    catching = {name for name, text in texts.items() if re.search(r"except (?!exceptions\.).*MemoryError", text)}
    assert catching
    assert {name for name in catching if "is_out_of_memory(error)" not in texts[name]} == set()


@pytest.mark.parametrize(
    ("text", "precision", "dtype"),
    [
        ("float32", "float32", "float32"),
        ("FP32", "float32", "float32"),
        ("bf16", "bf16", "bfloat16"),
        ("bfloat16", "bf16", "bfloat16"),
        ("BF16-autocast", "bf16-autocast", None),
        ("bf16-mixed", "bf16-autocast", None),
        ("auto", None, "auto"),
        ("float16", None, None),
    ],
)
def test_precisions_are_known_by_their_usual_spellings(text, precision, dtype):
    assert (precision_named(text), dtype_named(text)) == (precision, dtype)
    if precision is None:
        with pytest.raises(InputError, match="expected float32 or bf16-autocast or bf16"):
            weight_dtype(text)
    else:
        assert weight_dtype(text) == weight_dtype(precision)


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-autocast"), (False, "float32")])
def test_trainings_on_a_gpu_take_bf16_autocast_where_it_multiplies_it(monkeypatch, native, expected):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(True) or native)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    assert trained_precision("float32", CUDA) == expected
    assert [trained_precision("bf16", CUDA), trained_precision("bf16-autocast", CUDA)] == ["bf16", "bf16-autocast"]
    assert [trained_precision("float32", CPU), trained_precision("float32", MPS)] == ["float32", "float32"]
    assert asked == [True]


def test_float32_products_are_tf32_on_a_gpu_and_only_within():
    before = torch.get_float32_matmul_precision()
    for device, within in ((CUDA, "high"), (CPU, before), (MPS, before)):
        with tf32_products(device):
            assert torch.get_float32_matmul_precision() == within
        assert torch.get_float32_matmul_precision() == before
