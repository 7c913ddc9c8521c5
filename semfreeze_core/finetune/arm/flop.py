"""FLOP of an arm on the batches it really met: the cost model's formulas at each batch's own size."""

from collections.abc import Sequence
from dataclasses import replace

from semfreeze_core.cost import step_flop
from semfreeze_core.cost.flops import attention_flop, cached_layers, embedding_flop, linear_flop
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import TrainableParts, TrainingSetup

# Examples, padded length and supervised tokens of a batch.
BatchSize = tuple[int, int, int]


def setup_of_batch(setup: TrainingSetup, size: BatchSize) -> TrainingSetup:
    """The setup of one batch's own size."""
    rows, length, supervised = size
    return replace(setup, batch_size=rows, sequence_length=length, supervised_fraction=supervised / (rows * length))


def batch_flop(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, size: BatchSize) -> int:
    """FLOP of a training step on one batch; from the boundary on when the setup has a prefix cache."""
    cached = setup.prefix_cache and parts.freeze_depth > 0
    return step_flop(shape, setup_of_batch(setup, size), parts, cached=cached).total


def cache_flop(
    shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, examples: Sequence[TokenizedExample]
) -> int:
    """FLOP of computing the boundary states of examples once, each at its own length, padding left out."""
    depth = cached_layers(parts)
    total = 0
    for example in examples:
        own = replace(setup, batch_size=1, sequence_length=len(example.input_ids))
        total += embedding_flop(shape, own)
        total += sum(linear_flop(layer, own) + attention_flop(layer, own) for layer in shape.layers[:depth])
    return total
