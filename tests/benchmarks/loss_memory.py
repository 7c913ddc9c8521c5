"""Peak memory and time of a training step by how its loss is computed, on this machine's CPU.

`python -m tests.benchmarks.loss_memory [--model M] [--batch-size N] [--length T] [--depth K] [--steps N]` trains the
layers above the depth on random token ids, half of them targets, each loss in a process of its own. It prints for
each the highest resident size above the loaded model's, what is estimated of it, and the median seconds of a step.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import psutil
import torch

from semfreeze_core.cost import parts_at_depth, training_bytes
from semfreeze_core.finetune.freezing.freeze import freeze
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.training import LossKind, TrainingSetup
from semfreeze_core.sources.models.causal_lm import load_causal_lm

LOSSES: tuple[LossKind, ...] = ("materialised", "supervised-only", "chunked")


def measure(loss: LossKind, model: str, batch_size: int, length: int, depth: int, steps: int) -> dict[str, float]:
    """Peak bytes and seconds of one loss."""
    loaded = load_causal_lm(model, dtype="float32", device="cpu")
    rng = np.random.default_rng(0)
    targets = np.arange(length) >= length // 2
    examples = [TokenizedExample(rng.integers(10, 1000, length), targets, None, 0) for _ in range(batch_size)]
    batch = Collator(examples)(range(batch_size))
    parts = parts_at_depth(loaded.shape, depth)
    setup = TrainingSetup(batch_size, length, float(targets[1:].mean()), loss=loss, prefix_cache=False)
    network = SupervisedModel(loaded.decoder.model, loaded.decoder, loss=loss).train()
    before, seconds = psutil.Process().memory_info().rss, []
    with freeze(loaded.decoder.model, parts):
        for _ in range(steps):
            begun = time.perf_counter()
            network(**batch)["loss"].backward()
            seconds.append(time.perf_counter() - begun)
            network.zero_grad()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    estimated = training_bytes(loaded.shape, setup, parts)
    return {
        "peak_bytes": peak - before,
        "estimated_bytes": estimated.logits + (estimated.activations or 0) + estimated.gradients,
        "step_seconds": statistics.median(seconds),
    }


def main() -> None:
    """Measure each loss in its own process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--loss", choices=LOSSES)
    asked = vars(parser.parse_args())
    if loss := asked.pop("loss"):
        torch.set_num_threads(1)
        print(json.dumps(measure(loss, **asked)))
        return
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in asked.items()]
    for loss in LOSSES:
        command = [sys.executable, "-m", "tests.benchmarks.loss_memory", *flags, "--loss", loss]
        measured = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
        print(
            f"{loss}: {measured['peak_bytes'] / 2**30:.2f} GiB above the model, "
            f"estimated {measured['estimated_bytes'] / 2**30:.2f} GiB, {measured['step_seconds']:.2f} s a step"
        )


if __name__ == "__main__":
    main()
