"""Boundary states computed once per example and stored, so that training starts at the freeze depth.

With the embedding and layers 0..k-1 frozen and in eval mode, the raw input of layer k depends on the example's tokens
alone. An example's states are stored by the digest of its tokens, under a key of everything else they depend on.

Source: AutoFreeze (Liu et al. 2021, https://arxiv.org/abs/2102.01386) caches the activations of BERT's frozen layers.
Here they are stored by sample, not by batch, so that every epoch may draw new batches.
"""

import time
from collections.abc import Callable, Container, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from semfreeze_core.device import make_current
from semfreeze_core.finetune.prefix.fill import agreed_dtype, compute_states, fill_shards
from semfreeze_core.finetune.prefix.forward import check_depth
from semfreeze_core.finetune.prefix.key import cache_key, sample_digest
from semfreeze_core.finetune.prefix.store import STAGE, CacheUnavailable, make_room, open_cache
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.wording.numbers import byte_size

Where = Literal["memory", "file"]


@dataclass(frozen=True, eq=False)
class PrefixCache:
    """The boundary states of a sequence of examples.

    Attributes:
        k: freeze depth; the states are the raw input of layer k.
        key: digest of all that the states depend on besides the tokens.
        samples: digest of each example's tokens, in order; equal examples share their states.
        computed_in: what the prefix computed in, and the dtype of the states.
        where: in memory, or in memory-mapped files.
        bytes: of the states of these examples.
        seconds: wall time of building it.
        hits: distinct samples whose states were on disk.
        device: where batches go.
        states: (T, d) of each sample, by its digest, on the CPU.
    """

    k: int
    key: str
    samples: tuple[str, ...]
    computed_in: torch.dtype
    where: Where
    bytes: int
    seconds: float
    hits: int
    device: torch.device
    states: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.samples)

    def indexed_as(self, examples: Sequence[TokenizedExample]) -> "PrefixCache":
        """The same states by the indices of examples of which this cache has only some."""
        return replace(self, samples=tuple(sample_digest(example) for example in examples))

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The padded states (B, T, d) of these examples, and their mask, int64 (B, T)."""
        states = self.padded_states(indices)
        lengths = torch.tensor([len(self.states[self.samples[i]]) for i in indices])
        mask = (torch.arange(states.shape[1]) < lengths[:, None]).long()
        return states, mask.to(self.device)

    def padded_states(self, indices: Sequence[int]) -> Tensor:
        """States (B, T, d) of these examples on the device, zeros to the right of shorter ones."""
        return self.padded([self.samples[i] for i in indices])

    def padded(self, samples: Sequence[str]) -> Tensor:
        """What `padded_states` gives, of samples by their digest."""
        rows = [self.states[sample] for sample in samples]
        longest, width = max(map(len, rows)), rows[0].shape[1]
        make_current(self.device)  # a thread that gathers begins with the first GPU
        pinned = self.device.type == "cuda"  # the copy then waits for nothing
        states = torch.zeros(len(rows), longest, width, dtype=rows[0].dtype, pin_memory=pinned)
        for i, row in enumerate(rows):
            states[i, : len(row)] = row
        return states.to(self.device, non_blocking=True)


def build_prefix_cache(
    decoder: Decoder,
    k: int,
    examples: Sequence[TokenizedExample],
    *,
    key_base: dict[str, Any] | str,
    memory_limit_bytes: int,
    disk_limit_bytes: int | None = None,
    folder: Path | None = None,
    compute_dtype: torch.dtype | None = None,
    batch_tokens: int = 4096,
    start: PrefixCache | None = None,
    keep: bool = False,
    weights: Callable[[int], str] | None = None,
    progress: Progress = silent,
) -> PrefixCache:
    """Compute the boundary states of all examples, or load those that an earlier run stored.

    Args:
        decoder: the model; its prefix runs in eval mode whatever its mode, and its mode is restored.
        k: freeze depth, 1..L.
        examples: one or more; token ids alone matter.
        key_base: the model's structure; part of the key, with digests of the prefix's weights and of the config.
        memory_limit_bytes: states up to this size go to memory, larger ones to files.
        disk_limit_bytes: of all caches in `folder` together; older ones make room. None for the free disk space.
        folder: of all caches; None to store nothing on disk.
        compute_dtype: bfloat16 lets a float32 model's prefix run under autocast if it agrees with float32 on a probe;
            else, and by default, it runs in the model's own dtype. States are stored in the same: the layers above read
            them in the model's own dtype, with the rounding that every product under autocast has.
        batch_tokens: tokens of one forward pass, padding included.
        start: a cache of the same model and tokens at a lower depth, to start from instead of the embedding.
        keep: write states to the folder for others, even those that memory holds.
        weights: the digest of the prefix's weights by depth, where it is known; else it is computed.
        progress: receives tokens done, and decisions as messages.

    Raises:
        CacheUnavailable: no room in memory or on disk, a `start` that does not fit, or a pass that does not fit into
            the device's memory; training can run uncached.
        ValueError: k is not in 1..L, there are no examples, or a dtype the model cannot compute in.
    """
    begun = time.perf_counter()
    check_depth(decoder, k)
    if not examples:
        raise ValueError("a prefix cache needs examples")
    computed_in = agreed_dtype(decoder, k, compute_dtype, progress)

    def key_of(depth: int) -> str:
        return cache_key(decoder, depth, key_base, computed_in, None if weights is None else weights(depth))

    key = key_of(k)
    order = tuple(sample_digest(example) for example in examples)
    samples = dict(zip(order, examples, strict=True))
    if start is not None:
        fits = start.k < k and start.key == key_of(start.k)
        if not (fits and samples.keys() <= start.states.keys()):
            raise CacheUnavailable(
                f"Depth {k} cannot start from a cache of another model, data or depth (its depth is {start.k})."
            )
    token_bytes: int = decoder.model.config.get_text_config(decoder=True).hidden_size * computed_in.itemsize

    def bytes_without(stored: Container[str]) -> int:
        return token_bytes * sum(len(e.input_ids) for sample, e in samples.items() if sample not in stored)

    def compute_without(stored: Container[str]) -> closing[Generator[tuple[str, Tensor], None, None]]:
        missing = {sample: example for sample, example in samples.items() if sample not in stored}
        lower = None if start is None else (start.k, start.padded)
        return closing(
            compute_states(
                decoder, k, missing, dtype=computed_in, batch_tokens=batch_tokens, start=lower, progress=progress
            )
        )

    size = bytes_without(())
    in_memory = size <= memory_limit_bytes
    if folder is None and not in_memory:
        limit = f"the memory limit is {byte_size(memory_limit_bytes)}, and there is no folder for them"
        raise CacheUnavailable(f"The boundary states take {byte_size(size)}, {limit}.")
    states: dict[str, Tensor] = {}
    hits = 0
    if folder is not None and (keep or not in_memory or (folder / key).exists()):
        try:
            with open_cache(folder, key, progress) as shards:
                unused = shards.read(samples)
                hits = len(samples.keys() & shards.states.keys())
                missing_bytes = bytes_without(shards.states)
                if missing_bytes and (keep or not in_memory):
                    make_room(shards.folder, unused, missing_bytes, disk_limit_bytes, progress)
                    with compute_without(shards.states) as computed:
                        fill_shards(shards, computed)
                states = {sample: rows for sample, rows in shards.states.items() if sample in samples}
        except CacheUnavailable as reason:
            if not in_memory:
                raise
            progress(ProgressEvent(STAGE, message=f"{reason} The states are held in memory, for this run only."))
    if in_memory:
        with compute_without(states) as computed:
            states = {sample: rows.clone() for sample, rows in chain(states.items(), computed)}
    where: Where = "memory" if in_memory else "file"
    seconds = time.perf_counter() - begun
    return PrefixCache(k, key, order, computed_in, where, size, seconds, hits, decoder.device, states)
