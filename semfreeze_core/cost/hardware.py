"""What common GPUs hold and reach at most, from their makers' data sheets; an unknown GPU is refused, not guessed."""

from collections.abc import Sequence
from dataclasses import dataclass

from semfreeze_core.errors import PlanError
from semfreeze_core.records.cost import DepthCost


@dataclass(frozen=True)
class Gpu:
    """One device as its data sheet describes it.

    Attributes:
        name: maker's name, short.
        memory_bytes: the sheet's gigabytes as 10^9 bytes. GPUs have up to 7% more, of which the driver, the context
            and error correction take a part: a setup that just fits here fits on the GPU.
        bandwidth_bytes_per_second: of the device memory.
        bf16_flop_per_second: peak of dense bfloat16 matrix products with float32 sums, without sparsity; None when the
            GPU has no such units or we are not sure of the number.
        fp32_flop_per_second: peak of float32 outside the matrix units (no TF32); None when we are not sure.
        source: where the numbers stand.
    """

    name: str
    memory_bytes: int
    bandwidth_bytes_per_second: int
    bf16_flop_per_second: int | None
    fp32_flop_per_second: int | None
    source: str


def _gpu(name: str, gb: int, gb_per_second: int, bf16: float | None, fp32: float | None, source: str) -> Gpu:
    """A GPU in the units of data sheets: GB, GB/s, TFLOP/s."""
    flop = [None if tera is None else round(tera * 10**12) for tera in (bf16, fp32)]
    return Gpu(name, gb * 10**9, gb_per_second * 10**9, flop[0], flop[1], source)


_NVIDIA = "https://www.nvidia.com/en-us/data-center"
_V100 = "https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf"
_A100 = f"{_NVIDIA}/a100/"
_AMPERE = "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.1.pdf"
_ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
_BLACKWELL = "https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf"

GPUS = (
    _gpu("T4", 16, 320, None, 8.1, f"{_NVIDIA}/tesla-t4/"),
    _gpu("V100 16GB", 16, 900, None, 15.7, _V100),
    _gpu("V100 32GB", 32, 900, None, 15.7, _V100),
    _gpu("RTX 3090", 24, 936, 71, 35.6, _AMPERE),
    _gpu("RTX 4090", 24, 1008, 165.2, 82.6, _ADA),
    _gpu("RTX 5090", 32, 1792, 209.5, 104.8, _BLACKWELL),
    _gpu("A10", 24, 600, 125, 31.2, f"{_NVIDIA}/products/a10-gpu/"),
    _gpu("A10G", 24, 600, None, None, "https://aws.amazon.com/ec2/instance-types/g5/"),
    _gpu("L4", 24, 300, 121, 30.3, f"{_NVIDIA}/l4/"),
    _gpu("L40S", 48, 864, 362, 91.6, f"{_NVIDIA}/l40s/"),
    _gpu("RTX A6000", 48, 768, 154.8, 38.7, _AMPERE),
    _gpu("A100 40GB", 40, 1555, 312, 19.5, _A100),
    _gpu("A100 80GB PCIe", 80, 1935, 312, 19.5, _A100),
    _gpu("A100 80GB SXM", 80, 2039, 312, 19.5, _A100),
    _gpu("H100 PCIe", 80, 2000, 756, 51, f"{_NVIDIA}/h100/"),
    _gpu("H100 SXM", 80, 3350, 989, 67, f"{_NVIDIA}/h100/"),
    _gpu("H200 SXM", 141, 4800, 989, 67, f"{_NVIDIA}/h200/"),
    _gpu("B200", 180, 8000, 2250, None, f"{_NVIDIA}/dgx-b200/"),
    _gpu("MI300X", 192, 5300, 1307.4, 163.4, "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html"),
)
# Other names of the same GPU, the driver's own among them; where memory or board differ, the fuller name must
# be given.
_ALIASES = {
    "a6000": "RTX A6000",
    "h200": "H200 SXM",
    "3090": "RTX 3090",
    "4090": "RTX 4090",
    "5090": "RTX 5090",
    "v100sxm216gb": "V100 16GB",
    "v100sxm232gb": "V100 32GB",
    "a100sxm440gb": "A100 40GB",
    "a100pcie40gb": "A100 40GB",
    "a100sxm480gb": "A100 80GB SXM",
    "h10080gbhbm3": "H100 SXM",
}
_VENDORS = ("nvidia", "amd", "geforce", "instinct", "tesla")


def least_fitting_depth(depths: Sequence[DepthCost], gpu: Gpu) -> int | None:
    """The smallest freeze depth whose memory fits the GPU, or None when none does or memory is unknown."""
    totals = ((row.freeze_depth, row.bytes.total) for row in depths)
    return next((depth for depth, total in totals if total is not None and total <= gpu.memory_bytes), None)


def find_gpu(name: str) -> Gpu:
    """The GPU of a name, ignoring case, spaces, dashes and a maker's name in front.

    Raises:
        PlanError: no GPU has this name, or several do; the message lists them.
    """
    wanted = _squeezed(name)
    known = {_squeezed(gpu.name): gpu for gpu in GPUS}
    wanted = _squeezed(_ALIASES.get(wanted, wanted))
    if wanted in known:
        return known[wanted]
    close = [gpu.name for key, gpu in known.items() if wanted and key.startswith(wanted)]
    if close:
        raise PlanError(f"GPU {name} is ambiguous. Use one of: {', '.join(close)}")
    raise PlanError(f"GPU {name} is unknown. Known GPUs: {', '.join(gpu.name for gpu in GPUS)}")


def _squeezed(name: str) -> str:
    text = "".join(c for c in name.lower() if c.isalnum())
    for vendor in _VENDORS:
        text = text.removeprefix(vendor)
    return text
