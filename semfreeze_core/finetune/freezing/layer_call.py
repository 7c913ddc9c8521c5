"""Replacing the call of a layer of a live model without changing the model's code; undone exactly.

The layer's class is replaced by a subclass of the same name with another `__call__`, as torch's parametrizations
do. Unlike a replaced `forward` or a hook this stands outside gradient checkpointing, whether transformers
checkpoints a layer's `__call__` or its `forward`; it leaves nothing behind when the layer raises, and it survives a
deep copy, whose layers call themselves and not the originals.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

LayerCall = Callable[..., Any]

_REPLACED = "_semfreeze_replaced_class"
# Where transformers keeps, on each layer, whether it is checkpointed.
_CHECKPOINTED = "gradient_checkpointing"


def replace_call(layer: nn.Module, call: LayerCall, *, checkpointed: bool = False) -> None:
    """Replace the layer's call by `call` until `restore_call`.

    Args:
        layer: one of a model's layers; its parameters, hooks and name stay what they are.
        call: called as call(layer, *args, **kwargs); `original_call` returns what the layer itself would.
        checkpointed: whether the layer itself may be checkpointed. If not, it never is, whoever turns checkpointing on;
            what they set applies again after `restore_call`.

    Raises:
        ValueError: the layer's call is replaced already.
    """
    if is_replaced(layer):
        raise ValueError(f"the call of this {type(layer).__name__} is replaced already")

    def replaced_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # a function, so that Python binds it
        return call(self, *args, **kwargs)

    original = type(layer)
    body: dict[str, Any] = {
        "__call__": replaced_call,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        _REPLACED: original,
    }
    if not checkpointed and hasattr(layer, _CHECKPOINTED):
        body[_CHECKPOINTED] = property(lambda _: False, _set_hidden)
    layer.__class__ = type(original.__name__, (original,), body)


def _set_hidden(layer: nn.Module, value: bool) -> None:
    vars(layer)[_CHECKPOINTED] = value


def restore_call(layer: nn.Module) -> None:
    """Restore the layer's class; without effect when its call was not replaced."""
    if is_replaced(layer):
        layer.__class__ = getattr(type(layer), _REPLACED)


def is_replaced(layer: nn.Module) -> bool:
    """Whether the layer's call is replaced."""
    return _REPLACED in vars(type(layer))


def original_call(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What the layer itself returns, with its hooks; checkpointed only if `replace_call` allows it."""
    # Not of the class itself alone: torch's fully_shard puts one of its own before it.
    classes = (vars(kind).get(_REPLACED) for kind in type(layer).__mro__)
    original: Any = next((kind for kind in classes if kind is not None), type(layer))
    return original.__call__(layer, *args, **kwargs)
