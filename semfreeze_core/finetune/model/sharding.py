"""What trains is spread over the processes: its weights, gradients and optimizer states (FSDP2, torch's fully_shard).

What is frozen stays whole in every process, so that the prefix can be computed, cached and taken off the device as in
one process.
"""

import inspect

from torch import Tensor, nn

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.processes import is_first, launch, own_share
from semfreeze_core.sources.models.decoder import Decoder


def require_sharding() -> None:
    """Refuse to shard with one process, or with a torch whose fully_shard cannot leave parameters alone.

    Raises:
        InputError: what is needed.
    """
    if launch().count == 1:
        raise InputError(
            "--shard spreads what trains over several processes: start them with "
            "torchrun --nproc-per-node N -m semfreeze_core train, or train without --shard."
        )
    from torch.distributed.fsdp import fully_shard

    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise InputError("--shard needs torch 2.7 or newer: update it, or train without --shard.")


def shard_trained(supervised: SupervisedModel, decoder: Decoder) -> None:
    """Shard what trains over the joined processes, layer by layer; the rest of it is the model's own group.

    Args:
        supervised: frozen, with its cache.
        decoder: its parts.

    Raises:
        InputError: a trained parameter has fewer rows than there are processes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    count = own_share().of
    for name, parameter in supervised.named_parameters():
        if parameter.requires_grad and (parameter.ndim == 0 or len(parameter) < count):
            raise InputError(
                f"{name} of shape {tuple(parameter.shape)} cannot be sharded over {count} processes: train without "
                "--shard."
            )
    mesh = init_device_mesh(decoder.device.type, (count,))
    frozen = {parameter for parameter in supervised.parameters() if not parameter.requires_grad}
    for layer in decoder.layers:
        if any(parameter.requires_grad for parameter in layer.parameters()):
            fully_shard(layer, mesh=mesh, ignored_params=frozen)
    # Whole during a pass alone: an evaluation leaves no weights behind that the next step would find outdated.
    fully_shard(supervised, mesh=mesh, reshard_after_forward=True, ignored_params=frozen)
    for method in ("token_losses", "within_forward"):
        register_fsdp_forward_method(supervised, method)


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard_trained` has sharded a model."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def whole(tensor: Tensor) -> Tensor:
    """A parameter's values, put together from all processes, which all must ask, where it is sharded."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def put_whole(parameter: Tensor, values: Tensor) -> None:
    """Write values into a parameter, each process its own part where it is sharded; all must have the values."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(parameter, DTensor):
        values = values.to(parameter.device, parameter.dtype)
        values = distribute_tensor(values, parameter.device_mesh, parameter.placements)
    parameter.copy_(values)


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers by name, whole, on the CPU in the first process; empty in the others.

    All processes must ask. A tensor with several names is there once for all of them.
    """
    first, state = is_first(), dict[str, Tensor]()
    by_parameter = dict[int, Tensor]()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in by_parameter:
            values = whole(tensor.detach())
            by_parameter[id(tensor)] = values.cpu() if first else values.new_empty(0)
        if first:
            state[name] = by_parameter[id(tensor)]
    return state
