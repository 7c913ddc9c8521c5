"""A device without float64, as Apple's MPS is, that computes on the CPU: tensors on it refuse to become float64."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

FLOAT32_DEVICE = torch.device("cpu:0")  # equal to no "cpu", and torch computes on it all the same
REFUSAL = "this device has no float64: move the tensor to the CPU first"


class OnDevice(Tensor):
    """A tensor on the device; whatever is computed from it is there as well."""


class _Device(TorchFunctionMode):
    """Moves tensors between the CPU and the device, and looks at what is made on the device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == Tensor.device.__get__:
            return FLOAT32_DEVICE if isinstance(args[0], OnDevice) else func(*args)
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor):
            return out
        target = torch.device("cpu") if func is Tensor.cpu else _named_device(args, kwargs)
        leaves = isinstance(out, OnDevice) and target is not None and target != FLOAT32_DEVICE
        if target == FLOAT32_DEVICE:
            out = out.as_subclass(OnDevice)  # type: ignore[arg-type]
        if isinstance(out, OnDevice) and out.dtype == torch.float64:  # conversions are made before a move to the CPU
            raise TypeError(REFUSAL)
        return out.as_subclass(Tensor) if leaves else out


def _named_device(args: Any, kwargs: Any) -> torch.device | None:
    """The device that a call names, or that of the tensor it takes the device of."""
    named = [*args[1:], kwargs.get("device")]
    return next((torch.device(x) for x in named if isinstance(x, torch.device) or x in ("cpu",)), None)


def move(model: nn.Module) -> None:
    """Put a model's parameters and buffers on the device, shared ones once."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                new = nn.Parameter(parameter.data.as_subclass(OnDevice), parameter.requires_grad)  # type: ignore[arg-type]
                module._parameters[name] = moved.setdefault(id(parameter), new)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.as_subclass(OnDevice)  # type: ignore[arg-type]


@contextmanager
def float32_device() -> Iterator[None]:
    """Within it tensors can be on the device, and semfreeze knows that it has no float64."""
    with pytest.MonkeyPatch.context() as patch, _Device():
        patch.setattr("semfreeze_core.semantics.bases.has_float64", lambda device: device != FLOAT32_DEVICE)
        yield
