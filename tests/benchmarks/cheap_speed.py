"""What checkpoints, boundary states and frozen weights cost, as ratios in one run; works on a CPU and on a GPU.

    python -m tests.benchmarks.cheap_speed [--size smollm2-135m] [--batch-size 4] [--length 128] [--device cpu]

A model with random weights trains a third of its layers in bf16-autocast:
    checkpoint    seconds of one with AdamW's moments and of the weights alone, in steps of the same training
    states        bytes, and seconds to gather a batch, in float32 and in bfloat16
    frozen        bytes of the weights and seconds of a step of LoRA, with frozen matrices in float32 and in bfloat16
One JSON document on stdout.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.trainer import TRAINED, SaveLastStep, trained_tensors
from semfreeze_core.finetune.arm.training import ArmTraining
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import build_network
from semfreeze_core.finetune.prefix.cache import build_prefix_cache
from semfreeze_core.progress import silent
from tests.benchmarks.gpu_parts import Session, Variant, train, variants
from tests.benchmarks.recorded import recorded_now

ROUNDS = 20


def seconds(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class _TimedSave(SaveLastStep):
    seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **how: Any) -> None:
        super().on_step_end(args, state, control, **how)
        self._begun = time.perf_counter()

    def on_save(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self._begun


def checkpoints(session: Session, size: str, variant: Variant) -> dict[str, Any]:
    """Of one training's last step."""
    loaded = session.model(size, variant.setup.precision)
    examples = session.examples(2 * variant.setup.batch_size, variant.setup.sequence_length, loaded.shape.vocab_rows)
    network = build_network(loaded, variant.parts, variant.setup, examples, seed=0)
    training = ArmTraining(
        network, Collator(examples, network.train_cache), ArmSettings(variant.setup, 0, warmup_steps=1), 0, silent
    )
    recorder, save = training.recorder(lambda _: None, frozenset(), total=variant.setup.steps, stage=""), _TimedSave()
    with tempfile.TemporaryDirectory() as folder:
        training.fit(Arm("measured", variant.parts, None, 1e-5), Path(folder), [recorder, save])
        (whole,) = Path(folder).glob("checkpoint-*")
        size_bytes = sum(path.stat().st_size for path in whole.iterdir())
        alone = seconds(lambda: save_file(trained_tensors(network.supervised), Path(folder) / TRAINED))
        alone_bytes = (Path(folder) / TRAINED).stat().st_size
    step = statistics.median(recorder.record.step_seconds[1:])
    return {
        "step_seconds": step,
        "checkpoint_bytes": size_bytes,
        "checkpoint_in_steps": save.seconds / step,
        "weights_alone_bytes": alone_bytes,
        "weights_alone_in_steps": alone / step,
    }


def states(session: Session, size: str, variant: Variant) -> dict[str, Any]:
    """Of 64 examples."""
    loaded = session.model(size, "float32")
    batch, length = variant.setup.batch_size, variant.setup.sequence_length
    examples = session.examples(64, length, loaded.shape.vocab_rows)
    measured: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16):
        cache = build_prefix_cache(
            loaded.decoder, variant.parts.freeze_depth, examples,
            key_base="measured", memory_limit_bytes=2**40, compute_dtype=dtype,
        )  # fmt: skip
        gathered = [seconds(lambda cache=cache: cache.padded_states(range(batch))) for _ in range(ROUNDS)]
        name = str(dtype).removeprefix("torch.")
        measured[name] = {"bytes": cache.bytes, "gather_seconds": statistics.median(gathered)}
    rough, precise = measured["bfloat16"], measured["float32"]
    measured["ratio"] = {name: rough[name] / precise[name] for name in rough}
    return measured


def frozen(session: Session, size: str, variant: Variant) -> dict[str, Any]:
    """Of LoRA on all layers."""
    measured: dict[str, Any] = {}
    for name in ("float32", "bfloat16"):
        weights: list[int] = []

        def prepare(network: Any, name: str = name, weights: list[int] = weights) -> None:
            if name == "float32":
                network.frozen.release()
            weights.append(sum(parameter.nbytes for parameter in network.tuned.parameters()))

        step = train(session.model(size, variant.setup.precision), session, variant, prepare)["step_seconds"]
        measured[name] = {"weights_bytes": weights[0], "step_seconds": step}
    measured["ratio"] = {n: measured["bfloat16"][n] / measured["float32"][n] for n in measured["float32"]}
    return measured


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="smollm2-135m")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    session = Session(asked.device, tiny=False)
    setup = session.setup(batch_size=asked.batch_size, sequence_length=asked.length, steps=asked.steps)
    ways = variants(session.model(asked.size, setup.precision), setup)
    print(
        json.dumps(
            {
                "recorded": recorded_now(),
                "asked": vars(asked),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "checkpoint": checkpoints(session, asked.size, ways["cached"]),
                "states": states(session, asked.size, ways["cached"]),
                "frozen": frozen(session, asked.size, ways["LoRA"]),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
