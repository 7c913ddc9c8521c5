"""FLOPs of an arm on the batches it trained on: the cost model's formulas at each batch's own size."""

from collections.abc import Sequence
from dataclasses import replace

from semfreeze_core.cost import depths_flop, dynamic_step_flop, step_flop
from semfreeze_core.cost.flops import attention_flop, cached_layers, embedding_flop, linear_flop
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import TrainableParts, TrainingSetup

# Examples, padded length and target tokens of a batch, and its freeze depth where batches have their own.
BatchSize = tuple[int, int, int] | tuple[int, int, int, int]


def setup_of_batch(setup: TrainingSetup, size: BatchSize) -> TrainingSetup:
    """The setup with one batch's size."""
    rows, length, supervised = size[:3]
    return replace(setup.of_pass(rows), sequence_length=length, supervised_fraction=supervised / (rows * length))


def batch_flop(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, size: BatchSize) -> int:
    """FLOPs of a training step on one batch; from the boundary on when the setup has a prefix cache."""
    cached = setup.prefix_cache and parts.freeze_depth > 0
    batch_setup = setup_of_batch(setup, size)
    if len(size) == 4:
        return dynamic_step_flop(shape, batch_setup, parts.freeze_depth, size[3], cached).total
    return step_flop(shape, batch_setup, parts, cached=cached).total


def cache_flop(
    shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, examples: Sequence[TokenizedExample]
) -> int:
    """FLOPs of computing the boundary states of examples once, each at its own length, without padding."""
    depth = cached_layers(parts)
    total = 0
    for example in examples:
        one = replace(setup.of_pass(1), sequence_length=len(example.input_ids))
        total += embedding_flop(shape, one)
        total += sum(linear_flop(layer, one) + attention_flop(layer, one) for layer in shape.layers[:depth])
    return total


def choosing_flop(shape: ModelShape, setup: TrainingSetup, examples: Sequence[TokenizedExample]) -> int:
    """FLOPs of the pass that chooses each example's freeze depth, each at its own length, without padding."""
    return sum(
        depths_flop(shape, replace(setup.of_pass(1), sequence_length=len(example.input_ids))) for example in examples
    )


def evaluation_flop(
    shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, examples: Sequence[TokenizedExample]
) -> int:
    """FLOPs of evaluating examples, each at its own length; from the boundary on when the setup has a prefix cache."""
    cached = setup.prefix_cache and parts.freeze_depth > 0
    total = 0
    for example in examples:
        one = setup_of_batch(
            replace(setup, checkpointing="none"), (1, len(example.input_ids), int(example.supervised.sum()))
        )
        total += step_flop(shape, one, parts, cached=cached).forward
    return total
