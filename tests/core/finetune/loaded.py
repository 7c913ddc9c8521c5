"""Tiny models loaded as a user loads one, and a small task to train them on."""

from pathlib import Path

import numpy as np

from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.models.causal_lm import LoadedModel, load_causal_lm
from tests.core.saved_models import save_tiny


def load_tiny(folder: Path, family: str = "llama", **sizes: object) -> LoadedModel:
    """A tiny model from a folder, in float32 on the CPU."""
    if not folder.exists():
        save_tiny(folder, family, **sizes)
    return load_causal_lm(str(folder), dtype="float32", device="cpu")


def task_examples(n: int, *, seed: int = 0, vocab: int = 97) -> tuple[TokenizedExample, ...]:
    """Examples of different lengths whose last two tokens, supervised, follow from the first."""
    rng = np.random.default_rng(seed)
    made = []
    for row in range(n):
        prompt = rng.integers(5, vocab, size=rng.integers(3, 9))
        answer = [3 + prompt[0] % 2, 4]
        ids = np.concatenate([prompt, answer]).astype(np.int64)
        supervised = np.zeros(len(ids), dtype=bool)
        supervised[-2:] = True
        made.append(TokenizedExample(ids, supervised, None, row))
    return tuple(made)
