"""Where the layers of a model are kept that a device has no room for: in the machine's memory, and then on disk.

Embedding, norms and head stay on the device, because they are needed for every hidden state. accelerate's hooks bring
a layer to the device for its forward pass alone, from the checkpoint's own safetensors where it is on disk.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from semfreeze_core.device import has_own_memory
from semfreeze_core.records.preview import LayerPlacement
from semfreeze_core.sources.models.memory_forecast import model_bytes
from semfreeze_core.sources.models.probe import find_layers

_DISK = "disk"


@dataclass(frozen=True)
class Placement:
    """Which layers a device holds, the machine's memory, and the disk.

    Attributes:
        layers: their numbers.
        device_map: the same as transformers takes it, by module.
    """

    layers: LayerPlacement
    device_map: dict[str, str]


def place_layers(
    model: Any, dtype: torch.dtype, device: torch.device, free_bytes: int, free_memory: int
) -> Placement | None:
    """Keep as many layers as fit on a device, the last ones; then in the machine's memory; the others on disk.

    Args:
        model: without weights.
        dtype: of its weights when it is loaded.
        device: that computes.
        free_bytes: free on the device.
        free_memory: free in the machine's memory; a device that shares it has none apart.

    Returns:
        None where the device cannot hold what every pass needs: all but the layers, and the largest layer.
    """
    layers, prefix = find_layers(model)
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    others = sum(p.numel() for p in model.parameters()) - sum(sizes)
    needed, n_device = others + max(sizes), 0
    if model_bytes(needed, dtype) > free_bytes:
        return None
    while n_device < len(sizes) and model_bytes(needed + sizes[-1 - n_device], dtype) <= free_bytes:
        needed += sizes[-1 - n_device]
        n_device += 1
    needed, n_memory = 0, 0
    elsewhere = sizes[: len(sizes) - n_device]
    while (
        has_own_memory(device)
        and n_memory < len(elsewhere)
        and model_bytes(needed + elsewhere[-1 - n_memory], dtype) <= free_memory
    ):
        needed += elsewhere[-1 - n_memory]
        n_memory += 1
    n_disk = len(sizes) - n_device - n_memory
    devices = [_DISK] * n_disk + ["cpu"] * n_memory + [str(device)] * n_device
    return Placement(
        LayerPlacement(n_device, n_memory, n_disk, sum(sizes[:n_disk]) * dtype.itemsize),
        dict(_by_module(model, "", prefix, str(device), devices)),
    )


def _by_module(
    module: nn.Module, name: str, prefix: str, device: str, layer_devices: list[str]
) -> Iterator[tuple[str, str]]:
    """Where each module is kept, of the largest ones that are kept in one place."""
    yield from ((f"{name}{parameter}", device) for parameter, _ in module.named_parameters(recurse=False))
    for child_name, child in module.named_children():
        full = f"{name}{child_name}"
        if f"{full}." == prefix:
            yield from ((f"{prefix}{i}", layer_device) for i, layer_device in enumerate(layer_devices))
        elif prefix.startswith(f"{full}."):
            yield from _by_module(child, f"{full}.", prefix, device, layer_devices)
        else:
            yield full, device


def is_elsewhere(module: nn.Module) -> bool:
    """Whether parts of a module are kept off the device that computes."""
    return any(parameter.is_meta for parameter in module.parameters())


def parameter_values(module: nn.Module, names: Iterable[str] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Parameters with their values, one at a time: those kept elsewhere are read while they are looked at.

    Args:
        module: a model, or a part of one.
        names: which parameters, in this order; None takes all in the module's own.
    """
    parameters = dict(module.named_parameters())
    for name in parameters if names is None else names:
        if not parameters[name].is_meta:
            yield name, parameters[name].detach()
            continue
        owner, _, attribute = name.rpartition(".")
        part = module.get_submodule(owner)
        with align_module_device(part):
            yield name, getattr(part, attribute).detach()
