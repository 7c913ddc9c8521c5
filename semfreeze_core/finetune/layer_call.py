"""Changing how a layer of a live model is called, without changing the model's code; undone exactly.

The layer's class is replaced by a subclass of the same name whose `__call__` is ours, as torch's own parametrisation
does. Unlike a replaced `forward` or a hook this stands outside gradient checkpointing whoever turns that on and
whenever (transformers checkpoints inside a layer's `__call__`), leaves nothing behind when the layer raises, and
survives a deep copy, whose layers call themselves and not the originals.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

LayerCall = Callable[..., Any]

_REPLACED = "_semfreeze_replaced_class"


def replace_call(layer: nn.Module, call: LayerCall) -> None:
    """Let `call` answer in the layer's place, until `restore_call`.

    Args:
        layer: one of a model's layers; its parameters, hooks and name stay what they are.
        call: called as call(layer, *args, **kwargs); `own_call` gives what the layer itself would answer.

    Raises:
        ValueError: the layer's call is replaced already.
    """
    if is_replaced(layer):
        raise ValueError(f"the call of this {type(layer).__name__} is replaced already")
    own = type(layer)
    body = {"__call__": call, "__module__": own.__module__, "__qualname__": own.__qualname__, _REPLACED: own}
    layer.__class__ = type(own.__name__, (own,), body)


def restore_call(layer: nn.Module) -> None:
    """Give the layer its own class back; one whose call was never replaced is left alone."""
    if is_replaced(layer):
        layer.__class__ = getattr(type(layer), _REPLACED)


def is_replaced(layer: nn.Module) -> bool:
    """Whether the layer's call is replaced."""
    return _REPLACED in vars(type(layer))


def own_call(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What the layer itself answers, with its hooks, outside gradient checkpointing."""
    return nn.Module.__call__(layer, *args, **kwargs)
