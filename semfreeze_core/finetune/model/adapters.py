"""Low-rank adapters of an arm, added by PEFT."""

import warnings
from typing import Any

from torch import nn

from semfreeze_core.cost.lora import adapted_matrices
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.quantize.weights import quiet_bitsandbytes, was_transposed
from semfreeze_core.records.defaults import LORA_SCALE
from semfreeze_core.records.model import ModelShape, ParameterNames
from semfreeze_core.records.training import LoraSetup, TrainableParts


def add_adapters(model: Any, shape: ModelShape, names: ParameterNames, parts: TrainableParts, lora: LoraSetup) -> Any:
    """The model wrapped by PEFT, with adapters on the chosen matrices of the trained layers.

    Scaled by alpha / rank = LORA_SCALE, and without dropout, as cached states are. All but the adapters is frozen. On a
    base in 8 or 4 bits PEFT chooses adapters that fit it.

    Raises:
        InputError: PEFT is not installed.
    """
    quiet_bitsandbytes()  # PEFT imports it where it is installed
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
        lora_alpha=LORA_SCALE * lora.rank,
        lora_dropout=0.0,
        target_modules=targets,
        # of the base as others load it, also where it is quantized here
        fan_in_fan_out=any(isinstance(modules[t], Conv1D) or was_transposed(modules[t]) for t in targets),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # PEFT asks models for it by a name that transformers has replaced.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return get_peft_model(model, config)
