"""Forward passes that stream the latent spaces of supervised positions to readers; no statistics, no logits."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from semfreeze_core.device import PeakMemory, has_own_memory, is_out_of_memory, release_unused_memory, synchronize
from semfreeze_core.errors import ResourceError
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.manifest import ExtractionEntry
from semfreeze_core.semantics.by_layer import SpaceReader, read_by_layer, reads_by_layer
from semfreeze_core.semantics.positions import Batch, Positions, length_buckets, make_batch
from semfreeze_core.sources.models.by_layer import StatesDiffer, StatesIn
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.probe import hidden_state, layer_input

# Tokens of one forward pass, padding included. On a CPU larger batches only leave the caches; on a GPU smaller ones
# leave it idle.
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 1024, 16384

_Reader = TypeVar("_Reader", bound=SpaceReader)


@dataclass
class ExtractionTally:
    """What a stream of forward passes amounted to so far.

    Attributes:
        seconds: wall time inside the passes and their readers.
        tokens: tokens read, padding not counted.
        halvings: times a batch was halved because memory ran out.
        by_layer: whether all batches passed through one layer after the other.
    """

    seconds: float = 0.0
    tokens: int = 0
    halvings: int = 0
    by_layer: bool = False

    @classmethod
    def of_all(cls, tallies: Sequence["ExtractionTally"]) -> "ExtractionTally":
        """What several processes did at the same time; the seconds are those of the slowest."""
        return cls(
            max(tally.seconds for tally in tallies),
            sum(tally.tokens for tally in tallies),
            sum(tally.halvings for tally in tallies),
            any(tally.by_layer for tally in tallies),
        )


def extraction_entry(tally: ExtractionTally, null_tally: ExtractionTally, peak: PeakMemory) -> ExtractionEntry:
    """What the analysis and the task null took so far, for the run's manifest."""
    return ExtractionEntry(
        seconds=tally.seconds,
        tokens=tally.tokens,
        tokens_per_second=tally.tokens / tally.seconds,
        task_null_seconds=null_tally.seconds,
        task_null_tokens=null_tally.tokens,
        peak_bytes=peak.read(),
        peak_kind="cuda allocator" if peak.is_allocator else "process resident",
        batch_halvings=tally.halvings + null_tally.halvings,
    )


@torch.inference_mode()
def read_batch(decoder: Decoder, batch: Batch, read: SpaceReader) -> None:
    """One forward pass of the model without its head, handing `read` the raw states of each space's positions.

    The hooks gather the wanted rows while the pass runs, so no more than one space's states live at a time and
    nothing waits for the device.
    """
    device = decoder.device
    rows = torch.from_numpy(batch.rows).to(device, non_blocking=True)
    columns = torch.from_numpy(batch.columns).to(device, non_blocking=True)

    def on_input(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read(0, layer_input(args, kwargs)[rows, columns])

    def on_output(space: int) -> Callable[..., None]:
        def hook(_: Any, __: Any, output: Any) -> None:  # what a hook returns would replace the layer's output
            read(space, hidden_state(output)[rows, columns])

        return hook

    handles = [decoder.layers[0].register_forward_pre_hook(on_input, with_kwargs=True)]
    handles += [layer.register_forward_hook(on_output(i + 1)) for i, layer in enumerate(decoder.layers)]
    try:
        decoder.base(input_ids=torch.from_numpy(batch.input_ids).to(device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()


def stream_batches(
    decoder: Decoder,
    examples: Sequence[TokenizedExample],
    positions: Sequence[Positions],
    start: Callable[[Batch], _Reader],
    tally: ExtractionTally,
    *,
    stage: str,
    chosen: Sequence[int] | None = None,
    max_tokens: int | None = None,
    progress: Progress = silent,
) -> Iterator[tuple[Batch, _Reader]]:
    """Run examples through the model in length-bucketed batches, yielding each batch and its reader when it was read.

    Where layers are kept off the device, all batches pass through one layer and then through the next, if that brings
    each in once instead of once a batch.

    Args:
        decoder: the model.
        examples: tokenized examples.
        positions: positions to read of each example.
        start: called before a batch is read; returns the reader for its spaces. It may be called again for a batch
            that memory ran out on, or for parts of it.
        tally: added to.
        stage: name for progress.
        chosen: which examples are run; None runs all.
        max_tokens: tokens a pass, padding included; None takes the device's default.
        progress: receives the tokens done.

    Raises:
        ResourceError: a single example does not fit into memory.
    """
    pad_id = int(examples[0].input_ids[0])  # any valid id: padding stands to the right and is never read
    limit = max_tokens or default_batch_tokens(decoder.device)
    lengths = [len(e.input_ids) for e in examples]
    indices_run = range(len(examples)) if chosen is None else chosen
    buckets = length_buckets([lengths[i] for i in indices_run], limit)
    queue = [[indices_run[i] for i in bucket] for bucket in buckets]
    total = sum(lengths[i] for i in indices_run)
    batches = [make_batch(indices, examples, positions, pad_id) for indices in queue] if decoder.probe_spaces else []
    if (states_in := reads_by_layer(decoder, batches)) is not None:
        begun = time.perf_counter()
        readers = _read_by_layer(decoder, batches, start, states_in, stage, progress)
        if readers:
            tally.seconds += time.perf_counter() - begun
            tally.tokens += total
            tally.by_layer = True
            while readers:
                yield readers.pop(0)
            return
    done = 0
    while queue:
        indices = queue.pop(0)
        batch = make_batch(indices, examples, positions, pad_id)
        begun = time.perf_counter()
        out_of_memory = False
        reader = start(batch)
        try:
            read_batch(decoder, batch, reader)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            out_of_memory = True  # handled below, when the traceback no longer keeps the tensors alive
        if out_of_memory:
            del reader
            queue[:0] = _halved(indices, batch.tokens, decoder.device)
            tally.halvings += 1
            message = f"Out of memory: a batch of {len(indices)} examples was halved."
            progress(ProgressEvent(stage, done, total, "tokens", message))
            continue
        synchronize(decoder.device)
        tally.seconds += time.perf_counter() - begun
        tally.tokens += batch.tokens
        done += batch.tokens
        yield batch, reader
        progress(ProgressEvent(stage, done, total, "tokens"))


def _read_by_layer(
    decoder: Decoder,
    batches: Sequence[Batch],
    start: Callable[[Batch], _Reader],
    states_in: StatesIn,
    stage: str,
    progress: Progress,
) -> list[tuple[Batch, _Reader]]:
    """The batches with their readers when all were read layer by layer; none where that cannot be done."""
    readers = [(batch, start(batch)) for batch in batches]
    try:
        n_layers = len(decoder.layers)
        read_by_layer(
            decoder, readers, states_in, lambda done: progress(ProgressEvent(stage, done, n_layers, "layers"))
        )
    except StatesDiffer:
        reason = "this model hands on more than a hidden state"
    except (RuntimeError, MemoryError, OSError) as error:
        if not (is_out_of_memory(error) or isinstance(error, OSError)):
            raise
        reason = " ".join(str(error).split())[:300]
    else:
        synchronize(decoder.device)
        return readers
    readers.clear()
    release_unused_memory(decoder.device)
    message = f"The examples are not read layer by layer ({reason}): every batch brings all layers in."
    progress(ProgressEvent(stage, message=message))
    return []


def _halved(indices: list[int], tokens: int, device: torch.device) -> list[list[int]]:
    if len(indices) == 1:
        raise ResourceError(
            f"One example of {tokens} tokens does not fit into the memory of {device}. Shorten examples with "
            "--max-length, or use a smaller dtype or another device."
        )
    release_unused_memory(device)
    half = len(indices) // 2
    return [indices[:half], indices[half:]]


def default_batch_tokens(device: torch.device) -> int:
    """Tokens of one forward pass that suit the device."""
    return GPU_BATCH_TOKENS if has_own_memory(device) else CPU_BATCH_TOKENS
