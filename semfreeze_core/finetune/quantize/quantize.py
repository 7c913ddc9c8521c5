"""A model's layers in 8 or 4 bits: the base that a LoRA plan with frozen bits trains its adapters on.

bitsandbytes quantizes as QLoRA does: every matrix of the layers, frozen or adapted; embeddings, norms, biases and head
keep their precision. Source: Dettmers et al. 2023 (https://arxiv.org/abs/2305.14314).

Not tested on a GPU yet.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from semfreeze_core.device import is_out_of_memory, product_dtype
from semfreeze_core.errors import InputError, ModelError
from semfreeze_core.finetune.quantize.weights import BLOCK, quiet_bitsandbytes
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.training import FrozenBits, Precision
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.probe import probe_ids

NAMES: dict[FrozenBits, str] = {4: "4 bits (NF4)", 8: "8 bits (LLM.int8)"}


def trained_bits(plan: FreezePlan) -> FrozenBits | None:
    """Bits of the base that a plan's finetune trains on; None where weights keep their precision."""
    return None if plan.cost.setup.lora is None else plan.cost.setup.frozen_bits


def require_bitsandbytes() -> None:
    """Raise when bitsandbytes is missing.

    Raises:
        InputError: it is not installed.
    """
    quiet_bitsandbytes()
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise InputError("8- and 4-bit bases need bitsandbytes: pip install 'semfreeze[bitsandbytes]'.") from error


def quantize_layers(
    decoder: Decoder,
    bits: FrozenBits,
    *,
    precision: Precision = "float32",
    device: torch.device | None = None,
    progress: Progress = silent,
) -> tuple[str, ...]:
    """Round the layers' matrices to 8 or 4 bits, in place, and move the model to a device.

    Matrices are those of nn.Linear and of GPT-2's Conv1D. They go one at a time from the CPU, so that the device never
    holds the model in its own precision.

    Args:
        decoder: the model and its parts, on the CPU, not yet adapted.
        bits: 8 or 4.
        precision: of the training; 4-bit products are computed in bfloat16 unless it is float32.
        device: where the model is to train; None where it is.
        progress: receives the stage.

    Returns:
        Notes: how the matrices are quantized, and which keep their precision and why.

    Raises:
        InputError: bitsandbytes is not installed.
        ModelError: the layers have no such matrices, or the model does not compute with quantized ones.
    """
    require_bitsandbytes()
    from semfreeze_core.finetune.quantize.layers import quantized

    target = device or decoder.device
    compute_dtype = product_dtype(precision)
    progress(ProgressEvent(f"Quantizing the layers to {NAMES[bits]}"))
    other_kinds, uneven = Unquantized(), Unquantized()
    rounded = 0
    for layer in decoder.layers:
        for name, module in list(layer.named_modules()):
            if _is_matrix(module) and not (bits == 4 and _is_uneven(module, target)):
                layer.set_submodule(name, quantized(module, bits, compute_dtype, target))
                rounded += 1
            else:
                (uneven if _is_matrix(module) else other_kinds).add(name, module)
    model: Any = decoder.model
    if not rounded:
        raise ModelError(
            f"{type(model).__name__}: its layers hold no plain matrices that could be in {bits} bits. Plan it without "
            "--frozen-bits."
        )
    model.to(target)
    setattr(model, f"is_loaded_in_{bits}bit", True)  # tells PEFT to put adapters in that fit
    _require_running(decoder, bits)
    notes = []
    if other_kinds.sizes:
        notes.append(f"{other_kinds.description()} their precision: bitsandbytes quantizes plain matrices only.")
    if uneven.sizes:
        notes.append(
            f"{uneven.description()} their precision: their rows are not whole blocks of {BLOCK}, which bitsandbytes "
            "decodes incorrectly on a CPU."
        )
    estimate = f"The cost estimate assumes {bits} bits for them too."
    return (f"The layers' matrices are in {NAMES[bits]}.", *(f"{note} {estimate}" for note in notes))


@dataclass
class Unquantized:
    """Matrices that are not rounded: their elements in all layers, by name in the layer."""

    sizes: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, module: nn.Module) -> None:
        """Add the matrices of a module, without its submodules'."""
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                path = f"{name}.{parameter_name}"
                self.sizes[path] = self.sizes.get(path, 0) + parameter.numel()

    def description(self) -> str:
        """Their names and number of weights, to be followed by "their precision"."""
        return f"{', '.join(self.sizes)} ({sum(self.sizes.values()):,} weights) keep"


def _is_uneven(module: Any, device: torch.device) -> bool:
    """Whether a matrix in 4 bits would be decoded incorrectly: a CPU's kernel (0.49 to 0.50) starts a block per row."""
    inputs = module.nx if isinstance(module, Conv1D) else module.in_features
    return device.type == "cpu" and inputs % BLOCK != 0


def _is_matrix(module: nn.Module) -> bool:
    # Not what is derived from nn.Linear: its call may be another one. transformers draws the same line.
    return type(module) is nn.Linear or isinstance(module, Conv1D)


@torch.no_grad()
def _require_running(decoder: Decoder, bits: FrozenBits) -> None:
    """Run a few tokens: code that uses a matrix without calling its layer would get codes in place of weights."""
    model, name = decoder.model, type(decoder.model).__name__
    try:
        logits = model(input_ids=probe_ids(model).to(decoder.device), use_cache=False).logits
    except Exception as error:  # a model's own code can fail in any way on weights it was not written for
        if is_out_of_memory(error):
            raise  # not the model's code
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{name} does not run with its layers in {bits} bits: {type(error).__name__}: {text}. Plan it without "
            "--frozen-bits."
        ) from error
    if not torch.isfinite(logits).all():
        raise ModelError(
            f"{name} gives logits that are not numbers with its layers in {bits} bits. Plan it without --frozen-bits."
        )
