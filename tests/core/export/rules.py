"""How each trainer that is not run here chooses what it trains, as its released source does it."""

import fnmatch
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
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or "Linear" in type(module).__name__
    }
    return names - {"lm_head", "embed_out"}


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


def nemo_trains(config, model):
    """nemo_automodel 0.7.0, components/utils/model_utils.py: modules by path or glob, with all below; trained last."""
    modules = [(name, module) for name, module in model.named_modules(remove_duplicate=False) if name]
    frozen = set()
    for key, change in (("freeze_modules", frozen.update), ("unfreeze_modules", frozen.difference_update)):
        for selector in config[key]:
            ((kind, value),) = selector.items()
            chosen = [
                module
                for name, module in modules
                if (name == value if kind == "path" else fnmatch.fnmatchcase(name, value))
            ]
            parameters = {id(parameter) for module in chosen for parameter in module.parameters()}
            assert parameters, f"NeMo AutoModel would refuse {selector}"
            change(parameters)
    return {name for name, parameter in model.named_parameters() if id(parameter) not in frozen}


def nemo_adapts(model, chosen):
    """nemo_automodel 0.7.0, components/_peft: linear modules; a pattern without * is an expression of a whole name."""
    for pattern in (*chosen.get("target_modules", ()), *chosen.get("exclude_modules", ())):
        assert "*" not in pattern, "would be a wildcard"

    def matches(key, name):
        return any(re.match(f"^{pattern}$", name) for pattern in chosen[key])

    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if "target_modules" in chosen:
        return {name for name in linear if matches("target_modules", name)}
    return {name for name in linear if not matches("exclude_modules", name)}


def oumi_trains(frozen, model):
    """oumi 0.9, utils/torch_utils.py: each module by its path, with all below; a missing one only warns."""
    ids = set()
    for path in frozen:
        module = model
        for part in path.split("."):
            assert hasattr(module, part), f"oumi would only warn about {path}"
            module = getattr(module, part)
        ids |= {id(parameter) for parameter in module.parameters()}  # a parameter's own path would have none
    return {name for name, parameter in model.named_parameters() if id(parameter) not in ids}


def oumi_adapts(model, peft):
    """oumi 0.9, core/configs/params/peft_params.py, and PEFT: targets by their end, less what an expression excludes.

    "all-linear" is every linear module but the output embedding.
    """
    (excluded,) = peft["lora_exclude_modules"]
    targets = peft["lora_target_modules"]
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    if targets == ["all-linear"]:
        head = model.get_output_embeddings()
        names = {name for name in linear if model.get_submodule(name) is not head}
    else:
        names = {name for name in linear if any(name == end or name.endswith(f".{end}") for end in targets)}
    return {name for name in names if not re.fullmatch(f"({excluded})", name)}


def in_layers(name, layers, pattern):
    """Whether PEFT's layers_to_transform and layers_pattern let a module through; the first number is the layer's."""
    match = re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name)
    return match is not None and int(match[1]) in layers


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
