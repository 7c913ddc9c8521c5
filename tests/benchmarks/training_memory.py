"""Projected and calibrated peak memory of a training step against what CUDA's allocator measured.

    python tests/benchmarks/training_memory.py [--model CONFIG_FOLDER] [--batch-size 4] [--sequence-length 512]

Runs only where there is a CUDA device; elsewhere it says so and ends with code 1. The model has random weights: memory
does not depend on them. Each setup runs in a process of its own: two full steps (the first makes the optimizer's
states), then the allocator's peak of a third. The frozen prefix runs as semfreeze means it, under no_grad and with a
detached input for the first trained layer. One JSON document on stdout: for each setup the bytes projected, calibrated
(on this device) and measured, and both errors as shares of what was measured.

Not covered, as it needs further packages: adamw8bit, frozen_bits and the fused loss.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from semfreeze_core.records.training import ALL_LINEAR, LoraSetup, TrainableParts, TrainingSetup

# A model of Llama's kind with 0.25 billion parameters: large enough that fixed costs do not count, small enough for any
# card.
CONFIG = {
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
# Name, freeze depth as a share of the layers, and what differs from the base setup.
SETUPS: tuple[tuple[str, float, dict[str, Any]], ...] = (
    ("float32", 0.0, {}),
    ("float32 half frozen", 0.5, {}),
    ("float32 three quarters frozen", 0.75, {}),
    ("bf16", 0.0, {"precision": "bf16"}),
    ("bf16 half frozen", 0.5, {"precision": "bf16"}),
    ("bf16 three quarters frozen", 0.75, {"precision": "bf16"}),
    ("autocast", 0.0, {"precision": "bf16-autocast"}),
    ("autocast half frozen", 0.5, {"precision": "bf16-autocast"}),
    ("bf16 sgd", 0.5, {"precision": "bf16", "optimizer": "sgd"}),
    ("bf16 non-reentrant", 0.0, {"precision": "bf16", "checkpointing": "non-reentrant"}),
    ("bf16 non-reentrant half frozen", 0.5, {"precision": "bf16", "checkpointing": "non-reentrant"}),
    ("bf16 reentrant half frozen", 0.5, {"precision": "bf16", "checkpointing": "reentrant"}),
    ("bf16 transformers-5 half frozen", 0.5, {"precision": "bf16", "checkpointing": "transformers-5"}),
    ("bf16 lora", 0.0, {"precision": "bf16", "lora": LoraSetup(16)}),
    ("bf16 lora half frozen", 0.5, {"precision": "bf16", "lora": LoraSetup(16)}),
    ("float32 lora on q and v", 0.5, {"lora": LoraSetup(16, ("q_proj", "v_proj"))}),
)


def measure(folder: Path, index: int, base: TrainingSetup) -> dict[str, Any]:
    import torch

    from semfreeze_core.cost import parts_at_depth, training_bytes
    from semfreeze_core.sources.models.activation_count import calibrate_model
    from semfreeze_core.sources.models.causal_lm import measure_empty
    from semfreeze_core.sources.models.opening import open_checkpoint

    name, share, changes = SETUPS[index]
    setup = replace(base, **changes)
    shape = measure_empty(open_checkpoint(str(folder), config_only=True))
    parts = parts_at_depth(shape, round(share * shape.n_layers), lora=setup.lora is not None)
    model = build(folder, setup)
    calibrated = calibrate_model(model, setup.precision)
    let_train(model, setup, parts)
    torch.cuda.empty_cache()
    measured = peak_of_step(model, setup)
    document: dict[str, Any] = {"name": name, "freeze_depth": parts.freeze_depth, "setup": asdict(setup)}
    for word, given in (("projected", None), ("calibrated", calibrated)):
        predicted = training_bytes(shape, setup, parts, given)
        total = predicted.total
        document[f"{word}_bytes"] = asdict(predicted) | {"total": total}
        document[f"{word}_error"] = None if total is None else (total - measured) / measured
    return document | {"measured_bytes": measured}


def build(folder: Path, setup: TrainingSetup) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM
    dtype = torch.bfloat16 if setup.precision == "bf16" else torch.float32
    with torch.device("cuda"):
        return auto.from_config(AutoConfig.from_pretrained(folder), dtype=dtype, attn_implementation="sdpa")


def let_train(model: Any, setup: TrainingSetup, parts: TrainableParts) -> None:
    """Freeze, adapt and checkpoint a Llama-like model as the setup says, with a clean boundary at the freeze depth."""
    import torch
    from peft import LoraConfig, get_peft_model

    k, layers = parts.freeze_depth, model.model.layers
    if setup.lora is not None:
        linear = [
            name.split(".")[-1] for name, module in layers[0].named_modules() if isinstance(module, torch.nn.Linear)
        ]
        names = linear if setup.lora.targets == (ALL_LINEAR,) else list(setup.lora.targets)
        chosen = list(range(k, len(layers)))
        adapters = LoraConfig(
            r=setup.lora.rank, target_modules=names, layers_to_transform=chosen, layers_pattern="layers"
        )
        get_peft_model(model, adapters)
    else:
        model.requires_grad_(False)
        layers[k:].requires_grad_(True)
        model.model.norm.requires_grad_(parts.final_norm)
        model.model.embed_tokens.requires_grad_(parts.embeddings)
        model.lm_head.requires_grad_(parts.head)
    model.train()
    if setup.checkpointing == "transformers-5":
        model.gradient_checkpointing_enable()
        return
    if setup.checkpointing != "none":
        how = {"use_reentrant": setup.checkpointing == "reentrant"}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
        model.disable_input_require_grads()
    for layer in layers[:k]:
        layer.gradient_checkpointing = False
        layer.forward = torch.no_grad()(layer.forward)
    if not parts.embeddings:
        layers[k].register_forward_pre_hook(lambda _, args: (args[0].detach().requires_grad_(True), *args[1:]))


def peak_of_step(model: Any, setup: TrainingSetup) -> int:
    """Bytes of the allocator's peak during the third step."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.SGD(trained, lr=1e-6)
    if setup.optimizer == "adamw":
        optimizer = torch.optim.AdamW(trained, lr=1e-6)
    size = (setup.batch_size, setup.sequence_length)
    tokens = torch.randint(3, model.config.vocab_size, size, device="cuda")
    for _ in range(3):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        autocast = torch.autocast("cuda", torch.bfloat16) if setup.precision == "bf16-autocast" else nullcontext()
        with autocast:
            output = model(input_ids=tokens, labels=tokens, use_cache=False)
        output.loss.backward()
        del output
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="A folder with a config.json of Llama's kind.")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--sequence-length", type=int, default=512)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)  # one setup, in a process of its own
    args = parser.parse_args()

    import torch

    if not torch.cuda.is_available():
        sys.exit(
            "training_memory.py measures CUDA's allocator, and torch sees no CUDA device here: nothing was measured."
        )
    base = TrainingSetup(
        batch_size=args.batch_size,
        sequence_length=args.sequence_length,
        loss="materialised",
        prefix_cache=False,
    )
    if args.only is not None:
        print(json.dumps(measure(args.model, args.only, base)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.model or Path(scratch)
        if args.model is None:
            (folder / "config.json").write_text(json.dumps(CONFIG))
        sizes = ["--batch-size", str(args.batch_size), "--sequence-length", str(args.sequence_length)]
        results = []
        for index in range(len(SETUPS)):
            command = [sys.executable, __file__, "--model", str(folder), "--only", str(index), *sizes]
            results.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    device = {"name": torch.cuda.get_device_name(), "torch": torch.__version__}
    print(json.dumps({"device": device, "setups": results}, indent=1))


if __name__ == "__main__":
    main()
