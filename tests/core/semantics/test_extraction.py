import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semfreeze_core.errors import ResourceError
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.semantics.extraction import ExtractionTally, read_batch, stream_batches
from semfreeze_core.semantics.positions import Positions, choose_positions, make_batch
from semfreeze_core.sources.models.decoder import Decoder
from tests.core.semantics.tiny_examples import make_example, random_examples

Examples = list[TokenizedExample]


class _ScarceMemory(nn.Module):
    """A model that runs out of memory on batches of more than `most` examples, after its layers have run."""

    def __init__(self, base: nn.Module, most: int, error: BaseException) -> None:
        super().__init__()
        self.base, self.most, self.error = base, most, error
        self.sizes: list[int] = []

    def forward(self, input_ids: Tensor, **settings: Any) -> Any:
        self.sizes.append(len(input_ids))
        out = self.base(input_ids=input_ids, **settings)
        if len(input_ids) > self.most:
            raise self.error
        return out


def _scarce(decoder: Decoder, most: int, error: BaseException | None = None) -> Decoder:
    error = error or torch.OutOfMemoryError("CUDA out of memory")
    return dataclasses.replace(decoder, base=_ScarceMemory(decoder.base, most, error))


def _collect(
    decoder: Decoder,
    examples: Examples,
    positions: list[Positions],
    *,
    max_tokens: int = 10_000,
    tally: ExtractionTally | None = None,
    progress: Callable[[ProgressEvent], None] = lambda _: None,
) -> dict[int, Tensor]:
    """Raw states (L + 1, n, d) of each example, and the order of spaces checked."""
    current: list[Tensor] = []

    def start(_: Any) -> Callable[[int, Tensor], None]:
        current.clear()

        def read(space: int, raw: Tensor) -> None:
            assert space == len(current)
            current.append(raw.clone())

        return read

    tally = tally or ExtractionTally()
    by_example = {}
    stream = stream_batches(
        decoder, examples, positions, start, tally, stage="Reading", max_tokens=max_tokens, progress=progress
    )
    for batch, _ in stream:
        states = torch.stack(current)
        for b, example in enumerate(batch.examples):
            assert example not in by_example
            by_example[example] = states[:, torch.from_numpy(batch.rows) == b]
    return by_example


@torch.no_grad()
def test_read_batch_hands_over_the_states_the_library_itself_reports(decoder: Decoder) -> None:
    examples = random_examples(5, seed=0)
    positions = choose_positions(examples, 64, seed=0)
    batch = make_batch(range(5), examples, positions, pad_id=3)
    spaces: list[Tensor] = []
    read_batch(decoder, batch, lambda space, raw: spaces.insert(space, raw.clone()))

    ids = torch.from_numpy(batch.input_ids)
    reported = decoder.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    at = torch.from_numpy(batch.rows), torch.from_numpy(batch.columns)
    assert len(spaces) == len(reported) == len(decoder.layers) + 1
    for raw, state in zip(spaces[:-1], reported[:-1], strict=True):
        torch.testing.assert_close(raw, state[at], rtol=1e-5, atol=1e-6)
    # The library normalizes its last state; ours is raw until the final norm has seen it.
    torch.testing.assert_close(decoder.final_norm(spaces[-1]), reported[-1][at], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(spaces[-1], reported[-1][at], atol=1e-3)


def test_read_batch_leaves_no_hook_behind(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder = tiny_decoder()
    examples = random_examples(4, seed=0)
    batch = make_batch(range(4), examples, choose_positions(examples, 64, 0), 3)
    read_batch(decoder, batch, lambda *_: None)
    with pytest.raises(torch.OutOfMemoryError):
        read_batch(_scarce(decoder, most=3), batch, lambda *_: None)
    for layer in decoder.layers:
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks


def test_read_batch_does_not_let_right_padding_leak(decoder: Decoder) -> None:
    short, long = make_example([5, 6], [7, 8]), make_example(range(20, 40), [9])
    alone = _collect(decoder, [short], [np.array([2, 3])])[0]
    both = [np.array([2, 3]), np.array([20])]
    for pad_id in (5, 7, 96):
        spaces: list[Tensor] = []
        batch = make_batch([0, 1], [short, long], both, pad_id)
        read_batch(decoder, batch, lambda space, raw, spaces=spaces: spaces.insert(space, raw[:2].clone()))
        torch.testing.assert_close(torch.stack(spaces), alone, rtol=1e-5, atol=1e-6)


def test_stream_batches_reads_every_example_once_and_counts_its_tokens(tiny_decoder: Callable[..., Decoder]) -> None:
    examples = random_examples(20, seed=0)
    positions = choose_positions(examples, 64, seed=0)
    tally, events = ExtractionTally(), list[ProgressEvent]()
    states = _collect(tiny_decoder(), examples, positions, max_tokens=32, tally=tally, progress=events.append)
    assert sorted(states) == list(range(20))
    assert all(states[i].shape == (5, len(p), 32) for i, p in enumerate(positions))
    assert tally.tokens == sum(len(e.input_ids) for e in examples)
    assert tally.seconds > 0
    assert tally.halvings == 0
    assert len(events) > 5
    assert [e.done for e in events] == sorted(e.done for e in events)
    assert events[-1].done == events[-1].total == tally.tokens
    assert not any(e.message for e in events)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "mps", "python"],
)
def test_stream_batches_halves_when_memory_runs_out_and_ends_with_the_same_states(
    tiny_decoder: Callable[..., Decoder], error: BaseException
) -> None:
    decoder = tiny_decoder()
    examples = random_examples(11, seed=0)
    positions = choose_positions(examples, 64, seed=0)
    plenty = _collect(decoder, examples, positions)
    scarce = _scarce(decoder, 3, error)
    tally, events = ExtractionTally(), list[ProgressEvent]()
    states = _collect(scarce, examples, positions, tally=tally, progress=events.append)
    assert scarce.base.sizes == [11, 5, 2, 3, 6, 3, 3]
    assert tally.halvings == 3
    assert tally.tokens == sum(len(e.input_ids) for e in examples)
    messages = [e.message for e in events if e.message]
    assert messages == [f"Out of memory: a batch of {n} examples was halved." for n in (11, 5, 6)]
    assert events[-1].done == events[-1].total
    assert sorted(states) == list(range(11))
    for i in plenty:
        torch.testing.assert_close(states[i], plenty[i], rtol=1e-5, atol=1e-6)


def test_stream_batches_refuses_one_example_that_does_not_fit(tiny_decoder: Callable[..., Decoder]) -> None:
    examples = [make_example(range(10), [4]), make_example([1, 2], [3])]
    with pytest.raises(ResourceError, match=r"One example of 11 tokens .*--max-length"):
        _collect(_scarce(tiny_decoder(), 0), examples, choose_positions(examples, 64, 0))


def test_stream_batches_passes_other_errors_on(tiny_decoder: Callable[..., Decoder]) -> None:
    examples = random_examples(4, seed=0)
    with pytest.raises(RuntimeError, match="a matrix has the wrong shape"):
        _collect(
            _scarce(tiny_decoder(), 1, RuntimeError("a matrix has the wrong shape")),
            examples,
            choose_positions(examples, 64, 0),
        )
