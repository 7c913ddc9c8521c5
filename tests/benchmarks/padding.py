"""How much of a batch is padding: random batches beside those of examples of like length, and what that saves.

`python -m tests.benchmarks.padding --data FOLDER [--model M] [--examples N]` reads each NAME_train.jsonl of a folder
with the model's tokenizer and prints a Markdown table: tokens with padding as a multiple of those without, and the
FLOPs of a step of full finetuning on batches by length as a share of those on random ones. Nothing is trained.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from semfreeze_core.cost import parts_at_depth, step_flop
from semfreeze_core.cost.setup import padded_length
from semfreeze_core.finetune.model.task_data import read_task_data
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.training import Batches, TrainingSetup
from semfreeze_core.sources.models.causal_lm import load_causal_lm

BATCH_SIZES, LONGEST = (4, 8, 16), 512
KINDS: tuple[Batches, Batches] = ("random", "by-length")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--examples", type=int, default=640)
    asked = parser.parse_args()
    loaded = load_causal_lm(asked.model)
    print(
        "| task | examples | mean tokens |" + "".join(f" batch of {n}: random, by length, FLOPs |" for n in BATCH_SIZES)
    )
    print("|---|---|---|" + "---|" * len(BATCH_SIZES))
    for path in sorted(asked.data.glob("*_train.jsonl")):
        task = path.name.removesuffix("_train.jsonl")
        data = read_task_data(
            str(path), str(path.with_name(f"{task}_eval.jsonl")), loaded.tokenizer, mapping=FieldMapping(),
            n_train=asked.examples, n_eval=1, max_length=LONGEST,
        )  # fmt: skip
        lengths = [len(example.input_ids) for example in data.train.tokenized]
        cells = []
        for size in BATCH_SIZES:
            random, by_length = (padded_length(lengths, size, kind) for kind in KINDS)
            setups = [TrainingSetup(batch_size=size, sequence_length=length) for length in (random, by_length)]
            flop = [step_flop(loaded.shape, replace(s, loss="materialised"), parts_at_depth(loaded.shape, 0)).total
                    for s in setups]  # fmt: skip
            mean = float(np.mean(lengths))
            cells.append(f" {random / mean:.2f}, {by_length / mean:.2f}, {100 * flop[1] / flop[0]:.0f} % |")
        print(f"| {task} | {len(lengths)} | {np.mean(lengths):.0f} |{''.join(cells)}")


if __name__ == "__main__":
    main()
