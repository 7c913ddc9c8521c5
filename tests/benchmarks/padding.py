"""How much of a batch is padding: random batches beside those of examples of like length, and what that saves.

`python -m tests.benchmarks.padding --data FOLDER [--model M] [--examples N]` reads each NAME_train.jsonl of a folder
with the model's tokenizer and writes tests/benchmarks/results/padding.json: tokens with padding as a multiple of those
without, and the FLOPs of a step of full finetuning on batches by length as a share of those on random ones. Nothing is
trained. `python -m tests.benchmarks.benchmarks_page` writes it into docs/benchmarks.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from semfreeze_core.cost import parts_at_depth, step_flop
from semfreeze_core.cost.setup import padded_length
from semfreeze_core.finetune.model.task_data import read_task_data
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import Batches, TrainingSetup
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.storage import write_atomically
from tests.benchmarks.recorded import recorded_now

RESULTS = Path(__file__).parent / "results" / "padding.json"
BATCH_SIZES, LONGEST = (4, 8, 16), 512
KINDS: tuple[Batches, Batches] = ("random", "by-length")


def main() -> None:
    """Write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--examples", type=int, default=640)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    loaded = load_causal_lm(asked.model)
    tasks: dict[str, Any] = {}
    for path in sorted(asked.data.glob("*_train.jsonl")):
        task = path.name.removesuffix("_train.jsonl")
        data = read_task_data(
            str(path), str(path.with_name(f"{task}_eval.jsonl")), loaded.tokenizer, mapping=FieldMapping(),
            n_train=asked.examples, n_eval=1, max_length=LONGEST,
        )  # fmt: skip
        lengths = [len(example.input_ids) for example in data.train.tokenized]
        tasks[task] = {"examples": len(lengths), "mean_tokens": float(np.mean(lengths)), "batches": {}}
        for size in BATCH_SIZES:
            tasks[task]["batches"][str(size)] = _padding(loaded.shape, lengths, size)
    document = {"recorded": recorded_now(), "model": asked.model, "tasks": tasks}
    write_atomically(asked.out, json.dumps(document, indent=1) + "\n")


def _padding(shape: ModelShape, lengths: list[int], size: int) -> dict[str, float]:
    """Tokens with padding over those without, by kind of batch, and the FLOPs of batches by length over random ones."""
    padded = {kind: padded_length(lengths, size, kind) for kind in KINDS}
    setups = [TrainingSetup(batch_size=size, sequence_length=n, loss="materialised") for n in padded.values()]
    random, by_length = (step_flop(shape, setup, parts_at_depth(shape, 0)).total for setup in setups)
    mean = float(np.mean(lengths))
    return {**{kind: length / mean for kind, length in padded.items()}, "flop_share": by_length / random}


if __name__ == "__main__":
    main()
