"""How each trainer that is not run here chooses what it trains, as its released source does it."""

import re

from torch import nn
from transformers.pytorch_utils import Conv1D


def axolotl_trains(patterns, name):
    """axolotl 0.19.0, utils/freeze.py: rows in brackets aside, dots become literal, matched from the start."""
    for pattern in patterns:
        assert not re.match(r"^(.+)\[([0-9]*)(?::([0-9]*))?\]$", pattern), "would mean rows"
        if re.compile(re.sub(r"\.(?!\+)", "\\.", pattern)).match(name):
            return True
    return False


def axolotl_linear_names(model):
    """axolotl 0.19.0, loaders/adapter.py: last names of the linear modules, the output embedding's left out."""
    found = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or "Linear" in type(module).__name__
    }
    return found - {"lm_head", "embed_out"}


def llama_factory_trains(config, n_layers, names):
    """LLaMA-Factory 0.9.5, model/adapter.py: names that hold ".NUMBER." of a last layer or an extra module's name."""
    n = config["freeze_trainable_layers"]
    assert n > 0
    assert config["freeze_trainable_modules"] == "all"
    chosen = [f".{i}." for i in range(max(0, n_layers - n), n_layers)]
    extra = [module for module in config.get("freeze_extra_modules", "").split(",") if module]
    outside = {name.split(".")[-2] for name in names if re.search(r"\.\d+\.", name) is None}
    assert set(extra) <= outside, "LLaMA-Factory would refuse"
    return {name for name in names if any(part in name for part in [*chosen, *extra])}


def ms_swift_trains(flags, names):
    """ms-swift 4.6.0, utils/transformers_utils.py: all frozen at ratio 1, then what the pattern finds trained again."""
    assert flags["freeze_parameters_ratio"] == "1"
    return {name for name in names if re.compile(flags["trainable_parameters_regex"]).search(name)}


def in_layers(name, layers, pattern):
    """Whether PEFT's layers_to_transform and layers_pattern let a module through; the first number is the layer's."""
    found = re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name)
    return found is not None and int(found[1]) in layers


def peft_adapts(model, targets, layers, pattern):
    """Modules that PEFT gives an adapter for a list of targets on chosen layers."""
    return {
        name
        for name, _ in model.named_modules()
        if (name in targets or any(name.endswith(f".{target}") for target in targets))
        and in_layers(name, layers, pattern)
    }


def unsloth_adapts(model, targets, layers, pattern):
    """unsloth 2026.10.9, models/vision.py: "all-linear" is every linear module in the layers, a list is as in PEFT."""
    if targets != "all-linear":
        return peft_adapts(model, targets, layers, pattern)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    return {name for name in linear if in_layers(name, layers, pattern)}


def mlx_trains(config, prefix, n_layers, names):
    """mlx-lm 0.32.2, lora.py: layers[-max(num_layers, 0):], whose 0 means all."""
    chosen = range(n_layers)[-max(config["num_layers"], 0) :]
    return {name for name in names if any(name.startswith(f"{prefix}{i}.") for i in chosen)}
