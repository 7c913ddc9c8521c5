"""A tiny model on disk, a task it can learn a little of, and a plan for it."""

import json
from pathlib import Path

import numpy as np

from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.training import DepthSwitch, FrozenBits, LoraSetup, TrainingSetup
from semfreeze_core.sources.models.causal_lm import LoadedModel
from tests.core.finetune.loaded import load_tiny
from tests.core.finetune.plans import plan_of


def write_task(path: Path, n: int, *, seed: int = 0) -> Path:
    """A task file whose completion follows from one word of the prompt."""
    rng = np.random.default_rng(seed)
    answers = {"card": " pay", "robe": " wear", "fiber": " weave"}
    rows = []
    for _ in range(n):
        word = str(rng.choice(list(answers)))
        filler = " ".join(rng.choice(["my", "blue", "white", "top", "half"], size=rng.integers(1, 5)))
        rows.append({"prompt": f"{filler} {word}?", "completion": answers[word]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_tiny_plan(
    folder: Path,
    depth: int | None = 2,
    *,
    lora: LoraSetup | None = None,
    frozen_bits: FrozenBits | None = None,
    switch: DepthSwitch | None = None,
    **sizes: object,
) -> tuple[FreezePlan, LoadedModel]:
    """A plan for the tiny Llama in `folder` (made when it is not there); one that abstains without a depth."""
    loaded = load_tiny(folder, **sizes)
    setup = TrainingSetup(sequence_length=16, lora=lora, frozen_bits=frozen_bits)
    plan = plan_of(loaded.decoder.model, depth, setup=setup, switch=switch)
    return plan.model_copy(update={"model": loaded.identity}), loaded
