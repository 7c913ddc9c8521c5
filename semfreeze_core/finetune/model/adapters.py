"""Low-rank adapters of an arm, put there by PEFT."""

import warnings
from typing import Any

from torch import nn

from semfreeze_core.cost.lora import adapted_matrices
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.quantize.weights import hush_bitsandbytes, was_turned
from semfreeze_core.records.model import ModelShape, ParameterNames
from semfreeze_core.records.training import LoraSetup, TrainableParts


def add_adapters(model: Any, shape: ModelShape, names: ParameterNames, parts: TrainableParts, lora: LoraSetup) -> Any:
    """The model wrapped by PEFT, with adapters on the chosen matrices of the trained layers.

    Scaled by alpha / rank = 2, and without dropout, as cached states are. All but the adapters is frozen. On a base
    in 8 or 4 bits PEFT puts in those that fit it.

    Raises:
        InputError: PEFT is not installed.
    """
    hush_bitsandbytes()  # PEFT imports it where it is installed
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError("LoRA needs PEFT: pip install 'semfreeze[finetune]'.") from error
    from transformers.pytorch_utils import Conv1D

    targets = [
        f"{names.layer_prefix}{i}.{matrix.name}"
        for i, (layer, trained) in enumerate(zip(shape.layers, parts.layers, strict=True))
        if trained
        for matrix in adapted_matrices(layer, lora)
    ]
    modules: dict[str, nn.Module] = dict(model.named_modules())
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank,
        lora_dropout=0.0,
        target_modules=targets,
        # of the base as others load it, also where it is quantized here
        fan_in_fan_out=any(isinstance(modules[t], Conv1D) or was_turned(modules[t]) for t in targets),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # PEFT asks models for it by a name that transformers has replaced.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return get_peft_model(model, config)
