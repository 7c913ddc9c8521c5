"""Tiny models as people train them: checkpointing of each kind, adapters of each kind, one counted step."""

from unittest.mock import patch

import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from semfreeze_core.cost.lora import adapted_matrices
from tests.core.tiny_models import find_pieces

MODES = ("none", "non-reentrant", "reentrant")


def tokens_of(model, size=(2, 8)):
    """Random ids, special ones left out."""
    return torch.randint(3, model.config.vocab_size, size, generator=torch.Generator().manual_seed(0))


def checkpoint(model, mode):
    """Turn checkpointing on as a transformers Trainer does, with the embedding's hook; "none" is the hook alone."""
    if mode == "none":
        model.enable_input_require_grads()
    else:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": mode == "reentrant"})


def step(model, ids):
    """FLOP that torch counts in a forward and backward pass of the model's own loss over all tokens."""
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return counter.get_total_flops()


def adapt(model, shape, prefix, parts, lora, *, wrapped):
    """The model with adapters on its trained layers, as get_peft_model wraps it or injected into it."""
    targets = [
        f"{prefix}{i}.{matrix.name}"
        for i, (layer, trained) in enumerate(zip(shape.layers, parts.layers, strict=True))
        if trained
        for matrix in adapted_matrices(layer, lora)
    ]
    stored_in_out = any(isinstance(module, Conv1D) for module in model.modules())
    config = LoraConfig(r=lora.rank, target_modules=targets, fan_in_fan_out=stored_in_out)
    with patch.object(model.config, "model_type", "tiny"):  # else peft takes mlp.gate_proj to mean experts as well
        return get_peft_model(model, config) if wrapped else inject_adapter_in_model(config, model)


def freeze_by_flags(model, k):
    """What people do: layers k.. and the final norm require gradients, nothing else; no boundary."""
    pieces = find_pieces(model)
    model.requires_grad_(False)
    for module in (*pieces.layers[k:], pieces.final_norm):
        module.requires_grad_(True)
