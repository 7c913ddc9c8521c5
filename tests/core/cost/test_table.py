"""Parts at a depth, contradictions, and the table of prices."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semfreeze_core.cost import check_setup, cost_table, depth_cost, full_cost, parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from tests.core.shapes import TIED_LAYERS, TWO_LAYERS, with_kind
from tests.core.tiny_models import FAMILIES, build_tiny

SETUP = TrainingSetup(
    batch_size=2, sequence_length=5, train_examples=7, steps=10, loss="materialised", prefix_cache=False
)
CACHED = replace(SETUP, prefix_cache=True)

FULL_FLOP = 10 * (5000 + 6600 + 3400)
FULL_BYTES = 16 * 210 + 10 * 2 * 256 + 800

flag = st.sampled_from([None, False, True])


# parts_at_depth


@pytest.mark.parametrize("shape", [TWO_LAYERS, TIED_LAYERS], ids=["untied", "tied"])
def test_parts_at_depth_trains_everything_at_0_and_only_the_norm_above(shape):
    assert [parts_at_depth(shape, k) for k in (0, 1, 2)] == [
        TrainableParts((True, True), embeddings=True, final_norm=True, head=True),
        TrainableParts((False, True), embeddings=False, final_norm=True, head=False),
        TrainableParts((False, False), embeddings=False, final_norm=True, head=False),
    ]


@given(st.integers(0, 2), flag, flag, flag)
def test_parts_at_depth_does_what_it_is_told(k, embeddings, final_norm, head):
    parts = parts_at_depth(TWO_LAYERS, k, embeddings, final_norm, head)
    assert parts.freeze_depth == k
    for asked, trained in ((embeddings, parts.embeddings), (final_norm, parts.final_norm), (head, parts.head)):
        assert asked is None or trained is asked


@pytest.mark.parametrize("k", [-1, 3])
def test_parts_at_depth_outside_the_layers_names_the_range(k):
    with pytest.raises(PlanError, match=rf"freeze depth {k} is outside 0\.\.2"):
        parts_at_depth(TWO_LAYERS, k)


@pytest.mark.parametrize("flags", [{"embeddings": True}, {"head": True}, {"embeddings": False, "head": True}])
def test_parts_at_depth_above_0_refuses_to_train_a_tied_head_or_embedding(flags):
    with pytest.raises(PlanError, match="tied"):
        parts_at_depth(TIED_LAYERS, 1, **flags)


def test_parts_at_depth_0_refuses_to_tell_a_tied_head_and_embedding_apart():
    with pytest.raises(PlanError, match=r"tied.*embeddings=True and head=False"):
        parts_at_depth(TIED_LAYERS, 0, embeddings=True, head=False)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("part", ["embeddings", "head"])
def test_parts_at_depth_0_of_a_tied_model_lets_the_unset_one_follow(part, trained):
    parts = parts_at_depth(TIED_LAYERS, 0, **{part: trained})
    assert (parts.embeddings, parts.head) == (trained, trained)


# check_setup


def test_check_setup_accepts_what_does_not_contradict_itself():
    check_setup(SETUP, parts_at_depth(TWO_LAYERS, 1, embeddings=True))
    check_setup(CACHED, parts_at_depth(TWO_LAYERS, 1))
    check_setup(CACHED, parts_at_depth(TWO_LAYERS, 2, head=True))
    check_setup(CACHED, parts_at_depth(TWO_LAYERS, 0))  # no prefix, hence no cache


def test_check_setup_refuses_a_prefix_cache_below_trained_embeddings():
    with pytest.raises(PlanError, match=r"prefix_cache.*embeddings"):
        check_setup(CACHED, parts_at_depth(TWO_LAYERS, 1, embeddings=True))


def test_check_setup_refuses_to_train_nothing():
    with pytest.raises(PlanError, match="nothing is trained"):
        check_setup(SETUP, TrainableParts((False, False), False, False, False))


# depth_cost, full_cost


def test_full_cost_is_the_hand_computed_sum_and_relative_to_itself():
    full = full_cost(TWO_LAYERS, SETUP)
    assert (full.freeze_depth, full.flop, full.relative_flop) == (0, FULL_FLOP, 1.0)
    assert (full.bytes.total, full.relative_bytes) == (FULL_BYTES, 1.0)


def test_full_cost_uses_no_cache():
    assert full_cost(TWO_LAYERS, CACHED) == full_cost(TWO_LAYERS, SETUP)


def test_depth_cost_is_relative_to_full_finetuning():
    cost = depth_cost(TWO_LAYERS, SETUP, parts_at_depth(TWO_LAYERS, 1))
    assert cost.freeze_depth == 1
    assert (cost.step_flop.total, cost.flop) == (9000, 90000)
    assert cost.relative_flop == 90000 / FULL_FLOP
    assert cost.relative_bytes == (840 + 248 + 496 + 2560 + 800) / FULL_BYTES


def test_depth_cost_with_a_prefix_cache_keeps_the_first_step_and_lowers_the_run():
    plain, cached = (depth_cost(TWO_LAYERS, setup, parts_at_depth(TWO_LAYERS, 1)) for setup in (SETUP, CACHED))
    assert cached.step_flop == plain.step_flop
    assert cached.relative_flop == (4 * 2800 + 10 * 6200) / FULL_FLOP
    assert cached.bytes.total == plain.bytes.total - 4 * (108 + 20)


def test_depth_cost_of_an_unknown_layer_kind_knows_flop_but_not_bytes():
    shape = with_kind(TWO_LAYERS, "other")
    cost = depth_cost(shape, SETUP, parts_at_depth(shape, 1))
    assert (cost.relative_flop, cost.relative_bytes) == (90000 / FULL_FLOP, None)
    assert full_cost(shape, SETUP).relative_bytes is None


def test_depth_cost_sees_that_a_trained_tied_head_undoes_a_prefix_cache():
    with pytest.raises(PlanError, match="prefix_cache"):
        depth_cost(TIED_LAYERS, CACHED, TrainableParts((False, True), False, True, head=True))


def test_depth_cost_refuses_to_train_nothing():
    with pytest.raises(PlanError, match="nothing is trained"):
        depth_cost(TWO_LAYERS, SETUP, TrainableParts((False, False), False, False, False))


# cost_table


@pytest.mark.parametrize("setup", [SETUP, CACHED], ids=["plain", "cached"])
@pytest.mark.parametrize("family", FAMILIES)
def test_cost_table_has_a_row_a_depth_and_falls_from_full_finetuning_on(family, setup, tiny_shape):
    shape = tiny_shape(build_tiny(family))
    table = cost_table(shape, setup)
    assert [row.freeze_depth for row in table] == [0, 1, 2, 3, 4]
    assert table[0] == full_cost(shape, setup)
    for shallow, deep in pairwise(table):
        assert 0 < deep.relative_flop < shallow.relative_flop <= 1
        assert 0 < deep.relative_bytes < shallow.relative_bytes <= 1


def test_cost_table_rows_are_depth_costs():
    flags = {"embeddings": False, "final_norm": False, "head": True}
    rows = tuple(depth_cost(TWO_LAYERS, SETUP, parts_at_depth(TWO_LAYERS, k, **flags)) for k in (0, 1, 2))
    assert cost_table(TWO_LAYERS, SETUP, **flags) == rows


def test_cost_table_is_relative_to_full_finetuning_whatever_is_trained_at_depth_0():
    assert cost_table(TWO_LAYERS, SETUP, head=False)[0].relative_flop == (FULL_FLOP - 10 * 400) / FULL_FLOP


def test_cost_table_ends_where_nothing_would_be_trained():
    assert [row.freeze_depth for row in cost_table(TWO_LAYERS, SETUP, final_norm=False)] == [0, 1]


def test_cost_table_refuses_flags_that_no_frozen_prefix_allows():
    with pytest.raises(PlanError, match="tied"):
        cost_table(TIED_LAYERS, SETUP, head=True)
    with pytest.raises(PlanError, match="prefix_cache"):
        cost_table(TWO_LAYERS, CACHED, embeddings=True)
