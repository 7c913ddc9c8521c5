"""Batches, losses and training steps of tiny models, from token ids and from boundary states, for comparison."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from semfreeze_core.finetune.prefix.cache import PrefixCache, build_prefix_cache
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.training import TrainableParts
from semfreeze_core.sources.models.decoder import Decoder, find_decoder
from tests.core.semantics.tiny_examples import random_examples
from tests.core.tiny_models import build_tiny, set_trainable

N_LAYERS = 4
EXAMPLES = random_examples(12, seed=0)
STATES_BYTES = 32 * 4 * sum(len(example.input_ids) for example in EXAMPLES)
IN_MEMORY = {"key_base": "tiny", "memory_limit_bytes": 2**30}
# Five batches of four different lengths, drawn anew as epochs do.
BATCHES = [np.random.default_rng(seed).choice(12, 4, replace=False).tolist() for seed in range(5)]

HeadInput = Callable[[Sequence[int]], Tensor]


def frozen_decoder(family: str = "llama", k: int = 2, **how: object) -> Decoder:
    """A tiny model with its embedding and k layers frozen, the rest trained."""
    dtype = how.pop("dtype", torch.float32)
    decoder = find_decoder(build_tiny(family, **how).to(dtype))
    set_trainable(decoder.model, trained_from(k))
    return decoder


def trained_from(k: int) -> TrainableParts:
    return TrainableParts(tuple(i >= k for i in range(N_LAYERS)), embeddings=False, final_norm=True, head=False)


def tiny_cache(decoder: Decoder, k: int, **how: object) -> PrefixCache:
    """The boundary states of EXAMPLES, in memory unless told otherwise."""
    return build_prefix_cache(decoder, k, EXAMPLES, **{**IN_MEMORY, **how})


def filed(decoder: Decoder, folder: Path, k: int = 2, **how: object) -> PrefixCache:
    """The same in files below `folder`."""
    return tiny_cache(decoder, k, **{"folder": folder, "memory_limit_bytes": 0, **how})


def shards(folder: Path) -> list[Path]:
    """The files that hold the states of all caches below `folder`."""
    return sorted(folder.glob("*/*.safetensors"))


def assert_same_states(cache: PrefixCache, expected: PrefixCache) -> None:
    """Both caches of EXAMPLES hold the same up to rounding."""
    for one, other in zip(cache.batch(range(12)), expected.batch(range(12)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def token_batch(indices: Sequence[int], examples: Sequence[TokenizedExample] = EXAMPLES) -> tuple[Tensor, Tensor]:
    """Right-padded ids and attention mask (B, T)."""
    chosen = [torch.from_numpy(examples[i].input_ids) for i in indices]
    ids = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in chosen], batch_first=True)
    return ids, mask


def from_tokens(decoder: Decoder) -> HeadInput:
    """What the head reads when the whole model runs."""

    def run(indices: Sequence[int]) -> Tensor:
        ids, mask = token_batch(indices)
        return decoder.base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state

    return run


def loss_of(decoder: Decoder, head_input: Tensor, indices: Sequence[int]) -> Tensor:
    """Mean cross-entropy at supervised positions; in float64 from the logits on, so that only the model rounds."""
    supervised = [EXAMPLES[i].supervised for i in indices]
    predicting = torch.cat([row[np.flatnonzero(s) - 1] for row, s in zip(head_input, supervised, strict=True)])
    labels = np.concatenate([EXAMPLES[i].input_ids[s] for i, s in zip(indices, supervised, strict=True)])
    return torch.nn.functional.cross_entropy(decoder.logits(predicting).double(), torch.from_numpy(labels))


def train(decoder: Decoder, head_input: HeadInput, *, rate: float = 1e-3) -> list[float]:
    """Losses of five AdamW steps."""
    optimizer = torch.optim.AdamW([p for p in decoder.model.parameters() if p.requires_grad], lr=rate)
    losses = []
    for indices in BATCHES:
        loss = loss_of(decoder, head_input(indices), indices)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
