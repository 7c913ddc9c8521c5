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
    ],
)
def test_find_gpu_takes_names_as_they_are_written(written, name):
    assert find_gpu(written).name == name


@pytest.mark.parametrize("name", ["", "A101", "RTX 4091", "abacus", "nvidia"])
def test_find_gpu_refuses_an_unknown_card_and_lists_the_known_ones(name):
    with pytest.raises(PlanError, match=r"is unknown\. Known GPUs: T4, .*MI300X"):
        find_gpu(name)


def test_find_gpu_asks_which_of_several():
    with pytest.raises(PlanError, match=r"GPU H100 is ambiguous\. Use one of: H100 PCIe, H100 SXM"):
        find_gpu("H100")
    with pytest.raises(PlanError, match="V100 16GB, V100 32GB"):
        find_gpu("v100")


def test_gpus_have_the_numbers_of_their_data_sheets():
    card = find_gpu("A100 80GB SXM")
    assert card.memory_bytes == 80 * 10**9
    assert card.bandwidth_bytes_per_second == 2039 * 10**9
    assert (card.bf16_flop_per_second, card.fp32_flop_per_second) == (312 * 10**12, 19.5 * 10**12)
    assert find_gpu("T4").bf16_flop_per_second is None
    assert find_gpu("H100 SXM").bf16_flop_per_second == 989 * 10**12  # dense; the sheet's 1,979 is with sparsity


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_gpus_are_plausible_and_found_by_their_own_names(gpu):
    assert find_gpu(gpu.name) is gpu
    assert gpu.source.startswith("https://")
    assert 16 * 10**9 <= gpu.memory_bytes <= 288 * 10**9
    assert 3e11 <= gpu.bandwidth_bytes_per_second <= 8e12
    for peak in (gpu.bf16_flop_per_second, gpu.fp32_flop_per_second):
        assert peak is None or 8e12 <= peak <= 2.5e15


def test_least_fitting_depth_is_the_first_that_fits():
    gpu = find_gpu("T4")
    rows = [
        DepthCost(k, StepFlop(1, 0, 0), 1, TrainingBytes(size * 10**9, 0, 0, 0, 0), 1.0, 1.0)
        for k, size in enumerate((30, 17, 16, 2))
    ]
    assert least_fitting_depth(rows, gpu) == 2
    assert least_fitting_depth(rows[:2], gpu) is None
    unknown = replace(rows[3], bytes=TrainingBytes(1, 0, 0, None, 0))
    assert least_fitting_depth([unknown], gpu) is None
