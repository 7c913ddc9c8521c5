"""A model as somebody trains it: perhaps wrapped by PEFT, with adapters, or in a form that was not tested."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from semfreeze_core.errors import ModelError
from semfreeze_core.finetune.quantize.weights import is_quantized, plain_shape, quantized_modules
from semfreeze_core.records.model import ModelIdentity
from semfreeze_core.sources.models.model_shape import identify

# Class names, so that nothing is imported for the check; each with what people call it.
_UNTESTED = {
    "FullyShardedDataParallel": "FSDP",
    "FSDPModule": "FSDP",
    "DeepSpeedEngine": "DeepSpeed",
    "OptimizedModule": "torch.compile",
    "DistributedDataParallel": "DistributedDataParallel",
    "DataParallel": "DataParallel",
}
# What PEFT puts into the path of a parameter that it wraps, and how paths of its own begin.
_WRAPPERS = ("base_layer", "original_module")
_ADDED = ("lora_", "modules_to_save")


def require_supported(model: nn.Module) -> None:
    """Refuse models in a form in which freezing has not been tested.

    Raises:
        ModelError: FSDP, DeepSpeed, torch.compile, DataParallel, DistributedDataParallel, parameters spread over
            devices as DTensor, or quantized weights other than bitsandbytes'; named. Also packed 4-bit weights.
    """
    for module in model.modules():
        for kind in type(module).__mro__:
            if kind.__name__ in _UNTESTED:
                raise ModelError(untested(_UNTESTED[kind.__name__]))
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise ModelError(untested("torch.compile"))
        if getattr(module, "is_quantized", False) is True and not _by_bitsandbytes(module):
            raise ModelError(untested("quantized weights"))
    for parameter in model.parameters():
        if hasattr(parameter, "ds_id"):
            raise ModelError(untested("DeepSpeed"))
        if type(parameter).__name__ == "DTensor":
            raise ModelError(untested("DTensor parameters (FSDP or tensor parallelism)"))
        if not (parameter.is_floating_point() or is_quantized(parameter)):
            raise ModelError(untested("quantized weights"))
    _require_unpacked(model)


def _require_unpacked(model: nn.Module) -> None:
    """Refuse 4-bit weights that a call in eval mode packed, as on some CPUs: they pass no gradient."""
    for name, module in quantized_modules(model):
        if getattr(getattr(module.weight, "quant_state", None), "packing_format_for_cpu", False):
            raise ModelError(
                f"{name}.weight was packed by a call in eval mode on the CPU (bitsandbytes), and passes no gradient: "
                "load the model again, and leave it in train mode until it is trained."
            )


def _by_bitsandbytes(model: Any) -> bool:
    """Whether transformers says that bitsandbytes has quantized a model."""
    return str(getattr(getattr(model, "quantization_method", None), "value", "")) == "bitsandbytes"


def untested(what: str) -> str:
    """The error message about an untested way of training."""
    return (
        f"Freezing under {what} has not been tested, and a boundary that does not hold silently loses the saving: "
        f"train without {what}, on one device."
    )


def require_causal_lm(model: Any) -> None:
    """Refuse by name a model that is no decoder-only language model: layers of others mean something else.

    Raises:
        ModelError: an encoder with a decoder, an encoder that fills masks, or a model without a language model's head.
    """
    base = base_model(model)
    what = None
    if getattr(base.config, "is_encoder_decoder", False):
        what = "has an encoder and a decoder"
    elif type(base).__name__ in MODEL_FOR_MASKED_LM_MAPPING_NAMES.values():
        what = "fills masked tokens"
    elif base.get_output_embeddings() is None:
        what = "has no head that predicts tokens"
    if what is not None:
        raise ModelError(
            f"{type(base).__name__} {what}. Expected a decoder-only language model, such as LlamaForCausalLM."
        )


def base_model(model: Any) -> Any:
    """The transformers model under PEFT's wrapper, or the model itself; adapters remain inside."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def adapters_in(base: nn.Module) -> list[str]:
    """Names of parameters that PEFT has added."""
    return [name for name, _ in base.named_parameters() if _is_added(name)]


def plain_name(name: str) -> str:
    """A parameter's name without the parts that PEFT adds."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _is_added(name: str) -> bool:
    return any(part.startswith(_ADDED) for part in name.split("."))


class _Plain:
    """A model's config and parameters as they were before PEFT and bitsandbytes; all that `identify` uses.

    A quantized weight has its shape back, but not its values.
    """

    def __init__(self, base: Any) -> None:
        self.config = base.config
        shapes = {id(module.weight): plain_shape(module) for _, module in quantized_modules(base)}
        self._parameters: list[tuple[str, Tensor]] = [
            (plain_name(n), torch.zeros(()).expand(shapes[id(p)]) if id(p) in shapes else p)
            for n, p in base.named_parameters()
            if not _is_added(n)
        ]

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        return self._parameters


def identify_base(base: Any) -> ModelIdentity:
    """Digests of the model as it was before PEFT put adapters into it.

    Of a quantized model the structure's is that of the model in its own precision; the weights' digest means nothing.
    """
    identity = identify(_Plain(base), source=base.config.name_or_path or "this model", revision=None)
    return replace(identity, architecture=type(base).__name__)
