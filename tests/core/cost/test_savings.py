"""Changes of a setup that save memory: each priced as a setup of its own, and the cheapest set that fits."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import cheapest_fit, depth_cost, find_gpu, parts_at_depth, savings
from semfreeze_core.records.training import TrainingSetup
from tests.core.shapes import TWO_LAYERS, with_kind

SETUP = TrainingSetup(
    batch_size=2, sequence_length=5, train_examples=7, steps=10, loss="materialised", supervised_fraction=0.2,
    prefix_cache=False,
)  # fmt: skip
A10 = find_gpu("A10")
HALF = parts_at_depth(TWO_LAYERS, 1)


def card(memory_bytes):
    return replace(A10, memory_bytes=memory_bytes)


def total(setup, parts=HALF):
    return depth_cost(TWO_LAYERS, setup, parts).bytes.total


def test_savings_are_differences_of_costs_largest_first():
    options = savings(TWO_LAYERS, SETUP, HALF, A10)
    assert options
    assert [one.saved_bytes for one in options] == sorted((one.saved_bytes for one in options), reverse=True)
    for one in options:
        assert one.setup == replace(SETUP, **dict(one.options))
        assert one.saved_bytes == total(SETUP) - total(one.setup) > 0
    by_name = {one.options[0][0]: one for one in options if one.options != (("loss", "chunked"),)}
    # 8 of 10 tokens' logits, 5 rows each, 4 copies' worth in float32: what logits_bytes counts.
    assert by_name["loss"].saved_bytes == depth_cost(TWO_LAYERS, SETUP, HALF).bytes.logits * 8 // 10
    assert by_name["loss"].same_result
    assert not by_name["optimizer"].same_result
    assert by_name["prefix_cache"].flop_ratio < 1
    full = {one.options[0][0]: one for one in savings(TWO_LAYERS, SETUP, parts_at_depth(TWO_LAYERS, 0))}
    assert full["checkpointing"].flop_ratio > 1


def test_what_is_on_is_not_proposed():
    lean = replace(
        SETUP, loss="chunked", prefix_cache=True, checkpointing="non-reentrant", precision="bf16",
        optimizer="adamw8bit",
    )  # fmt: skip
    assert savings(TWO_LAYERS, lean, HALF, A10) == []
    full = parts_at_depth(TWO_LAYERS, 0)
    assert "prefix_cache" not in {one.options[0][0] for one in savings(TWO_LAYERS, SETUP, full)}


def test_the_cheapest_fit_keeps_the_result_where_it_can():
    assert cheapest_fit(TWO_LAYERS, SETUP, HALF, card(total(SETUP))) is None  # it fits as it is
    best = cheapest_fit(TWO_LAYERS, SETUP, HALF, card(total(SETUP) - 1))
    assert best.same_result
    assert best.options == (("loss", "supervised-only"), ("prefix_cache", True))  # both save compute as well
    every = [one for one in savings(TWO_LAYERS, SETUP, HALF, A10) if one.same_result]
    changed = replace(SETUP, **{name: value for one in reversed(every) for name, value in one.options})
    least = total(changed)
    together = cheapest_fit(TWO_LAYERS, SETUP, HALF, card(least))
    assert together.same_result
    assert together.cost.bytes.total <= least
    pieces = cheapest_fit(TWO_LAYERS, SETUP, HALF, card(least - 1))
    assert dict(pieces.options)["micro_batch_size"] == 1
    below = cheapest_fit(TWO_LAYERS, SETUP, HALF, card(total(replace(changed, micro_batch_size=1)) - 1))
    assert not below.same_result
    assert cheapest_fit(TWO_LAYERS, SETUP, HALF, card(1)) is None


def test_where_it_must_fit_the_largest_micro_batches_that_do_are_proposed_at_no_compute():
    setup = replace(SETUP, batch_size=8, loss="chunked", prefix_cache=True, checkpointing="non-reentrant")
    sizes = {size: total(replace(setup, micro_batch_size=size)) for size in (None, 4, 2, 1)}
    assert sizes[None] > sizes[4] > sizes[2] > sizes[1]
    for size in (4, 2, 1):
        fitting = cheapest_fit(TWO_LAYERS, setup, HALF, card(sizes[size]))
        assert (fitting.options, fitting.flop_ratio, fitting.same_result) == ((("micro_batch_size", size),), 1, True)
    named = replace(setup, micro_batch_size=2)
    assert cheapest_fit(TWO_LAYERS, named, HALF, card(sizes[1])).options == (("micro_batch_size", 1),)
    assert not cheapest_fit(TWO_LAYERS, setup, HALF, card(sizes[1] - 1)).same_result
    assert all(dict(one.options).keys() != {"micro_batch_size"} for one in savings(TWO_LAYERS, setup, HALF, A10))


def test_nothing_is_proposed_where_memory_is_unknown():
    unknown = with_kind(TWO_LAYERS, "other")
    assert savings(unknown, SETUP, HALF) == []
    assert cheapest_fit(unknown, SETUP, HALF, card(1)) is None


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_each_saving_keeps_to_its_parts(depth):
    parts = parts_at_depth(TWO_LAYERS, depth)
    assert all(one.cost.freeze_depth == depth for one in savings(TWO_LAYERS, SETUP, parts))


def test_what_only_some_devices_can_do_is_proposed_for_them_alone():
    def proposed(gpu):
        return {one.options[0][0] for one in savings(TWO_LAYERS, SETUP, HALF, gpu)}

    assert proposed(A10) >= {"precision", "optimizer"}
    assert "precision" not in proposed(find_gpu("T4"))
    assert not {"precision", "optimizer"} & proposed(None)


def test_logits_in_chunks_are_the_largest_saving_of_a_large_vocabulary_and_cost_no_compute():
    wide = replace(TWO_LAYERS, vocab_rows=50_000, head_linear_weights=50_000 * TWO_LAYERS.d_model)
    setup = replace(SETUP, batch_size=8, sequence_length=512, supervised_fraction=0.5, loss="supervised-only")
    first = savings(wide, setup, HALF)[0]
    assert (first.options, first.flop_ratio, first.same_result) == ((("loss", "chunked"),), 1, True)
    assert first.saved_bytes > 0.8 * depth_cost(wide, setup, HALF).bytes.logits
