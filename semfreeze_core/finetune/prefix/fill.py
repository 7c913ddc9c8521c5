"""Computing boundary states: which examples share a pass, in what precision, and from where the pass starts."""

import functools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semfreeze_core.device import is_out_of_memory
from semfreeze_core.finetune.prefix.forward import boundary_states, evaluating
from semfreeze_core.finetune.prefix.store import STAGE, CacheUnavailable, ShardFolder
from semfreeze_core.finetune.prefix.suffix import Suffix
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.models.by_layer import (
    StateReader,
    StatesDiffer,
    between_layers_bytes,
    memory_for_states,
    pass_by_layer,
)
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.probe import probe_ids

# States of one file: small enough that a killed run loses little, large enough that files are few. A slow model's are
# written after some seconds.
SHARD_BYTES, SHARD_SECONDS = 64 * 2**20, 20.0

# Mean cosine between boundary states in the model's own and in a lower precision on the probe, as for loading a model.
_AGREEMENT = 0.999


def agreed_dtype(decoder: Decoder, k: int, requested: torch.dtype | None, progress: Progress) -> torch.dtype:
    """The prefix's dtype: the lower precision requested where it agrees with the model's on a probe, else the model's.

    Raises:
        ValueError: a dtype that neither is the model's own nor can stand in for float32.
    """
    model_dtype = decoder.dtype
    if requested is None or requested == model_dtype:
        return model_dtype
    if model_dtype != torch.float32 or requested not in (torch.bfloat16, torch.float16):
        raise ValueError(f"the prefix of a model in {model_dtype} cannot be computed in {requested}")
    ids = probe_ids(decoder.model)
    precise, rough = (_run(decoder, k, ids, dtype).to(dtype).cpu().double() for dtype in (model_dtype, requested))
    agreement = float(torch.cosine_similarity(precise, rough, dim=-1).mean())
    agrees = agreement >= _AGREEMENT
    chosen = requested if agrees else model_dtype
    message = (
        f"Boundary states are computed and stored in {_name(chosen)}: the mean cosine of {_name(requested)} and "
        f"{_name(model_dtype)} on a probe is {agreement:.4f}, {'' if agrees else 'not '}at least {_AGREEMENT}."
    )
    progress(ProgressEvent(STAGE, message=message))
    return chosen


def compute_states(
    decoder: Decoder,
    k: int,
    samples: Mapping[str, TokenizedExample],
    *,
    dtype: torch.dtype,
    batch_tokens: int,
    start: tuple[int, Callable[[Sequence[str]], Tensor]] | None,
    progress: Progress,
) -> Generator[tuple[str, Tensor], None, None]:
    """Yield each sample's digest and boundary states (T, d), in `dtype` on the CPU; longest samples first.

    Close it when not all are taken: with a start, the model's calls are replaced until then.

    Args:
        decoder: the model.
        k: freeze depth of the states.
        samples: by digest.
        dtype: to compute and store in; lower than the model's own under autocast.
        batch_tokens: tokens of a pass, padding included.
        start: a lower depth and a function that returns its padded states (B, T, d); None to start from the embedding.
            Where layers are kept off the device, only a single batch starts there: for several, all layers from the
            embedding on come in once each, which is less to read than those from there on for every batch.
        progress: receives tokens done.

    Raises:
        CacheUnavailable: a pass does not fit into the device's memory.
    """
    batches = list(_batches({sample: len(example.input_ids) for sample, example in samples.items()}, batch_tokens))
    by_layer = bool(decoder.probe_spaces) and (start is None or len(batches) > 1)
    start = None if by_layer else start
    with ExitStack() as stack:
        suffix = stack.enter_context(Suffix(decoder, start[0])) if start else None
        fill = _Fill(decoder, k, samples, dtype, None if start is None else start[1], suffix)
        done, total = 0, fill.tokens(samples)

        def advance(tokens: int, layers: int) -> None:
            progress(ProgressEvent(STAGE, done + tokens * layers // k, total, "tokens"))

        for batch, batch_states in fill.by_layer(batches, advance) if by_layer else fill.in_whole_passes(batches):
            states = batch_states.to("cpu", dtype)
            done += fill.tokens(batch)
            for row, sample in zip(states, batch, strict=True):
                yield sample, row[: fill.tokens([sample])]
            progress(ProgressEvent(STAGE, done, total, "tokens"))


_ComputedBatches = Iterator[tuple[list[str], Tensor]]


@dataclass(frozen=True)
class _Fill:
    """Boundary states on their way; batches are digests of samples, the longest first.

    Attributes:
        decoder, k, samples, dtype: as `compute_states` takes them.
        lower_states: returns a batch's padded states at a lower depth, or None to start from the embedding.
        suffix: of that depth, installed; or None.
    """

    decoder: Decoder
    k: int
    samples: Mapping[str, TokenizedExample]
    dtype: torch.dtype
    lower_states: Callable[[Sequence[str]], Tensor] | None
    suffix: Suffix | None

    def tokens(self, batch: Iterable[str]) -> int:
        """Tokens of a batch, padding not counted."""
        return sum(len(self.samples[sample].input_ids) for sample in batch)

    def ids(self, batch: Sequence[str]) -> npt.NDArray[np.int64]:
        """Padded tokens (B, T)."""
        return _padded([self.samples[sample].input_ids for sample in batch])

    def in_whole_passes(self, batches: Iterable[list[str]]) -> _ComputedBatches:
        """Each batch with its boundary states, from a pass of its own."""
        for batch in batches:
            with self._clear_memory_errors(batch):
                given = torch.from_numpy(self.ids(batch)) if self.lower_states is None else self.lower_states(batch)
                states = _run(self.decoder, self.k, given, self.dtype, self.suffix)
            yield batch, states

    def by_layer(self, batches: Sequence[list[str]], advance: Callable[[int, int], None]) -> _ComputedBatches:
        """The same where layers are kept off the device: each comes in once for as many batches as memory has room for.

        Args:
            batches: samples of each.
            advance: receives the tokens that pass the layers together, and the number of layers passed.
        """
        left = list(batches)
        while left:
            group = left[: self._group_size(left)]
            left = left[len(group) :]
            reached: dict[int, Tensor] = {}
            readers = [(self.ids(batch), self._reader(number, reached)) for number, batch in enumerate(group)]
            tokens = sum(map(self.tokens, group))
            try:
                with self._clear_memory_errors(group[0]), torch.no_grad(), evaluating(self.decoder.model):
                    pass_by_layer(
                        self.decoder, readers, self.k, "memory",
                        context=lambda: _autocast(self.decoder, self.dtype), advance=functools.partial(advance, tokens),
                    )  # fmt: skip
            except StatesDiffer:
                yield from self.in_whole_passes([*group, *left])
                return
            for number, batch in enumerate(group):
                yield batch, reached.pop(number)

    def _reader(self, number: int, reached: dict[int, Tensor]) -> StateReader:
        def read(space: int, state: Tensor) -> None:
            if space == self.k:
                reached[number] = state.to("cpu", self.dtype)

        return read

    def _group_size(self, batches: Sequence[list[str]]) -> int:
        """How many batches, the first ones, memory holds the states between two layers of; at least one."""
        room, width = memory_for_states(), self.decoder.probe_spaces[0].shape[-1]
        for count, batch in enumerate(batches):
            room -= between_layers_bytes(len(batch) * self.tokens(batch[:1]), width, self.decoder.dtype)
            if room < 0:
                return max(1, count)
        return len(batches)

    @contextmanager
    def _clear_memory_errors(self, batch: Sequence[str]) -> Iterator[None]:
        """Report what does not fit, where memory runs out on a batch or on one no larger."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size = f"{len(batch)} x {self.tokens(batch[:1])} tokens"
            raise CacheUnavailable(
                f"Boundary states of {size} do not fit into {self.decoder.device}'s memory."
            ) from error


def fill_shards(shards: ShardFolder, states: Iterable[tuple[str, Tensor]]) -> None:
    """Write states as they come, many per file.

    Raises:
        CacheUnavailable: as writing and computing do.
    """
    waiting: dict[str, Tensor] = {}
    since = time.monotonic()
    for sample, rows in states:
        waiting[sample] = rows
        if sum(r.nbytes for r in waiting.values()) >= SHARD_BYTES or time.monotonic() - since >= SHARD_SECONDS:
            shards.write(waiting)
            waiting, since = {}, time.monotonic()
    if waiting:
        shards.write(waiting)


def _run(decoder: Decoder, k: int, given: Tensor, dtype: torch.dtype, suffix: Suffix | None = None) -> Tensor:
    """Boundary states (B, T, d) at depth k of padded token ids (B, T), or with a suffix of padded states below k.

    They have the dtype of the residual stream, which under autocast is the model's.

    Attention is causal, so padding on the right changes no token's state and needs no mask.
    """
    given = given.to(decoder.device)
    with evaluating(decoder.model), _autocast(decoder, dtype):
        if suffix is not None:
            return boundary_states(decoder, k, lambda: suffix(given))
        return boundary_states(decoder, k, lambda: decoder.base(input_ids=given, use_cache=False))


def _autocast(decoder: Decoder, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """What the prefix computes in, where that is lower than the model's own dtype."""
    return torch.autocast(decoder.device.type, dtype, enabled=dtype != decoder.dtype)


def _batches(lengths: Mapping[str, int], most_tokens: int) -> Iterator[list[str]]:
    """Samples of similar length in batches whose padded size stays within the limit; a longer one goes alone.

    Longest first, so that running out of memory shows at once.
    """
    batch: list[str] = []
    for sample in sorted(lengths, key=lambda s: lengths[s], reverse=True):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most_tokens:
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def _padded(rows: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    ids = np.full((len(rows), max(map(len, rows))), rows[0][0])  # any valid id will do
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
