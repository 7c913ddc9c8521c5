"""What a finetune costs whose every batch has a freeze depth of its own, and which depth that is."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from semfreeze_core.cost.flops import attention_flop, embedding_flop, linear_flop, run_flop, step_flop
from semfreeze_core.cost.setup import shuffled_batches
from semfreeze_core.cost.table import parts_at_depth
from semfreeze_core.records.cost import StepFlop
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import TrainingSetup


def ordered_by_depth(shuffled: Iterable[int], depths: Sequence[int], batch_size: int) -> list[tuple[int, int]]:
    """Each example of an epoch with its batch's freeze depth, the least of the examples' own, in order.

    Examples of neighboring depths share a batch, so that few train layers above which their own depth lies. Those of
    one depth keep their shuffled order, and batches come as their first example does in it: where all depths are equal
    the order is the shuffled one. A smaller batch is the last one.

    Args:
        shuffled: every example's number, in a random order.
        depths: of each example, by its number.
        batch_size: examples per step.
    """
    order = list(shuffled)
    batches = shuffled_batches(sorted(order, key=lambda example: depths[example]), order, batch_size)
    return [(example, depths[batch[0]]) for batch in batches for example in batch]


def batch_depths(depths: Sequence[int], batch_size: int) -> tuple[int, ...]:
    """The freeze depths of an epoch's batches, ascending; the same in every epoch."""
    return tuple(sorted(depths)[::batch_size])


def dynamic_step_flop(shape: ModelShape, setup: TrainingSetup, lowest: int, depth: int, cached: bool) -> StepFlop:
    """FLOPs of a step that trains layers `depth`.. of a finetune that freezes layers below `lowest` for good.

    Its forward pass starts at `lowest` with a cache, as layers from there on move in other steps.

    Raises:
        PlanError: a depth is outside 0..L.
    """
    above = step_flop(shape, setup, parts_at_depth(shape, depth))
    return replace(above, forward=step_flop(shape, setup, parts_at_depth(shape, lowest), cached=cached).forward)


def dynamic_flop(shape: ModelShape, setup: TrainingSetup, depths: Sequence[int]) -> int:
    """FLOPs of the whole run: choosing the depths, filling the cache, and every step at its batch's depth.

    A last epoch that is not whole counts as that share of a whole one; which of its batches are met, only the order
    shows.

    Args:
        shape: the counted model.
        setup: with all the run's steps.
        depths: of each training example.

    Raises:
        PlanError: a depth is outside 0..L.
    """
    lowest, batches = min(depths), batch_depths(depths, setup.batch_size)
    steps = {k: dynamic_step_flop(shape, setup, lowest, k, setup.prefix_cache).total for k in set(batches)}
    cache = run_flop(shape, setup, parts_at_depth(shape, lowest)) - setup.steps * steps[lowest]
    choosing = setup.steps_per_epoch * depths_flop(shape, setup)
    return choosing + cache + setup.steps * sum(steps[k] for k in batches) // len(batches)


def depths_flop(shape: ModelShape, setup: TrainingSetup) -> int:
    """FLOPs of the pass through all layers that chooses the depths of a batch of examples."""
    return embedding_flop(shape, setup) + sum(
        linear_flop(layer, setup) + attention_flop(layer, setup) for layer in shape.layers
    )
