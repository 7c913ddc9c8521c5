"""A model as somebody trains it: wrapped by PEFT, perhaps with adapters inside, perhaps in a form never tested."""

from dataclasses import replace
from typing import Any

from torch import nn

from semfreeze_core.errors import ModelError
from semfreeze_core.records.model import ModelIdentity
from semfreeze_core.sources.model_shape import identify

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
            devices as DTensor, or quantised weights; named.
    """
    for module in model.modules():
        for kind in type(module).__mro__:
            if kind.__name__ in _UNTESTED:
                raise ModelError(untested(_UNTESTED[kind.__name__]))
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise ModelError(untested("torch.compile"))
        if getattr(module, "is_quantized", False) is True:
            raise ModelError(untested("quantised weights"))
    for parameter in model.parameters():
        if hasattr(parameter, "ds_id"):
            raise ModelError(untested("DeepSpeed"))
        if type(parameter).__name__ == "DTensor":
            raise ModelError(untested("DTensor parameters (FSDP or tensor parallelism)"))
        if not parameter.is_floating_point():
            raise ModelError(untested("quantised weights"))


def untested(what: str) -> str:
    """The refusal of something by its name."""
    return (
        f"Freezing under {what} has not been tested, and a boundary that does not hold loses the saving in silence: "
        f"train without {what}, on one device."
    )


def base_model(model: Any) -> Any:
    """The transformers model under PEFT's wrapper, or the model itself; adapters stay inside."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def adapters_in(base: nn.Module) -> list[str]:
    """Names of parameters that PEFT has added."""
    return [name for name, _ in base.named_parameters() if _is_added(name)]


def plain_name(name: str) -> str:
    """A parameter's name without what PEFT puts into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _is_added(name: str) -> bool:
    return any(part.startswith(_ADDED) for part in name.split("."))


class _Plain:
    """A model's config and parameters as they were before PEFT; all that `identify` reads."""

    def __init__(self, base: Any) -> None:
        self.config = base.config
        self._parameters = [(plain_name(n), p) for n, p in base.named_parameters() if not _is_added(n)]

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return self._parameters


def identify_base(base: Any) -> ModelIdentity:
    """Digests of the model as it was before PEFT put adapters into it."""
    found = identify(_Plain(base), source=base.config.name_or_path or "this model", revision=None)
    return replace(found, architecture=type(base).__name__)
