"""Computing boundary states: which examples share a pass, in what precision, and from where the pass starts."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

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
        progress: receives tokens done.

    Raises:
        CacheUnavailable: a pass does not fit into the device's memory.
    """
    lengths = {sample: len(example.input_ids) for sample, example in samples.items()}
    done, total = 0, sum(lengths.values())
    with ExitStack() as stack:
        suffix = stack.enter_context(Suffix(decoder, start[0])) if start else None
        for batch in _batches(lengths, batch_tokens):
            if start and suffix:
                given = start[1](batch)
            else:
                given = torch.from_numpy(_padded([samples[sample].input_ids for sample in batch]))
            try:
                states = _run(decoder, k, given, dtype, suffix)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                size = f"{len(batch)} x {lengths[batch[0]]} tokens"
                raise CacheUnavailable(
                    f"Boundary states of {size} do not fit into {decoder.device}'s memory."
                ) from error
            states = states.to("cpu", dtype)
            done += sum(lengths[sample] for sample in batch)
            for row, sample in zip(states, batch, strict=True):
                yield sample, row[: lengths[sample]]
            progress(ProgressEvent(STAGE, done, total, "tokens"))


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
    lower = torch.autocast(decoder.device.type, dtype, enabled=dtype != decoder.dtype)
    with evaluating(decoder.model), lower:
        if suffix is not None:
            return boundary_states(decoder, k, lambda: suffix(given))
        return boundary_states(decoder, k, lambda: decoder.base(input_ids=given, use_cache=False))


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
