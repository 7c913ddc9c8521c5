"""Cards: names as people and drivers write them, and a few data sheet numbers."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import find_gpu
from semfreeze_core.cost.hardware import GPUS, least_fitting_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.records.cost import DepthCost, StepFlop, TrainingBytes


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("T4", "T4"),
        ("Tesla T4", "T4"),
        ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("3090", "RTX 3090"),
        ("a6000", "RTX A6000"),
        ("A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("a100-40gb", "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("H100-PCIe", "H100 PCIe"),
        ("h200", "H200 SXM"),
        ("Tesla V100-SXM2-16GB", "V100 16GB"),
        ("AMD Instinct MI300X", "MI300X"),
        ("A100-80GB", "A100 80GB SXM"),
        ("a100 80 GB", "A100 80GB SXM"),
        ("A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("H100 SXM5 80GB", "H100 SXM"),
        ("RTX 4090 24GB", "RTX 4090"),
        ("rtxa6000", "RTX A6000"),
        ("v100_32g", "V100 32GB"),
        ("NVIDIA H200", "H200 SXM"),
    ],
)
def test_find_gpu_takes_names_as_they_are_written(written, name):
    assert find_gpu(written).name == name


@pytest.mark.parametrize("name", ["", "A101", "RTX 4091", "abacus", "nvidia", "40GB", "RTX 4090 12GB"])
def test_find_gpu_refuses_an_unknown_card_and_lists_the_known_ones(name):
    with pytest.raises(PlanError, match=r"is unknown\. Known GPUs: T4, .*MI300X\. .* its memory, such as 24GiB"):
        find_gpu(name)


@pytest.mark.parametrize("written", ["24GiB", " 24 gib", "24.0 GiB", "24 GiB GPU"])
def test_a_memory_alone_is_a_gpu_of_unknown_rates(written):
    card = find_gpu(written)
    assert (card.name, card.memory_bytes) == ("24 GiB GPU", 24 * 2**30)
    assert card.multiplies_bfloat16
    assert card.peak_flop_per_second("bf16") is None
    assert card.peak_flop_per_second("float32") is None


@pytest.mark.parametrize("written", ["0GiB", "0.5 GiB", "99999GiB"])
def test_no_gpu_holds_as_little_or_as_much(written):
    with pytest.raises(PlanError, match=r"GPU of [\d.e+]+ GiB: expected 1 to 10,000 GiB"):
        find_gpu(written)


def test_find_gpu_asks_which_of_several():
    with pytest.raises(PlanError, match=r"GPU H100 is ambiguous\. Use one of: H100 PCIe, H100 SXM"):
        find_gpu("H100")
    with pytest.raises(PlanError, match="V100 16GB, V100 32GB"):
        find_gpu("v100")
    with pytest.raises(PlanError, match="H100 PCIe, H100 SXM"):  # as much memory, but another rate
        find_gpu("H100 80GB")


def test_gpus_have_the_numbers_of_their_data_sheets():
    card = find_gpu("A100 80GB SXM")
    assert card.memory_bytes == 81920 * 2**20
    assert card.bandwidth_bytes_per_second == 2039 * 10**9
    assert (card.bf16_flop_per_second, card.fp32_flop_per_second) == (312 * 10**12, 19.5 * 10**12)
    assert find_gpu("T4").bf16_flop_per_second is None
    assert find_gpu("H100 SXM").bf16_flop_per_second == 989 * 10**12  # dense; the sheet's 1,979 is with sparsity


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_gpus_are_plausible_and_found_by_their_own_names(gpu):
    assert find_gpu(gpu.name) is gpu
    assert gpu.source.startswith("https://")
    assert 15 * 2**30 <= gpu.memory_bytes <= 288 * 2**30
    assert 3e11 <= gpu.bandwidth_bytes_per_second <= 8e12
    for peak in (gpu.bf16_flop_per_second, gpu.fp32_flop_per_second):
        assert peak is None or 8e12 <= peak <= 2.5e15


@pytest.mark.parametrize(("name", "gib"), [("RTX 4090", 23.99), ("A10", 22.49), ("H100 SXM", 79.65), ("T4", 15.0)])
def test_a_gpu_holds_what_its_driver_reports(name, gib):
    assert find_gpu(name).memory_bytes / 2**30 == pytest.approx(gib, abs=0.01)


def test_the_peak_of_a_precision_is_that_of_the_units_it_multiplies_in():
    tera = 10**12
    peaks = {name: find_gpu(name).peak_flop_per_second for name in ("A100 40GB", "T4", "A10G", "MI300X")}
    assert [peaks["A100 40GB"](p) for p in ("bf16", "bf16-autocast", "float32")] == [312 * tera, 312 * tera, 156 * tera]
    assert [peaks["T4"](p) for p in ("bf16", "float32")] == [None, 8.1 * tera]
    assert peaks["A10G"]("float32") is None
    assert peaks["MI300X"]("float32") == 163.4 * tera  # TF32 is off there unless asked for


def test_least_fitting_depth_is_the_first_that_fits():
    gpu = find_gpu("T4")
    rows = [
        DepthCost(k, StepFlop(1, 0, 0), 1, TrainingBytes(size * 2**30, 0, 0, 0, 0), 1.0, 1.0)
        for k, size in enumerate((30, 17, 15, 2))
    ]
    assert least_fitting_depth(rows, gpu) == 2
    assert least_fitting_depth(rows[:2], gpu) is None
    unknown = replace(rows[3], bytes=TrainingBytes(1, 0, 0, None, 0))
    assert least_fitting_depth([unknown], gpu) is None
