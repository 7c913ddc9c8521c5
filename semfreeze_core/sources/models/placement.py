"""Where the layers of a model are kept that a device has no room for: in the machine's memory, and then on disk.

Norms and head stay on the device, because they are needed for every hidden state, and for an analysis the embedding
too. accelerate's hooks bring a layer to the device for its forward pass alone, from the checkpoint's own safetensors
where it is on disk.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook
from accelerate.utils import align_module_device
from torch import Tensor, nn

from semfreeze_core.device import has_own_memory
from semfreeze_core.records.preview import LayerPlacement, PrefixPlacement
from semfreeze_core.sources.models.memory_forecast import model_bytes
from semfreeze_core.sources.models.probe import find_layers

_DISK, _MEMORY = "disk", "cpu"


@dataclass(frozen=True)
class Placement:
    """Which layers a device holds, the machine's memory, and the disk.

    Attributes:
        layers: their numbers.
        device_map: the same as transformers takes it, by module.
        prefix: what a training keeps off the device; None for an analysis.
    """

    layers: LayerPlacement
    device_map: dict[str, str]
    prefix: PrefixPlacement | None = None


# Called with a model without weights, the dtype of its weights when it is loaded, the device that computes, and the
# bytes that are free there and in the machine's memory; returns None where what the device must hold has no room.
Placing = Callable[[Any, torch.dtype, torch.device, int, int], Placement | None]


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
    sizes = [_parameters(layer) for layer in layers]
    needed, n_device = _parameters(model) - sum(sizes) + max(sizes), 0
    if model_bytes(needed, dtype) > free_bytes:
        return None
    while n_device < len(sizes) and model_bytes(needed + sizes[-1 - n_device], dtype) <= free_bytes:
        needed += sizes[-1 - n_device]
        n_device += 1
    elsewhere = sizes[: len(sizes) - n_device]
    n_disk = len(elsewhere) - _in_memory(elsewhere[::-1], dtype, device, free_memory)
    devices = [_DISK] * n_disk + [_MEMORY] * (len(elsewhere) - n_disk) + [str(device)] * n_device
    apart = {f"{prefix}{i}": layer_device for i, layer_device in enumerate(devices)}
    return Placement(
        LayerPlacement(n_device, len(elsewhere) - n_disk, n_disk, sum(sizes[:n_disk]) * dtype.itemsize),
        _device_map(model, device, apart),
    )


def place_prefix(
    depth: int, model: Any, dtype: torch.dtype, device: torch.device, free_bytes: int, free_memory: int
) -> Placement | None:
    """Keep layers 0..depth-1 off a device, and the embedding unless it is the head: in the machine's memory, those
    nearest to the boundary first, and then on disk.

    All of them, whatever room there is: training needs it for gradients, moments and activations.

    Args:
        depth: layers for which a prefix cache stands in while the others are trained, 1..L.
        model, dtype, device, free_bytes, free_memory: as `place_layers` takes them.

    Returns:
        None where the device cannot hold the others, and the largest of these on its way.
    """
    layers, prefix = find_layers(model)
    parts: dict[str, nn.Module] = {f"{prefix}{i}": layers[i] for i in reversed(range(depth))}
    embedding = model.get_input_embeddings()
    if moves_embedding := embedding.weight is not model.get_output_embeddings().weight:
        parts[next(name for name, module in model.named_modules() if module is embedding)] = embedding
    sizes = [_parameters(part) for part in parts.values()]
    needed = model_bytes(_parameters(model) - sum(sizes) + max(sizes), dtype)
    if needed > free_bytes:
        return None
    n_memory = _in_memory(sizes, dtype, device, free_memory)
    apart = {name: _MEMORY if i < n_memory else _DISK for i, name in enumerate(parts)}
    memory_bytes, disk_bytes = (sum(part) * dtype.itemsize for part in (sizes[:n_memory], sizes[n_memory:]))
    in_memory = min(n_memory, depth)
    return Placement(
        LayerPlacement(len(layers) - depth, in_memory, depth - in_memory, disk_bytes),
        _device_map(model, device, apart),
        PrefixPlacement(depth, len(layers), moves_embedding, memory_bytes, disk_bytes, needed),
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _in_memory(sizes: list[int], dtype: torch.dtype, device: torch.device, free_memory: int) -> int:
    """How many of these parts, the first ones, the machine's memory holds beside a device."""
    needed, count = 0, 0
    while has_own_memory(device) and count < len(sizes) and model_bytes(needed + sizes[count], dtype) <= free_memory:
        needed += sizes[count]
        count += 1
    return count


def _device_map(model: nn.Module, device: torch.device, apart: dict[str, str]) -> dict[str, str]:
    """Where each module is kept, of the largest ones that are kept in one place; `apart` has those of their own."""
    return dict(_by_module(model, "", str(device), apart))


def _by_module(module: nn.Module, name: str, device: str, apart: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield from ((f"{name}{parameter}", device) for parameter, _ in module.named_parameters(recurse=False))
    for child_name, child in module.named_children():
        full = f"{name}{child_name}"
        if any(other.startswith(f"{full}.") for other in apart):
            yield from _by_module(child, f"{full}.", device, apart)
        else:
            yield full, apart.get(full, device)


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


@contextmanager
def brought_in(module: nn.Module) -> Iterator[None]:
    """A module's parts on the device that computes, for all of its calls in the block: accelerate brings them in for
    each call alone."""
    entered: list[tuple[nn.Module, AlignDevicesHook]] = []
    try:
        for part, hook in _offloading(module):
            entered.append((part, hook))
            hook.pre_forward(part)
            hook.offload = False
        yield
    finally:
        for part, hook in entered:
            hook.offload = True
            hook.post_forward(part, None)


def _offloading(module: nn.Module) -> list[tuple[nn.Module, AlignDevicesHook]]:
    """The parts of a module that are kept elsewhere, each with accelerate's hook."""
    hooks = ((part, getattr(part, "_hf_hook", None)) for part in module.modules())
    return [(part, hook) for part, hook in hooks if isinstance(hook, AlignDevicesHook) and hook.offload]


@contextmanager
def values_in_memory(model: nn.Module) -> Iterator[None]:
    """While the block runs, accelerate reads what is on disk to the machine's memory, not to the device that computes.

    For saving a model, of which transformers collects whole files before it writes them.
    """
    datasets = (hook.weights_map.dataset for _, hook in _offloading(model))
    loaders = {id(dataset): dataset for dataset in datasets}
    before = [(loader, loader.device) for loader in loaders.values()]
    for loader, _ in before:
        loader.device = "cpu"
    try:
        yield
    finally:
        for loader, device in before:
            loader.device = device
