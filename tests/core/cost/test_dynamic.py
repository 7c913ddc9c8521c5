"""Finetunes whose batches freeze depths of their own: how examples are put together, and what that costs."""

from dataclasses import replace

import numpy as np
import pytest

from semfreeze_core.cost import (
    batch_depths,
    depths_flop,
    dynamic_flop,
    dynamic_step_flop,
    ordered_by_depth,
    parts_at_depth,
    run_flop,
    step_flop,
)
from semfreeze_core.records.training import TrainingSetup
from tests.core.shapes import TWO_LAYERS

SETUP = TrainingSetup(batch_size=2, sequence_length=4, train_examples=6, steps=6)


def test_ordered_by_depth_equals_a_hand_computed_case():
    depths = [3, 1, 2, 1, 3, 2, 2]
    # By depth: 3 and 1 (1), 6, 2, 5 (2), 0, 4 (3); in pairs (3, 1), (6, 2), (5, 0), and 4 alone, which is last.
    ordered = ordered_by_depth([6, 0, 3, 2, 4, 1, 5], depths, 2)
    assert ordered == [(6, 2), (2, 2), (5, 2), (0, 2), (3, 1), (1, 1), (4, 3)]
    assert batch_depths(depths, 2) == (1, 2, 2, 3)


def test_ordered_by_depth_is_the_shuffled_order_where_all_depths_are_equal():
    shuffled = np.random.default_rng(0).permutation(23).tolist()
    assert [example for example, _ in ordered_by_depth(shuffled, [5] * 23, 4)] == shuffled


@pytest.mark.parametrize("batch_size", [1, 4, 7, 30])
def test_ordered_by_depth_meets_every_example_once_and_none_below_its_own_depth(batch_size):
    rng = np.random.default_rng(1)
    depths = rng.integers(1, 9, 23).tolist()
    ordered = ordered_by_depth(rng.permutation(23).tolist(), depths, batch_size)
    assert sorted(example for example, _ in ordered) == list(range(23))
    batches = [ordered[i : i + batch_size] for i in range(0, 23, batch_size)]
    for batch in batches:
        (depth,) = {example_depth for _, example_depth in batch}
        assert depth == min(depths[example] for example, _ in batch)
    assert tuple(sorted(batch[0][1] for batch in batches)) == batch_depths(depths, batch_size)


def test_ordered_by_depth_mixes_the_batches_of_an_epoch():
    rng = np.random.default_rng(2)
    depths = [1] * 40 + [5] * 40
    first_depths = [depth for _, depth in ordered_by_depth(rng.permutation(80).tolist(), depths, 4)][::4]
    assert first_depths != sorted(first_depths)
    assert {1, 5} == set(first_depths[:8])


@pytest.mark.parametrize("cache", [True, False])
def test_dynamic_flop_of_equal_depths_is_a_depths_and_the_pass_that_chose_it(cache):
    setup = replace(SETUP, prefix_cache=cache)
    choosing = 3 * depths_flop(TWO_LAYERS, SETUP)
    for steps in (1, 3, 7):
        setup_of_steps = replace(setup, steps=steps)
        expected = choosing + run_flop(TWO_LAYERS, setup_of_steps, parts_at_depth(TWO_LAYERS, 1))
        assert dynamic_flop(TWO_LAYERS, setup_of_steps, [1] * 6) == expected


def test_dynamic_flop_of_two_depths_equals_a_hand_computed_case():
    # Batches of depths 1, 1, 2, twice; every forward pass begins at layer 1, filled once for three batches.
    one, two = (parts_at_depth(TWO_LAYERS, k) for k in (1, 2))
    cached = step_flop(TWO_LAYERS, SETUP, one, cached=True)
    deep = dynamic_step_flop(TWO_LAYERS, SETUP, 1, 2, cached=True)
    assert deep.forward == cached.forward
    assert deep.weight_gradient == step_flop(TWO_LAYERS, SETUP, two).weight_gradient < cached.weight_gradient
    prefix = step_flop(TWO_LAYERS, SETUP, one).forward - cached.forward
    expected = 3 * depths_flop(TWO_LAYERS, SETUP) + 3 * prefix + 4 * cached.total + 2 * deep.total
    assert dynamic_flop(TWO_LAYERS, SETUP, [1, 2, 1, 1, 2, 1]) == expected


def test_depths_flop_is_a_forward_pass_without_the_head():
    forward = step_flop(TWO_LAYERS, SETUP, parts_at_depth(TWO_LAYERS, 1)).forward
    head = 2 * SETUP.head_tokens_per_step * TWO_LAYERS.head_linear_weights
    assert depths_flop(TWO_LAYERS, SETUP) == forward - head
