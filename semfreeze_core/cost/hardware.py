"""What common GPUs hold, as their driver reports it, and reach at most, by their makers' data sheets.

An unknown GPU is refused, not guessed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from semfreeze_core.errors import PlanError
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.training import Precision

_OLDER = ("T4", "V100 16GB", "V100 32GB")  # than Ampere


@dataclass(frozen=True)
class Gpu:
    """One device.

    Attributes:
        name: maker's name, short.
        memory_bytes: the total that the driver reports, with error correction on where it is by default. The driver and
            the context of each process take some of it.
        bandwidth_bytes_per_second: of the device memory; None when we are not sure.
        bf16_flop_per_second: peak of dense bfloat16 matrix products with float32 sums, without sparsity; None when the
            GPU has no such units or we are not sure of the number.
        fp32_flop_per_second: peak of float32 outside the matrix units (no TF32); None when we are not sure.
        source: where all but the memory stands; "" of a GPU of which only the memory is known.
    """

    name: str
    memory_bytes: int
    bandwidth_bytes_per_second: int | None
    bf16_flop_per_second: int | None
    fp32_flop_per_second: int | None
    source: str

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether its matrix units take bfloat16, as NVIDIA's do from Ampere on, at whatever rate."""
        return self.name not in _OLDER

    def peak_flop_per_second(self, precision: Precision) -> int | None:
        """Peak of the matrix products of a training in this precision; None where it is unknown or there is none.

        In float32, trainings multiply in TF32 where a GPU has it: NVIDIA's from Ampere on, at half of bfloat16's peak.
        """
        if precision != "float32":
            return self.bf16_flop_per_second
        if self.bf16_flop_per_second is None or self.name == "MI300X":
            return self.fp32_flop_per_second
        return self.bf16_flop_per_second // 2


def _gpu(name: str, mib: int, gb_per_second: int, bf16: float | None, fp32: float | None, source: str) -> Gpu:
    """A GPU in the units of drivers and data sheets: MiB, GB/s, TFLOP/s."""
    flop = [None if tera is None else round(tera * 10**12) for tera in (bf16, fp32)]
    return Gpu(name, mib * 2**20, gb_per_second * 10**9, flop[0], flop[1], source)


_NVIDIA = "https://www.nvidia.com/en-us/data-center"
_V100 = "https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf"
_A100 = f"{_NVIDIA}/a100/"
_AMPERE = "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.1.pdf"
_ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
_BLACKWELL = "https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf"

# MiB as nvidia-smi prints them ("0MiB / 24564MiB"), read in public issue trackers: those of T4, A10, L4, L40S, A100 and
# H100 in one list of a cloud's (github.com/modal-labs/modal-client/pull/2797), RTX 3090 and 5090 in
# github.com/noonghunna/club-3090 (issues 1129 and 1229), the others in the logs of several projects each; V100 32GB
# under driver 525 in github.com/Wan-Video/Wan2.1 (issue 5), and V100 16GB half of it, which we have not seen printed.
# Drivers before 510 leave out what they keep for themselves, and print 32480 or 32510 and 16160 for these two
# (github.com/godweiyang/GrabGPU issue 5, github.com/4paradigm/k8s-vgpu-scheduler issue 7). MI300X: 206,141,652,992
# bytes by rocm-smi.
GPUS = (
    _gpu("T4", 15360, 320, None, 8.1, f"{_NVIDIA}/tesla-t4/"),
    _gpu("V100 16GB", 16384, 900, None, 15.7, _V100),
    _gpu("V100 32GB", 32768, 900, None, 15.7, _V100),
    _gpu("RTX 3090", 24576, 936, 71, 35.6, _AMPERE),
    _gpu("RTX 4090", 24564, 1008, 165.2, 82.6, _ADA),
    _gpu("RTX 5090", 32607, 1792, 209.5, 104.8, _BLACKWELL),
    _gpu("A10", 23028, 600, 125, 31.2, f"{_NVIDIA}/products/a10-gpu/"),
    _gpu("A10G", 23028, 600, None, None, "https://aws.amazon.com/ec2/instance-types/g5/"),
    _gpu("L4", 23034, 300, 121, 30.3, f"{_NVIDIA}/l4/"),
    _gpu("L40S", 46068, 864, 362, 91.6, f"{_NVIDIA}/l40s/"),
    _gpu("RTX A6000", 49140, 768, 154.8, 38.7, _AMPERE),
    _gpu("A100 40GB", 40960, 1555, 312, 19.5, _A100),
    _gpu("A100 80GB PCIe", 81920, 1935, 312, 19.5, _A100),
    _gpu("A100 80GB SXM", 81920, 2039, 312, 19.5, _A100),
    _gpu("H100 PCIe", 81559, 2000, 756, 51, f"{_NVIDIA}/h100/"),
    _gpu("H100 SXM", 81559, 3350, 989, 67, f"{_NVIDIA}/h100/"),
    _gpu("H200 SXM", 143771, 4800, 989, 67, f"{_NVIDIA}/h200/"),
    _gpu("B200", 183359, 8000, 2250, None, f"{_NVIDIA}/dgx-b200/"),
    _gpu(
        "MI300X", 196592, 5300, 1307.4, 163.4, "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html"
    ),
)
# Other names of the same GPU; where memory or board differ, the fuller name must be given.
_ALIASES = {
    "a6000": "RTX A6000",
    "h200": "H200 SXM",
    "3090": "RTX 3090",
    "4090": "RTX 4090",
    "5090": "RTX 5090",
    "a100 40gb sxm": "A100 40GB",
    "a100 40gb pcie": "A100 40GB",
    "h100 80gb hbm3": "H100 SXM",
    "h100 80gb pcie": "H100 PCIe",
    "h100 80gb sxm": "H100 SXM",
    "v100 16gb sxm": "V100 16GB",
    "v100 16gb pcie": "V100 16GB",
    "v100 32gb sxm": "V100 32GB",
    "v100 32gb pcie": "V100 32GB",
}
_LARGEST_GIB = 10_000
_MEMORY = re.compile(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*gib(?:\s*gpu)?\s*", re.IGNORECASE)
_MAKERS = frozenset(("nvidia", "amd", "geforce", "instinct", "tesla", "gpu"))
# What a name is made of: letters with the digits behind them, memory ("80GB", "80 GiB", "80G"), or a number alone.
_NAME_TOKEN = re.compile(
    r"(\d+)\s*g(?:i?b)?(?![a-z0-9])|sxm\d?(?=\D|$|\d+\s*g)|(?:rtx|geforce|tesla)(?=[a\d])|[a-z]+\d*[a-z]*|\d+[a-z]*"
)


def least_fitting_depth(depths: Sequence[DepthCost], gpu: Gpu) -> int | None:
    """The smallest freeze depth whose memory fits the GPU, or None when none does or memory is unknown."""
    totals = ((row.freeze_depth, row.bytes.total) for row in depths)
    return next((depth for depth, total in totals if total is not None and total <= gpu.memory_bytes), None)


def find_gpu(name: str) -> Gpu:
    """The GPU of a name, whatever its case, spaces, hyphens, maker and order of words.

    Part of a name is enough where all GPUs that have it hold and reach the same: "A100-80GB" is either board's. A
    memory alone, such as "24GiB", is a GPU that holds as much and whose rates are unknown.

    Raises:
        PlanError: no GPU has this name, or several do; the message lists them.
    """
    if memory := _MEMORY.fullmatch(name):
        return _gpu_of_memory(float(memory[1]))
    wanted = _name_tokens(name)
    exact = {_name_tokens(gpu.name): gpu for gpu in GPUS}
    exact |= {_name_tokens(alias): gpu for alias, of in _ALIASES.items() for gpu in GPUS if gpu.name == of}
    if wanted in exact:
        return exact[wanted]
    memories = {gpu.name: _memory_tokens(gpu) for gpu in GPUS}
    close = [
        gpu for gpu in GPUS if wanted - memories[gpu.name] and wanted <= _name_tokens(gpu.name) | memories[gpu.name]
    ]
    if len({(gpu.memory_bytes, gpu.bf16_flop_per_second, gpu.fp32_flop_per_second) for gpu in close}) == 1:
        return close[-1]
    if close:
        raise PlanError(f"GPU {name} is ambiguous. Use one of: {', '.join(gpu.name for gpu in close)}")
    raise PlanError(
        f"GPU {name} is unknown. Known GPUs: {', '.join(gpu.name for gpu in GPUS)}. For another, give its memory, such "
        "as 24GiB."
    )


def _gpu_of_memory(gib: float) -> Gpu:
    """Some GPU of as much memory, which is taken to be no older than Ampere.

    Raises:
        PlanError: no GPU holds as little or as much.
    """
    if not 1 <= gib <= _LARGEST_GIB:
        raise PlanError(f"A GPU of {gib:g} GiB: expected 1 to {_LARGEST_GIB:,} GiB.")
    return Gpu(f"{gib:g} GiB GPU", round(gib * 2**30), None, None, None, "")


def _memory_tokens(gpu: Gpu) -> frozenset[str]:
    """How a GPU's memory may be written: in 2^30 bytes, and in the 10^9 of data sheets."""
    return frozenset(f"{round(gpu.memory_bytes / unit)}gb" for unit in (2**30, 10**9))


def _name_tokens(name: str) -> frozenset[str]:
    """The words that tell a GPU from others, in lower case; those of memory as "80gb"."""
    tokens = []
    for match in _NAME_TOKEN.finditer(name.lower()):
        word = f"{match[1]}gb" if match[1] else match[0]
        tokens.append("sxm" if word.startswith("sxm") else word)
    return frozenset(tokens) - _MAKERS
