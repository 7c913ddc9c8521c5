"""The cost of freezing deeper after some steps, against hand-computed cases and against its parts."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import parts_at_depth, progressive_bytes, progressive_flop, progressive_phases, run_flop
from semfreeze_core.errors import PlanError
from semfreeze_core.records.training import DepthSwitch, TrainingSetup
from tests.core.shapes import TWO_LAYERS

# An epoch of 7 examples is 4 steps. A step of full finetuning takes 5000 + 6600 + 3400 FLOPs; at depth 1 the frozen
# layer takes 2000 + 800 and the rest 2200 + 3000 + 1000; at depth 2 the frozen layers take 4600 and the rest 400 + 400.
SETUP = TrainingSetup(batch_size=2, sequence_length=5, train_examples=7, steps=10, loss="materialised")


@pytest.mark.parametrize(
    ("switch", "steps", "expected"),
    [
        (DepthSwitch(0, 1, 3), 10, 3 * 15000 + 4 * 2800 + 7 * 6200),  # the frozen layer is computed again from step 3
        (DepthSwitch(0, 1, 7), 10, 7 * 15000 + 3 * 2800 + 3 * 6200),
        (DepthSwitch(1, 2, 6), 10, 4 * 2800 + 6 * 6200 + 4 * 4600 + 4 * 800),  # a cache of its own in each phase
        (DepthSwitch(0, 1, 3), 2, 2 * 15000),  # it ended before the switch
    ],
)
def test_progressive_flop_is_the_wide_steps_and_the_deep_ones_with_a_new_cache(switch, steps, expected):
    assert progressive_flop(TWO_LAYERS, replace(SETUP, steps=steps), switch) == expected


def test_progressive_flop_without_a_cache_is_steps_times_step():
    setup = replace(SETUP, prefix_cache=False)
    assert progressive_flop(TWO_LAYERS, setup, DepthSwitch(0, 1, 3)) == 3 * 15000 + 7 * 9000


@pytest.mark.parametrize(("step", "cached"), [(3, (False, True)), (5, (True, True)), (6, (True, False))])
def test_a_phase_has_a_cache_where_examples_come_again(step, cached):
    phases = progressive_phases(TWO_LAYERS, SETUP, DepthSwitch(1, 2, step))
    assert tuple(phase.setup.prefix_cache for phase in phases) == cached
    assert [phase.setup.steps for phase in phases] == [step, 10 - step]
    whole = [replace(SETUP, steps=phase.setup.steps, prefix_cache=True) for phase in phases]
    assert progressive_flop(TWO_LAYERS, SETUP, DepthSwitch(1, 2, step)) == sum(
        run_flop(TWO_LAYERS, setup, phase.parts) for setup, phase in zip(whole, phases, strict=True)
    ), "a cache for a single pass would save nothing"


def test_progressive_bytes_are_those_of_each_phase():
    wide, deep = progressive_bytes(TWO_LAYERS, SETUP, DepthSwitch(0, 1, 3))
    assert (wide.gradients, deep.gradients) == (4 * 210, 4 * 62)
    assert (wide.optimizer, deep.optimizer) == (2 * wide.gradients, 2 * deep.gradients)
    assert wide.total > deep.total
    assert wide.weights - deep.weights == 4 * (108 + 20), "the frozen layer and the embedding leave the device"


def test_a_depth_beyond_the_model_is_refused():
    with pytest.raises(PlanError, match=r"freeze depth 3 is outside 0\.\.2"):
        progressive_flop(TWO_LAYERS, SETUP, DepthSwitch(1, 3, 4))


@pytest.mark.parametrize(
    ("wide", "deep", "step", "problem"),
    [
        (2, 2, 1, "a later freeze depth must be greater than the first, found 2 and 2"),
        (-1, 2, 1, "found -1 and 2"),
        (1, 2, 0, "after at least 1 step, found 0"),
    ],
)
def test_a_switch_that_deepens_nothing_is_refused(wide, deep, step, problem):
    with pytest.raises(ValueError, match=problem):
        DepthSwitch(wide, deep, step)


def test_parts_of_the_phases_are_those_at_their_depths():
    phases = progressive_phases(TWO_LAYERS, SETUP, DepthSwitch(0, 1, 3))
    assert [phase.parts for phase in phases] == [parts_at_depth(TWO_LAYERS, depth) for depth in (0, 1)]
