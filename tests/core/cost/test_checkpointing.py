"""Layers computed again on the way back: to torch's counter and hooks, by hand, and to their limits."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import (
    cost_table,
    flop_status,
    full_cost,
    parts_at_depth,
    step_flop,
    stock_setup,
    training_bytes,
)
from semfreeze_core.errors import PlanError
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from tests.core.cost.counted_step import count_step, expected_step, prepare
from tests.core.cost.saved_bytes import count_saved_bytes
from tests.core.shapes import TWO_LAYERS, shape_of_layers, with_kind
from tests.core.tiny_models import FAMILIES, VARIANTS, build_tiny

# Of the frozen layers below the boundary, which run without a graph.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")

N_LAYERS = 3
SETUP = TrainingSetup(batch_size=2, sequence_length=5, loss="materialised", prefix_cache=False)
MODES = ("non-reentrant", "reentrant", "transformers-5")
FULL = TrainableParts((True,) * 3, embeddings=True, final_norm=True, head=True)
SUFFIX = TrainableParts((False, True, True), embeddings=False, final_norm=True, head=False)
ADAPTED = TrainableParts((False, True, True), embeddings=False, final_norm=False, head=False)
REST = [
    TrainableParts((True, False, True), embeddings=False, final_norm=False, head=True),
    TrainableParts((False, False, True), embeddings=True, final_norm=False, head=False),
    TrainableParts((False, False, False), embeddings=False, final_norm=True, head=False),
]
CASES = [
    *[
        (family, mode, [(FULL, None), (SUFFIX, None), (ADAPTED, LoraSetup(3))])
        for family in ("llama", "gpt2")
        for mode in MODES
    ],
    *[("llama", mode, [(parts, None) for parts in REST]) for mode in MODES],
    # the other families in turn, as they differ only in what comes last in a layer
    *[
        (family, MODES[i % 3], [(SUFFIX, None) if i % 2 else (ADAPTED, LoraSetup(2))])
        for i, family in enumerate(VARIANTS)
        if family not in ("llama", "gpt2")
    ],
]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("family", "mode", "asked"), CASES)
def test_step_flop_with_checkpointing_equals_the_counter(family, mode, asked, tiny_shape, random_tokens, compute_loss):
    for parts, lora in asked:
        setup = replace(SETUP, checkpointing=mode, lora=lora)
        model = build_tiny(family, n_layers=N_LAYERS, tied=False, attention="eager")
        shape = tiny_shape(model)
        prepare(model, shape, setup, parts)
        counted = count_step(model, random_tokens(model, setup), setup, compute_loss)
        forward, total = expected_step(shape, setup, parts)
        assert counted[0] == forward
        if flop_status(shape, setup) == "exact":
            assert counted[1] == total, (parts, lora)
        else:  # at most each layer's last product is spared
            recompute = step_flop(shape, setup, parts).recompute
            assert total - recompute < counted[1] <= total, (parts, lora)


@pytest.mark.parametrize("mode", MODES)
def test_step_flop_with_checkpointing_of_a_tied_model_equals_the_counter(mode, tiny_shape, random_tokens, compute_loss):
    setup = replace(SETUP, checkpointing=mode)
    for parts in (FULL, SUFFIX):
        model = build_tiny("llama", n_layers=N_LAYERS, tied=True, attention="eager")
        shape = tiny_shape(model)
        prepare(model, shape, setup, parts)
        counted = count_step(model, random_tokens(model, setup), setup, compute_loss)
        assert counted == expected_step(shape, setup, parts)


# By hand: T = 10; layers of C = 2000 and 1000 with one matrix each, A = 800, U = 400; d = 4

TOP = TrainableParts((False, True), embeddings=False, final_norm=True, head=False)


@pytest.mark.parametrize(
    ("mode", "kind", "recompute"),
    [
        ("none", "gated-rmsnorm", 0),
        ("reentrant", "gated-rmsnorm", 1000 + 800),
        ("non-reentrant", "gated-rmsnorm", 800),  # all but the last, here the only, matrix
        ("non-reentrant", "other", 1000 + 800),
        ("transformers-5", "gated-rmsnorm", 800 + 800),
        ("transformers-5", "other", 2000 + 1000 + 2 * 800),
    ],
)
def test_step_flop_recomputes_the_hand_computed_sum(mode, kind, recompute):
    shape, setup = with_kind(TWO_LAYERS, kind), replace(SETUP, checkpointing=mode)
    assert step_flop(shape, setup, TOP).recompute == recompute
    early = mode in ("non-reentrant", "transformers-5")
    assert flop_status(shape, setup) == ("upper bound" if early and kind == "other" else "exact")


def test_step_flop_under_transformers_5_carries_the_gradient_through_frozen_layers():
    step = step_flop(TWO_LAYERS, replace(SETUP, checkpointing="transformers-5"), TOP)
    assert step.activation_gradient == (2000 + 1600) + (1000 + 1600) + 400
    assert step.weight_gradient == 1000


def test_training_bytes_with_checkpointing_keeps_inputs_and_one_whole_layer():
    # a trained layer keeps 344 bytes a token, a traversed one 168; an input is 4 d = 16
    for mode, parts, expected in (
        ("non-reentrant", TOP, 16 + 256),
        ("non-reentrant", replace(TOP, layers=(True, True)), 2 * 16 + 256),
        ("transformers-5", TOP, 2 * 16 + 256),
    ):
        n_bytes = training_bytes(TWO_LAYERS, replace(SETUP, checkpointing=mode), parts)
        assert n_bytes.activations == 10 * expected
    half = replace(SETUP, checkpointing="reentrant", precision="bf16")
    whole = training_bytes(TWO_LAYERS, replace(half, checkpointing="none"), TOP).activations
    assert training_bytes(TWO_LAYERS, half, TOP).activations == 10 * 8 + whole


# Precisions in turn: each meets both modes.
INPUT_CASES = [
    (family, mode, ("float32", "bf16-autocast", "bf16")[(i + j) % 3])
    for i, family in enumerate(FAMILIES)
    for j, mode in enumerate(("non-reentrant", "reentrant"))
]


@pytest.mark.parametrize(("family", "mode", "precision"), INPUT_CASES)
def test_activation_bytes_of_one_more_checkpointed_layer_are_its_input(
    family, mode, precision, tiny_shape, random_tokens
):
    setup = replace(SETUP, checkpointing=mode, precision=precision)
    saved, predicted = [], []
    for n_layers in (2, 3):
        parts = TrainableParts((True,) * n_layers, embeddings=True, final_norm=True, head=True)
        model = build_tiny(family, n_layers=n_layers, tied=False)
        shape = tiny_shape(model)
        prepare(model, shape, setup, parts)
        saved.append(count_saved_bytes(model, random_tokens(model, setup), setup))
        predicted.append(training_bytes(shape, setup, parts).activations)
    # autocast's copies of weights die with the layer's own graph, and reentrant runs without one
    assert (
        saved[1] - saved[0]
        == predicted[1] - predicted[0]
        == setup.tokens_per_step * shape.d_model * (2 if precision == "bf16" else 4)
    )


# Limits


def deep(n_layers=10, weights=1_000_000):
    """A model whose layers' last matrix is a small part of them, so that both ways cost the same in the limit."""
    layer_weights = [weights] * n_layers
    sizes = {"n_heads": 1, "n_kv_heads": 1, "head_dim": 1, "mlp_width": 1, "d_model": 1, "vocab_rows": 1}
    rest = {"embedding_parameters": 1, "final_norm_parameters": 1, "head_parameters": 1, "head_linear_weights": 1}
    return shape_of_layers(
        layer_weights, layer_weights, layer_kind="other", tied=False, max_positions=None, **sizes, **rest
    )


@pytest.mark.parametrize("k", [0, 1, 6, 10])
def test_step_flop_with_checkpointing_approaches_its_limit(k):
    setup = replace(SETUP, checkpointing="reentrant")
    full, frozen = (step_flop(deep(), setup, parts_at_depth(deep(), depth)).total for depth in (0, k))
    assert frozen / full == pytest.approx((4 * 10 - 3 * k) / (4 * 10), abs=1e-4)


@pytest.mark.parametrize("k", [1, 6, 10])
def test_step_flop_under_transformers_5_saves_the_weight_gradient_alone(k):
    setup = replace(SETUP, checkpointing="transformers-5")
    full, frozen = (step_flop(deep(), setup, parts_at_depth(deep(), depth)).total for depth in (0, k))
    assert frozen / full == pytest.approx((4 * 10 - k) / (4 * 10), abs=1e-4)


def test_stock_setup_never_costs_less_than_the_same_depth_with_a_clean_boundary():
    setup = replace(SETUP, checkpointing="non-reentrant", prefix_cache=True)
    clean, stock = cost_table(TWO_LAYERS, setup), cost_table(TWO_LAYERS, stock_setup(setup))
    assert stock[0] == clean[0]
    for ours, theirs in zip(clean[1:], stock[1:], strict=True):
        assert theirs.relative_flop > ours.relative_flop
        assert theirs.relative_bytes > ours.relative_bytes
    assert full_cost(TWO_LAYERS, setup) == full_cost(TWO_LAYERS, stock_setup(setup))


def test_cost_table_refuses_a_prefix_cache_under_transformers_5():
    with pytest.raises(PlanError, match="transformers-5 sends the gradient down"):
        cost_table(TWO_LAYERS, replace(SETUP, checkpointing="transformers-5", prefix_cache=True))
