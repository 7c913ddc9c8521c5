"""FLOP against hand-computed cases, against torch's own counter to the unit, and against limits and identities."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from semfreeze_core.cost import run_flop, step_flop
from semfreeze_core.cost.flops import tied_parts
from semfreeze_core.errors import PlanError
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from tests.core.cost.counted_step import count_step, expected_step, prepare
from tests.core.shapes import TIED_LAYERS, TWO_LAYERS, shape_of_layers
from tests.core.tiny_models import FAMILIES, VARIANTS, build_tiny, find_pieces, set_trainable

N_LAYERS = 3
SETUP = TrainingSetup(
    batch_size=2, sequence_length=5, train_examples=7, steps=10, loss="materialised", prefix_cache=False
)
SUPERVISED_ONLY = TrainingSetup(
    batch_size=2, sequence_length=5, supervised_fraction=0.3, loss="supervised-only", prefix_cache=False
)


def parts_from(k, n_layers=N_LAYERS, embeddings=False, final_norm=True, head=False):
    return TrainableParts(tuple(i >= k for i in range(n_layers)), embeddings, final_norm, head)


def all_parts(n_layers):
    """Every selection of layers, embeddings, final norm and head: prefixes, gaps, everything and nothing."""
    for flags in product((False, True), repeat=n_layers + 3):
        yield TrainableParts(flags[:n_layers], *flags[n_layers:])


# Each part trained alone and left out, a gap, a prefix: what tells the terms of every formula apart. A family meets
# the first and two more in turn.
TELLING_PARTS = [
    TrainableParts((True, True, True), embeddings=True, final_norm=True, head=True),
    TrainableParts((False, True, True), embeddings=False, final_norm=True, head=False),
    TrainableParts((True, False, True), embeddings=False, final_norm=False, head=True),
    TrainableParts((False, False, False), embeddings=True, final_norm=False, head=False),
    TrainableParts((False, False, False), embeddings=False, final_norm=True, head=False),
    TrainableParts((False, False, False), embeddings=False, final_norm=False, head=True),
]


def large_shape(n_layers=10, layer_weights=1_000_000, head_weights=1, query_width=1):
    """A model whose FLOP are dominated by what the test asks for; `layer_weights` for each layer, or one for all."""
    weights = layer_weights if isinstance(layer_weights, list) else [layer_weights] * n_layers
    return shape_of_layers(
        d_model=1,
        vocab_rows=head_weights,
        tied=False,
        n_heads=1,
        n_kv_heads=1,
        head_dim=query_width,
        mlp_width=1,
        layer_kind="other",
        layer_linear_weights=weights,
        layer_parameters=weights,
        embedding_parameters=1,
        final_norm_parameters=1,
        head_parameters=head_weights,
        head_linear_weights=head_weights,
        max_positions=None,
    )


# By hand


def test_step_flop_of_full_finetuning_is_the_hand_computed_sum():
    step = step_flop(TWO_LAYERS, SETUP, TrainableParts((True, True), True, True, True))
    assert step.forward == 2000 + 1000 + 2 * 800 + 400
    assert step.activation_gradient == 2000 + 1000 + 2 * 2 * 800 + 400
    assert step.weight_gradient == 2000 + 1000 + 400
    assert step.total == 5000 + 6600 + 3400


def test_step_flop_of_a_frozen_prefix_spends_only_the_forward_pass_on_it():
    step = step_flop(TWO_LAYERS, SETUP, TrainableParts((False, True), False, True, False))
    assert step.forward == 5000
    assert step.activation_gradient == (1000 + 2 * 800) + 400
    assert step.weight_gradient == 1000


def test_step_flop_of_trained_embeddings_sends_the_gradient_through_frozen_layers():
    step = step_flop(TWO_LAYERS, SETUP, TrainableParts((False, True), True, True, False))
    assert step.activation_gradient == (2000 + 2 * 800) + (1000 + 2 * 800) + 400


def test_step_flop_of_the_head_alone_needs_no_activation_gradient():
    step = step_flop(TWO_LAYERS, SETUP, TrainableParts((False, False), False, False, True))
    assert (step.activation_gradient, step.weight_gradient) == (0, 400)


def test_step_flop_of_the_final_norm_alone_passes_back_through_the_head_only():
    step = step_flop(TWO_LAYERS, SETUP, TrainableParts((False, False), False, True, False))
    assert (step.activation_gradient, step.weight_gradient) == (400, 0)


def test_step_flop_with_cached_states_starts_forward_at_the_freeze_depth():
    parts = TrainableParts((False, True), False, True, False)
    step, cached = step_flop(TWO_LAYERS, SETUP, parts), step_flop(TWO_LAYERS, SETUP, parts, cached=True)
    assert cached.forward == (1000 + 800) + 400
    assert (cached.activation_gradient, cached.weight_gradient) == (step.activation_gradient, step.weight_gradient)


def test_step_flop_of_a_supervised_only_loss_counts_supervised_tokens_in_the_head():
    # 0.3 of 10 tokens: the head costs 2 * 3 * 20 = 120 each way
    step = step_flop(TWO_LAYERS, SUPERVISED_ONLY, TrainableParts((True, True), True, True, True))
    assert (step.forward, step.activation_gradient, step.weight_gradient) == (4720, 6320, 3120)


def test_step_flop_of_a_tied_model_trains_head_and_embedding_together():
    either = [TrainableParts((False, True), *flags) for flags in ((True, True, False), (False, True, True))]
    untied = step_flop(TWO_LAYERS, SETUP, TrainableParts((False, True), True, True, True))
    assert [step_flop(TIED_LAYERS, SETUP, parts) for parts in either] == [untied, untied]


def test_step_flop_refuses_parts_of_another_model():
    with pytest.raises(PlanError, match="3 layers, but the model has 2"):
        step_flop(TWO_LAYERS, SETUP, parts_from(1))


def test_step_flop_refuses_cached_states_below_trained_embeddings():
    with pytest.raises(PlanError, match="embeddings"):
        step_flop(TWO_LAYERS, SETUP, parts_from(1, n_layers=2, embeddings=True), cached=True)


def test_run_flop_without_cache_is_steps_times_step():
    # the step of test_step_flop_of_a_frozen_prefix, ten times
    assert run_flop(TWO_LAYERS, SETUP, TrainableParts((False, True), False, True, False)) == 10 * (5000 + 3000 + 1000)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # an epoch of 7 examples is 4 steps; the prefix costs 2000 + 800 a step, the rest 2200 + 3000 + 1000
        (10, 4 * 2800 + 10 * 6200),
        (4, 4 * 2800 + 4 * 6200),
        (3, 3 * 2800 + 3 * 6200),  # fewer examples met than there are
    ],
)
def test_run_flop_with_cache_pays_the_prefix_once_for_each_example_met(steps, expected):
    setup = replace(SETUP, steps=steps, prefix_cache=True)
    assert run_flop(TWO_LAYERS, setup, TrainableParts((False, True), False, True, False)) == expected


# Against torch's counter


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize(("family", "tied"), [("llama", False), ("gpt2", True)])
def test_step_flop_equals_the_counter_for_every_selection(family, tied, tiny_shape, random_tokens, compute_loss):
    model = build_tiny(family, n_layers=2, tied=tied, attention="eager")
    shape, tokens = tiny_shape(model), random_tokens(model, SETUP)
    for parts in all_parts(2):
        set_trainable(model, parts)
        assert count_step(model, tokens, SETUP, compute_loss) == expected_step(shape, SETUP, parts), parts


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("family", VARIANTS)
def test_step_flop_equals_the_counter_whatever_the_family(family, tiny_shape, random_tokens, compute_loss):
    tied = VARIANTS.index(family) % 2 == 1  # in turn; tests/core/test_families.py has the other way
    model = build_tiny(family, n_layers=N_LAYERS, tied=tied, attention="eager")
    shape, tokens = tiny_shape(model), random_tokens(model, SETUP)
    turn = VARIANTS.index(family) % 5 + 1
    for asked in (TELLING_PARTS[0], TELLING_PARTS[turn], TELLING_PARTS[turn % 5 + 1]):
        parts = tied_parts(shape, asked)
        boundary = prepare(model, shape, SETUP, parts)
        assert count_step(model, tokens, SETUP, compute_loss) == expected_step(shape, SETUP, parts), parts
        boundary.remove()


@pytest.mark.parametrize(("k", "head"), [(0, True), (2, False), (N_LAYERS, True), (N_LAYERS, False)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_step_flop_equals_the_counter_for_a_supervised_only_loss(
    family, k, head, tiny_shape, random_tokens, compute_loss
):
    model = build_tiny(family, n_layers=N_LAYERS, tied=False, attention="eager")
    shape, tokens = tiny_shape(model), random_tokens(model, SUPERVISED_ONLY)
    parts = parts_from(k, head=head)
    set_trainable(model, parts)
    counted = count_step(model, tokens, SUPERVISED_ONLY, compute_loss)
    assert counted == expected_step(shape, SUPERVISED_ONLY, parts)


@pytest.mark.parametrize("family", FAMILIES)
def test_step_flop_equals_the_counter_for_other_sizes(family, tiny_shape, random_tokens, compute_loss):
    sizes = {"d_model": 48, "n_heads": 6, "n_kv_heads": 3, "head_dim": 16, "mlp_width": 20, "vocab": 31}
    model = build_tiny(family, n_layers=2, attention="eager", **sizes)
    setup = TrainingSetup(batch_size=3, sequence_length=17, loss="materialised", prefix_cache=False)
    shape, tokens = tiny_shape(model), random_tokens(model, setup)
    parts = parts_from(1, n_layers=2)
    set_trainable(model, parts)
    assert count_step(model, tokens, setup, compute_loss) == expected_step(shape, setup, parts)


@pytest.mark.parametrize("k", [1, N_LAYERS])
@pytest.mark.parametrize("family", FAMILIES)
def test_step_flop_with_cached_states_equals_the_counter_on_the_suffix(family, k, tiny_shape):
    model = build_tiny(family, n_layers=N_LAYERS, tied=False, attention="eager")
    shape, parts = tiny_shape(model), parts_from(k)
    set_trainable(model, parts)
    pieces = find_pieces(model)
    states = torch.randn(SETUP.batch_size, SETUP.sequence_length, shape.d_model)
    del pieces.layers[:k]  # what is left starts from the states that the removed layers would have made
    model.config.num_hidden_layers = N_LAYERS - k
    with FlopCounterMode(display=False) as counter:
        model(inputs_embeds=states, use_cache=False).logits.mean().backward()
    assert counter.get_total_flops() == step_flop(shape, SETUP, parts, cached=True).total


# Limits and identities


@pytest.mark.parametrize("k", [0, 1, 6, 10])
def test_step_flop_approaches_its_limit_when_layer_weights_dominate(k):
    full = step_flop(large_shape(), SETUP, parts_from(0, 10, embeddings=True, head=True)).total
    frozen = step_flop(large_shape(), SETUP, parts_from(k, 10)).total
    assert frozen / full == pytest.approx((3 * 10 - 2 * k) / (3 * 10), abs=1e-4)


@pytest.mark.parametrize("k", [0, 1, 6, 10])
def test_run_flop_of_many_cached_epochs_approaches_the_unfrozen_share(k):
    setup = TrainingSetup(
        batch_size=1, sequence_length=1, train_examples=1, steps=100_000, prefix_cache=True, loss="materialised"
    )
    full = 100_000 * step_flop(large_shape(), setup, parts_from(0, 10, embeddings=True, head=True)).total
    assert run_flop(large_shape(), setup, parts_from(k, 10)) / full == pytest.approx((10 - k) / 10, abs=1e-4)


def test_step_flop_of_every_other_layer_saves_only_their_weight_gradients():
    every_other = TrainableParts((True, False) * 5, False, True, False)
    full = step_flop(large_shape(), SETUP, parts_from(0, 10)).total
    assert step_flop(large_shape(), SETUP, every_other).total / full == pytest.approx(25 / 30, abs=1e-4)


def test_step_flop_of_pure_attention_is_one_forward_and_two_backward():
    shape = large_shape(layer_weights=1, query_width=1_000_000)
    step = step_flop(shape, SETUP, parts_from(0, 10))
    assert step.activation_gradient / step.forward == pytest.approx(2, abs=1e-4)


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=12),
    st.integers(1, 9),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_flop_never_grows_with_freeze_depth_and_a_cache_never_costs_more(weights, steps, examples, head, embeddings):
    L = len(weights)
    shape = large_shape(L, layer_weights=weights)
    setup = TrainingSetup(
        batch_size=2, sequence_length=3, train_examples=examples, steps=steps, loss="materialised", prefix_cache=False
    )
    cached = replace(setup, prefix_cache=True)
    for k in range(L):
        shallow, deep = (parts_from(i, L, head=head, embeddings=embeddings) for i in (k, k + 1))
        assert run_flop(shape, setup, deep) < run_flop(shape, setup, shallow)
        if embeddings:
            continue
        assert run_flop(shape, cached, deep) < run_flop(shape, cached, shallow)
        assert run_flop(shape, cached, deep) <= run_flop(shape, setup, deep)
        if steps <= setup.steps_per_epoch:  # every example is met once: nothing to reuse
            assert run_flop(shape, cached, deep) == run_flop(shape, setup, deep)
