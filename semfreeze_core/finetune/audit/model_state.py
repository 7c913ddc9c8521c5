"""Trying something on a live model that is given back as it was."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def state_preserved(model: nn.Module, layers: Sequence[nn.Module]) -> Iterator[None]:
    """Training mode on and no gradients inside the block; afterwards the model is restored.

    Restores gradients, requires_grad flags, training modes, the layers' classes and torch's random state.
    """
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    classes = [(layer, type(layer)) for layer in layers]
    device = parameters[0][0].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            model.train()
            for parameter, _, _ in parameters:
                parameter.grad = None
            yield
        finally:
            for layer, kind in classes:
                layer.__class__ = kind
            for module, training in modes:
                module.training = training
            for parameter, flag, gradient in parameters:
                parameter.requires_grad_(flag)
                parameter.grad = gradient
