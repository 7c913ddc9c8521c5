"""Sets of trained layers: read, written, and what they train and cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semfreeze_core.cost import parts_at_depth, parts_of_layers, read_layers, step_flop
from semfreeze_core.errors import PlanError
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.wording.layers import layer_ranges, set_of
from tests.core.finetune.arm.test_arms import SHAPE

L = SHAPE.n_layers


@pytest.mark.parametrize(
    ("text", "layers"), [("0-2,6-7", (0, 1, 2, 6, 7)), ("3", (3,)), (" 5 , 1-2,2 ", (1, 2, 5)), ("4-7", (4, 5, 6, 7))]
)
def test_ranges_are_read(text, layers):
    assert read_layers(text, L) == layers


@given(st.sets(st.integers(0, L - 1), min_size=1, max_size=L - 1))
def test_what_is_written_is_read_again(layers):
    assert read_layers(layer_ranges([i in layers for i in range(L)]), L) == tuple(sorted(layers))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected ranges such as 0-3,7, counted from 0"),
        ("0-2,", "expected ranges"),
        ("-1", "expected ranges"),
        ("first", "expected ranges"),
        ("9" * 99, "expected ranges"),
        ("5-2", "5-2 ends before it begins"),
        ("6-8", "the model has layers 0 to 7"),
        ("0-7", "are all of them: full finetuning is freeze depth 0"),
    ],
)
def test_what_is_no_set_of_layers_is_refused(text, problem):
    with pytest.raises(PlanError, match=problem):
        read_layers(text, L)


@pytest.mark.parametrize("depth", [1, 4, 7])
def test_the_last_layers_are_a_freeze_depth(depth):
    for lora in (False, True):
        parts = parts_of_layers(SHAPE, tuple(range(depth, L)), lora=lora)
        assert parts == parts_at_depth(SHAPE, depth, lora=lora)
        assert set_of(parts) is None
    assert set_of(parts_of_layers(SHAPE, (0, 7))) == "0,7"


def test_gradients_pass_through_frozen_layers_above_the_lowest_trained_one():
    setup = TrainingSetup(prefix_cache=False)
    whole, outer = (
        step_flop(SHAPE, setup, parts) for parts in (parts_at_depth(SHAPE, 0), parts_of_layers(SHAPE, (0, 7)))
    )
    one = step_flop(SHAPE, setup, parts_at_depth(SHAPE, 7)).weight_gradient
    assert outer.weight_gradient == 2 * one, "of two layers alone"
    assert outer.activation_gradient == whole.activation_gradient, "down to layer 0"
    inner = step_flop(SHAPE, setup, parts_of_layers(SHAPE, (4, 7)))
    assert inner.activation_gradient == step_flop(SHAPE, setup, parts_at_depth(SHAPE, 4)).activation_gradient


def test_parts_that_the_model_does_not_have_are_refused():
    tied = SHAPE.__class__(**{**vars(SHAPE), "tied": True})
    with pytest.raises(PlanError, match="tied"):
        parts_of_layers(tied, (0, 7), head=True)
