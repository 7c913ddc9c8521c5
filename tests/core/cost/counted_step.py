"""A real training step of a tiny model as a setup asks for it: adapters by PEFT, checkpointing by transformers."""

import warnings
from dataclasses import replace
from unittest.mock import patch

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import cast_adapter_dtype
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from semfreeze_core.cost import step_flop
from semfreeze_core.cost.lora import adapted_matrices
from tests.core.cost.saved_bytes import DTYPES
from tests.core.tiny_models import find_pieces, set_trainable


def prepare(model, shape, setup, parts, boundary=True):
    """Let the model train these parts as the setup says; semfreeze's own boundary below the first trained layer.

    With the boundary, layer k gets a detached input that requires a gradient, unless a gradient passes below it anyway;
    it is returned, so that a model can be prepared again without it.
    """
    model.to(DTYPES[setup.precision])
    set_trainable(model, replace(parts, layers=tuple(t and setup.lora is None for t in parts.layers)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers has a new name for gradient checkpointing
        if setup.lora is not None:
            _adapt(model, shape, setup.lora, parts)
        if setup.checkpointing == "transformers-5":
            model.gradient_checkpointing_enable()
        elif setup.checkpointing != "none":
            reentrant = {"use_reentrant": setup.checkpointing == "reentrant"}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=reentrant)
            model.disable_input_require_grads()
    below = parts.embeddings or (shape.tied and parts.head) or setup.checkpointing == "transformers-5"
    if boundary and any(parts.layers) and not below:
        return find_pieces(model).layers[parts.freeze_depth].register_forward_pre_hook(_detach)
    return nn.Identity().register_forward_pre_hook(_detach)  # on nothing


def _adapt(model, shape, lora, parts):
    pieces = find_pieces(model)
    prefix = next(name for name, module in model.named_modules() if module is pieces.layers)
    needing = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    targets = [
        f"{prefix}.{i}.{matrix.name}"
        for i, (layer, trained) in enumerate(zip(shape.layers, parts.layers, strict=True))
        if trained
        for matrix in adapted_matrices(layer, lora)
    ]
    if targets:
        stored_in_out = any(isinstance(module, Conv1D) for module in model.modules())
        config = LoraConfig(r=lora.rank, target_modules=targets, fan_in_fan_out=stored_in_out)
        with patch.object(model.config, "model_type", "tiny"):  # else peft takes mlp.gate_proj to mean experts as well
            inject_adapter_in_model(config, model)
        cast_adapter_dtype(model, "default")  # to float32, as get_peft_model does
    for name, parameter in model.named_parameters():
        if name in needing:
            parameter.requires_grad_(True)


def _detach(_, args):
    return (args[0].detach().requires_grad_(True), *args[1:])


def count_step(model, tokens, setup, compute_loss):
    """FLOP torch counts in the forward pass, and in the whole step."""
    model.zero_grad()
    with FlopCounterMode(display=False) as counter:
        loss = compute_loss(model, tokens, setup)
        forward = counter.get_total_flops()
        if loss.requires_grad:
            loss.backward()
    return forward, counter.get_total_flops()


def expected_step(shape, setup, parts):
    """FLOP of the forward pass, and of the whole step, by our formulas."""
    step = step_flop(shape, setup, parts)
    return step.forward, step.total
