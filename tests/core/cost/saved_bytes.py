"""What autograd really keeps in a forward pass of a tiny model."""

import weakref
from contextlib import nullcontext

import torch

from tests.core.tiny_models import find_pieces

DTYPES = {"float32": torch.float32, "bf16-autocast": torch.float32, "bf16": torch.bfloat16}


def count_saved_bytes(model, tokens, setup):
    """Bytes of all storages that the forward pass up to the logits keeps for the backward pass, parameters left out.

    A storage counts once and whole, however many views of it are kept. Autocast's copies of weights are among them.
    """
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved_tensors = weakref.WeakSet()

    def keep(tensor):
        saved = Saved(tensor)
        saved_tensors.add(saved)
        return saved

    autocast = torch.autocast("cpu", torch.bfloat16) if setup.precision == "bf16-autocast" else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved.tensor), autocast:
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        logits = find_pieces(model).head(hidden)  # held to the end: it holds the graph
    storages = [saved.tensor.untyped_storage() for saved in saved_tensors]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages if storage.data_ptr() not in parameters}
    assert logits.requires_grad == any(parameter.requires_grad for parameter in model.parameters())
    return sum(sizes.values())


class Saved:
    """A tensor the graph keeps; the graph holds it, so that it dies with what is not needed."""

    def __init__(self, tensor):
        self.tensor = tensor
