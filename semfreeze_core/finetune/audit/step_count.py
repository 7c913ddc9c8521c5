"""One real training step, counted: FLOPs by torch's counter, and the bytes autograd saves for the backward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from semfreeze_core.finetune.audit.model_state import state_preserved
from semfreeze_core.sources.data.training_rows import IGNORED
from semfreeze_core.sources.models.flop_counter import model_flop
from semfreeze_core.sources.models.saved_tensors import saving_observed

# Rows, tokens per row and target tokens of a batch.
_Size = tuple[int, int, int]
# Every matrix product of a step is linear in one of these: attention in the squares, the head in the target tokens,
# what is the same for every row (angles of positions) in the tokens of a row. As many small batches give their factors,
# which must then hold for two more, one of them longer than the chunks that some families compute in.
_TERMS: tuple[Callable[[int, int, int], int], ...] = (
    lambda rows, length, targets: rows * length,
    lambda rows, length, targets: rows * length**2,
    lambda rows, length, targets: length,
    lambda rows, length, targets: targets,
)
_SOLVED: tuple[_Size, ...] = ((1, 4, 1), (2, 4, 1), (1, 8, 1), (1, 4, 3))
_SMALL, _LONG = (2, 12, 5), 300


@dataclass(frozen=True)
class CountedStep:
    """What one forward and backward pass took.

    Attributes:
        flop: as torch.utils.flop_counter counts them: matrix products alone, and none of a CPU's fused attention.
        saved_bytes: live storages that autograd saved between the two passes, without parameters.
    """

    flop: int
    saved_bytes: int


def count_step(network: nn.Module, model: Any, batch: dict[str, Tensor]) -> CountedStep:
    """Count a step and restore the model: FLOPs with eager attention; saved bytes, without inputs, with its own.

    Eager attention keeps every layer's scores, which can take far more memory than training does. FLOPs are therefore
    counted on small batches, from which those of the whole follow exactly; where they do not, on the whole.

    Args:
        network: called with the batch, gives {"loss"}.
        model: the transformers model inside it, whose attention is eager while FLOPs are counted.
        batch: tensors on the model's device, with labels (B, T).
    """
    with state_preserved(network, ()):
        with saving_observed() as saved:
            loss = network(**batch)["loss"]
        saved_bytes = saved.bytes(leaving_out=[*network.parameters(), *batch.values()])
        del loss
        with eager_attention(model):
            flop = _extrapolated_flop(network, batch)
            if flop is None:
                flop = _flop(network, batch)
    return CountedStep(flop, saved_bytes)


def _extrapolated_flop(network: nn.Module, batch: dict[str, Tensor]) -> int | None:
    """FLOPs of a batch from those of small ones; None where it is small itself, or they do not follow the terms."""
    rows, length = batch["labels"].shape
    if length < _SMALL[1]:
        return None
    factors = _solved(
        [[Fraction(term(*size)) for term in _TERMS] for size in _SOLVED],
        [Fraction(_flop(network, _small_batch(batch, size))) for size in _SOLVED],
    )

    def flop(size: _Size) -> Fraction:
        return sum((factor * term(*size) for factor, term in zip(factors, _TERMS, strict=True)), Fraction(0))

    checks = (_SMALL, (1, min(length, _LONG), 1))
    if any(flop(size) != _flop(network, _small_batch(batch, size)) for size in checks):
        return None
    whole = flop((rows, length, int((batch["labels"][:, 1:] != IGNORED).sum())))
    return int(whole) if whole.denominator == 1 else None


def _small_batch(batch: dict[str, Tensor], size: _Size) -> dict[str, Tensor]:
    """The beginning of a batch's first example, as many rows of it and with as many target tokens as wanted."""
    rows, length, targets = size
    of_rows = {name: tensor for name, tensor in batch.items() if name != "target_index"}
    small = {name: tensor[:1, :length].repeat_interleave(rows, 0) for name, tensor in of_rows.items()}
    small["attention_mask"] = torch.ones_like(small["attention_mask"])
    labels = torch.full_like(small["labels"], IGNORED)
    wanted = torch.arange(rows * (length - 1), device=labels.device).reshape(rows, length - 1) < targets
    labels[:, 1:][wanted] = 0
    return {**small, "labels": labels}


def _flop(network: nn.Module, batch: dict[str, Tensor]) -> int:
    with FlopCounterMode(display=False) as counter:
        network(**batch)["loss"].backward()
    return model_flop(counter)


def _solved(matrix: Sequence[Sequence[Fraction]], values: Sequence[Fraction]) -> list[Fraction]:
    """The solution of a square system of full rank, exactly, by elimination."""
    rows = [[*row, value] for row, value in zip(matrix, values, strict=True)]
    for i in range(len(rows)):
        pivot = next(j for j in range(i, len(rows)) if rows[j][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for j in range(len(rows)):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [row[-1] for row in rows]


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Attention as plain matrix products, all of which torch's counter counts; of fused kernels it may count none."""
    original = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(original)
