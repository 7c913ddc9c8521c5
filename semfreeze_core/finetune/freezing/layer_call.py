"""Changing how a layer of a live model is called, without changing the model's code; undone exactly.

The layer's class is replaced by a subclass of the same name whose `__call__` is ours, as torch's own parametrisation
does. Unlike a replaced `forward` or a hook this stands outside gradient checkpointing, whether transformers
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
    """Let `call` answer in the layer's place, until `restore_call`.

    Args:
        layer: one of a model's layers; its parameters, hooks and name stay what they are.
        call: called as call(layer, *args, **kwargs); `own_call` gives what the layer itself would answer.
        checkpointed: whether the layer itself may go on being checkpointed. If not it never is, whoever turns
            checkpointing on and whenever; what they set shows again after `restore_call`.

    Raises:
        ValueError: the layer's call is replaced already.
    """
    if is_replaced(layer):
        raise ValueError(f"the call of this {type(layer).__name__} is replaced already")

    def answer(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # a function, so that Python hands it the layer
        return call(self, *args, **kwargs)

    own = type(layer)
    body: dict[str, Any] = {
        "__call__": answer,
        "__module__": own.__module__,
        "__qualname__": own.__qualname__,
        _REPLACED: own,
    }
    if not checkpointed and hasattr(layer, _CHECKPOINTED):
        body[_CHECKPOINTED] = property(lambda _: False, _keep_for_later)
    layer.__class__ = type(own.__name__, (own,), body)


def _keep_for_later(layer: nn.Module, value: bool) -> None:
    vars(layer)[_CHECKPOINTED] = value


def restore_call(layer: nn.Module) -> None:
    """Give the layer its own class back; one whose call was never replaced is left alone."""
    if is_replaced(layer):
        layer.__class__ = getattr(type(layer), _REPLACED)


def is_replaced(layer: nn.Module) -> bool:
    """Whether the layer's call is replaced."""
    return _REPLACED in vars(type(layer))


def own_call(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What the layer itself answers, with its hooks; checkpointed only if `replace_call` left it so."""
    own: Any = vars(type(layer)).get(_REPLACED, type(layer))
    return own.__call__(layer, *args, **kwargs)
