"""Matrices in 8 or 4 bits as bitsandbytes stores them, recognized by class name, so that nothing is imported.

A quantized matrix is a parameter of codes with scales that are not parameters: in 4 bits the largest value of
each block (`absmax`), in 8 bits that of each row (`SCB`).
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

BLOCK = 64  # weights that share a scale in 4 bits
_CLASSES = ("Params4bit", "Int8Params")


def quiet_bitsandbytes() -> None:
    """Keep its warnings off the terminal: about optional packages at import, and about casts at every call."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def is_quantized(parameter: Tensor) -> bool:
    """Whether bitsandbytes stores this parameter's values as codes."""
    return any(
        kind.__name__ in _CLASSES and kind.__module__.partition(".")[0] == "bitsandbytes"
        for kind in type(parameter).__mro__
    )


def quantized_modules(root: nn.Module) -> Iterator[tuple[str, Any]]:
    """The modules below `root` whose weight is quantized, each with its name."""
    for name, module in root.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None and is_quantized(weight):
            yield name, module


def quantized_names(root: nn.Module) -> list[str]:
    """Names of the quantized parameters."""
    return [f"{name}.weight" for name, _ in quantized_modules(root)]


def plain_shape(module: Any) -> tuple[int, ...]:
    """Shape of a quantized module's weight before: codes in 4 bits are packed, and GPT-2's matrices transposed."""
    state = getattr(module.weight, "quant_state", None)
    shape = tuple(module.weight.shape if state is None else state.shape)
    return shape[::-1] if was_transposed(module) else shape


def was_transposed(module: Any) -> bool:
    """Whether a matrix was GPT-2's Conv1D, which keeps (inputs, outputs); transformers notes it likewise."""
    return getattr(getattr(module, "source_cls", None), "__name__", "") == "Conv1D"


def disable_packing(root: nn.Module) -> list[Any]:
    """Keep calls in eval mode from packing 4-bit weights, as on some CPUs: packed weights pass no gradient.

    Returns:
        The modules that would have, for `enable_packing`.
    """
    modules = [m for _, m in quantized_modules(root) if getattr(m, "support_avx512bf16_for_cpu", False)]
    for module in modules:
        module.support_avx512bf16_for_cpu = False
    return modules


def enable_packing(modules: Iterable[Any]) -> None:
    """Undo `disable_packing`."""
    for module in modules:
        module.support_avx512bf16_for_cpu = True


@dataclass(frozen=True, eq=False)
class TensorAttribute:
    """An object's attribute that holds a tensor.

    Attributes:
        owner: the object.
        attribute: its name.
    """

    owner: Any
    attribute: str

    @property
    def tensor(self) -> Tensor:
        tensor: Tensor = getattr(self.owner, self.attribute)
        return tensor

    def put(self, tensor: Tensor) -> None:
        """Replace the tensor."""
        setattr(self.owner, self.attribute, tensor)


def scale_location(module: Any) -> TensorAttribute:
    """Where a quantized module that has been called stores its scales."""
    state = getattr(module.weight, "quant_state", None)
    return TensorAttribute(module.state, "SCB") if state is None else TensorAttribute(state, "absmax")


def point_to_codes(modules: Iterable[Any]) -> None:
    """Let modules in 8 bits compute with their parameter's moved data, to which they hold a second reference."""
    for module in modules:
        state = getattr(module, "state", None)
        if state is not None and state.CB is not None:
            state.CB = module.weight.data
