"""Matrices in 8 or 4 bits as bitsandbytes keeps them, known by their classes' names: nothing is imported for it.

A quantized matrix is a parameter of codes and, beside it, scales that are no parameters: in 4 bits the largest value of
each block (`absmax`), in 8 bits that of each row (`SCB`).
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

_CLASSES = ("Params4bit", "Int8Params")


def hush_bitsandbytes() -> None:
    """Keep its warnings off the terminal: it says at import what else could be installed, and casts at every call."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def is_quantized(parameter: Tensor) -> bool:
    """Whether bitsandbytes keeps this parameter's values as codes."""
    return any(
        kind.__name__ in _CLASSES and kind.__module__.partition(".")[0] == "bitsandbytes"
        for kind in type(parameter).__mro__
    )


def quantized_modules(root: nn.Module) -> Iterator[tuple[str, Any]]:
    """The modules below `root` whose own weight is quantized, each with its name."""
    for name, module in root.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None and is_quantized(weight):
            yield name, module


def quantized_names(root: nn.Module) -> list[str]:
    """Names of the quantized parameters."""
    return [f"{name}.weight" for name, _ in quantized_modules(root)]


def plain_shape(module: Any) -> tuple[int, ...]:
    """Shape that a quantized module's weight had before: codes in 4 bits are packed, and GPT-2's matrices turned."""
    state = getattr(module.weight, "quant_state", None)
    shape = tuple(module.weight.shape if state is None else state.shape)
    return shape[::-1] if was_turned(module) else shape


def was_turned(module: Any) -> bool:
    """Whether a matrix was GPT-2's Conv1D, which keeps (inputs, outputs); transformers notes it by the same name."""
    return getattr(getattr(module, "source_cls", None), "__name__", "") == "Conv1D"


def stop_packing(root: nn.Module) -> list[Any]:
    """Keep calls in eval mode from packing 4-bit weights for reading, as on some CPUs: that takes the gradient away.

    Returns:
        The modules that would have, for `let_pack`.
    """
    found = [m for _, m in quantized_modules(root) if getattr(m, "support_avx512bf16_for_cpu", False)]
    for module in found:
        module.support_avx512bf16_for_cpu = False
    return found


def let_pack(modules: Iterable[Any]) -> None:
    """Undo `stop_packing`."""
    for module in modules:
        module.support_avx512bf16_for_cpu = True


@dataclass(frozen=True, eq=False)
class Place:
    """Where a tensor is kept: an attribute of something.

    Attributes:
        owner: has the attribute.
        attribute: its name.
    """

    owner: Any
    attribute: str

    @property
    def tensor(self) -> Tensor:
        found: Tensor = getattr(self.owner, self.attribute)
        return found

    def put(self, tensor: Tensor) -> None:
        """Keep this one there from now on."""
        setattr(self.owner, self.attribute, tensor)


def scale_place(module: Any) -> Place:
    """Where a quantized module that has been called keeps its scales."""
    state = getattr(module.weight, "quant_state", None)
    return Place(module.state, "SCB") if state is None else Place(state, "absmax")


def point_to_codes(modules: Iterable[Any]) -> None:
    """Let modules in 8 bits compute with their parameter's data where that has been moved: they keep it once more."""
    for module in modules:
        state = getattr(module, "state", None)
        if state is not None and state.CB is not None:
            state.CB = module.weight.data
