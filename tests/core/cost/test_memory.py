"""Bytes against hand-computed cases, and against what autograd really keeps on tiny models."""

import weakref
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semfreeze_core.cost import run_flop, step_flop, training_bytes
from semfreeze_core.cost.activations import SAVED_BYTES, layer_bytes_per_token
from semfreeze_core.cost.memory import autocast_copy_bytes, loading_bytes
from semfreeze_core.errors import PlanError
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from tests.core.cost.counted_step import prepare
from tests.core.cost.saved_bytes import DTYPES, count_saved_bytes
from tests.core.shapes import TIED_LAYERS, TWO_LAYERS, with_kind
from tests.core.tiny_models import FAMILIES, build_tiny

KNOWN = (*FAMILIES, "mistral", "qwen3")
SETUP = TrainingSetup(batch_size=2, sequence_length=5, loss="materialised", prefix_cache=False)  # 10 tokens
BF16 = replace(SETUP, precision="bf16")
CACHED = replace(SETUP, prefix_cache=True)

TOP_LAYER = TrainableParts((False, True), embeddings=False, final_norm=True, head=False)
TOP_LAYER_AND_EMBEDDINGS = replace(TOP_LAYER, embeddings=True)
EVERYTHING = TrainableParts((True, True), embeddings=True, final_norm=True, head=True)


# By hand


def test_training_bytes_of_float32_adamw_is_four_a_weight_and_twelve_more_a_trained_one():
    n_bytes = training_bytes(TWO_LAYERS, SETUP, TOP_LAYER)
    assert (n_bytes.weights, n_bytes.gradients, n_bytes.optimizer) == (4 * 210, 4 * (58 + 4), 8 * (58 + 4))


def test_training_bytes_of_bfloat16_adamw_halves_them():
    n_bytes = training_bytes(TWO_LAYERS, BF16, TOP_LAYER)
    assert (n_bytes.weights, n_bytes.gradients, n_bytes.optimizer) == (2 * 210, 2 * (58 + 4), 4 * (58 + 4))


def test_training_bytes_of_full_finetuning_is_sixteen_or_eight_a_parameter():
    for setup, expected in ((SETUP, 16 * 210), (BF16, 8 * 210)):
        n_bytes = training_bytes(TWO_LAYERS, setup, EVERYTHING)
        assert n_bytes.weights + n_bytes.gradients + n_bytes.optimizer == expected


def test_micro_batches_keep_what_one_pass_keeps_and_add_the_largest_gradient_once():
    """Of 2 x 5 tokens at once, or 5 at a time: 256 bytes a token and layer, 16 a logit; 100 elements in one matrix."""
    whole, single = (
        training_bytes(TWO_LAYERS, replace(SETUP, micro_batch_size=size), EVERYTHING) for size in (None, 1)
    )
    assert (whole.activations, single.activations) == (10 * 2 * 256, 5 * 2 * 256)
    assert (whole.logits, single.logits) == (16 * 10 * 5, 16 * 5 * 5)
    assert (whole.gradients, single.gradients) == (4 * 210, 4 * 210 + 4 * 100)
    assert (whole.weights, whole.optimizer) == (single.weights, single.optimizer) == (4 * 210, 8 * 210)
    assert training_bytes(TWO_LAYERS, replace(SETUP, micro_batch_size=2), EVERYTHING) == whole
    top = training_bytes(TWO_LAYERS, replace(BF16, micro_batch_size=1), TOP_LAYER)
    assert top.gradients == 2 * (58 + 4) + 2 * 50
    adapters = replace(SETUP, micro_batch_size=1, lora=LoraSetup(3))
    assert training_bytes(TWO_LAYERS, adapters, replace(TOP_LAYER, final_norm=False)).gradients == 4 * (
        3 * (1 + 50) + 3 * 50
    )


@pytest.mark.parametrize("loss", ["materialised", "supervised-only", "chunked", "fused"])
@pytest.mark.parametrize("checkpointing", ["none", "reentrant"])
def test_micro_batches_take_what_a_batch_of_their_size_takes_and_the_flops_of_the_whole(loss, checkpointing):
    setup = replace(SETUP, batch_size=8, supervised_fraction=0.5, loss=loss, checkpointing=checkpointing)
    pieces, small = replace(setup, micro_batch_size=2), replace(setup, batch_size=2)
    ours, theirs = (training_bytes(TWO_LAYERS, one, TOP_LAYER) for one in (pieces, small))
    assert (ours.activations, ours.logits) == (theirs.activations, theirs.logits)
    assert step_flop(TWO_LAYERS, pieces, TOP_LAYER) == step_flop(TWO_LAYERS, setup, TOP_LAYER)
    assert run_flop(TWO_LAYERS, pieces, TOP_LAYER) == run_flop(TWO_LAYERS, setup, TOP_LAYER)
    assert pieces.steps_per_epoch == setup.steps_per_epoch


def test_a_pass_adds_its_gradients_one_tensor_at_a_time():
    """What the estimate counts, on torch: gradients of earlier passes, and the largest tensor's new one."""
    layers = torch.nn.Sequential(*(torch.nn.Linear(n, m, bias=False) for n, m in ((30, 200), (200, 40), (40, 1))))

    def peak_of(passes):
        layers.zero_grad(set_to_none=True)
        with PeakOfLargeTensors(4 * 30 * 200) as memory:
            for _ in range(passes):
                layers(torch.ones(1, 30)).sum().backward()
        return memory.peak

    assert peak_of(3) - peak_of(1) == 4 * 200 * 40


def test_training_bytes_counts_a_tied_head_once():
    assert training_bytes(TIED_LAYERS, SETUP, EVERYTHING).weights == 4 * 190
    assert training_bytes(TIED_LAYERS, SETUP, replace(EVERYTHING, embeddings=False)).gradients == 4 * 190


def test_training_bytes_with_a_prefix_cache_leaves_frozen_layers_and_embedding_off_the_device():
    assert training_bytes(TWO_LAYERS, CACHED, TOP_LAYER).weights == 4 * (58 + 4 + 20)


def test_training_bytes_with_a_prefix_cache_keeps_a_tied_embedding_for_the_head():
    assert training_bytes(TIED_LAYERS, CACHED, TOP_LAYER).weights == 4 * (58 + 4 + 20)


def test_training_bytes_with_a_prefix_cache_at_freeze_depth_0_is_without_one():
    assert training_bytes(TWO_LAYERS, CACHED, EVERYTHING) == training_bytes(TWO_LAYERS, SETUP, EVERYTHING)


def test_loading_bytes_are_those_of_the_whole_model_without_a_cache_that_stands_in_for_layers():
    assert loading_bytes(TWO_LAYERS, SETUP, TOP_LAYER) == int(4 * 210 * 1.1)
    assert loading_bytes(TWO_LAYERS, replace(CACHED, prefix_off_device=False), TOP_LAYER) == int(4 * 210 * 1.1)
    assert loading_bytes(TWO_LAYERS, CACHED, EVERYTHING) == int(4 * 210 * 1.1)


def test_loading_bytes_with_a_cache_are_those_of_what_stays_and_of_the_largest_part_on_its_way():
    layer = TWO_LAYERS.layers[0].parameters
    assert layer > TWO_LAYERS.embedding_parameters
    assert loading_bytes(TWO_LAYERS, CACHED, TOP_LAYER) == int(4 * (58 + 4 + 20 + layer) * 1.1)
    largest = replace(TWO_LAYERS, embedding_parameters=layer + 1)
    assert loading_bytes(largest, CACHED, TOP_LAYER) == int(4 * (58 + 4 + 20 + layer + 1) * 1.1)
    assert loading_bytes(TIED_LAYERS, replace(CACHED, precision="bf16"), TOP_LAYER) == int(2 * 190 * 1.1), "layer 0"


def test_training_bytes_refuses_a_prefix_cache_below_trained_embeddings():
    with pytest.raises(PlanError, match="embeddings"):
        training_bytes(TWO_LAYERS, CACHED, TOP_LAYER_AND_EMBEDDINGS)


@pytest.mark.parametrize(
    ("setup", "trained", "traversed"),
    [
        # 24 d + 8 q + 8 kv + 16 f + 4 heads + 8, and 8 d + 8 q + 8 kv + 12 f + 4 heads + 8
        (SETUP, 96 + 32 + 16 + 96 + 8 + 8, 32 + 32 + 16 + 72 + 8 + 8),
        # 16 d + 4 q + 4 kv + 8 f + 4 heads + 8, and 8 d + 4 q + 4 kv + 6 f + 4 heads + 8
        (BF16, 64 + 16 + 8 + 48 + 8 + 8, 32 + 16 + 8 + 36 + 8 + 8),
    ],
    ids=["float32", "bf16"],
)
def test_training_bytes_of_activations_is_the_hand_computed_sum(setup, trained, traversed):
    assert training_bytes(TWO_LAYERS, setup, EVERYTHING).activations == 10 * 2 * trained
    assert training_bytes(TWO_LAYERS, setup, TOP_LAYER).activations == 10 * trained
    assert training_bytes(TWO_LAYERS, setup, TOP_LAYER_AND_EMBEDDINGS).activations == 10 * (trained + traversed)


def test_training_bytes_of_an_unknown_layer_kind_says_so():
    n_bytes = training_bytes(with_kind(TWO_LAYERS, "other"), SETUP, TOP_LAYER)
    assert (n_bytes.activations, n_bytes.total) == (None, None)
    assert n_bytes.weights == 4 * 210


def test_training_bytes_of_logits_counts_the_tokens_that_get_them():
    supervised_only = {"supervised_fraction": 0.3, "loss": "supervised-only"}  # 3 of 10 tokens
    assert training_bytes(TWO_LAYERS, SETUP, TOP_LAYER).logits == 16 * 10 * 5
    assert training_bytes(TWO_LAYERS, BF16, TOP_LAYER).logits == 14 * 10 * 5
    assert training_bytes(TWO_LAYERS, replace(SETUP, **supervised_only), TOP_LAYER).logits == 16 * 3 * 5


def test_training_bytes_total_is_the_sum_of_its_parts():
    assert training_bytes(TWO_LAYERS, SETUP, TOP_LAYER).total == 840 + 248 + 496 + 2560 + 800


def test_saved_bytes_of_a_traversed_layer_never_exceed_those_of_a_trained_one():
    for (kind, precision, role), saved in SAVED_BYTES.items():
        if role == "traversed":
            assert all(a <= b for a, b in zip(saved, SAVED_BYTES[kind, precision, "trained"], strict=True))


# Against what autograd keeps

SIZES = [  # batch, sequence, and sizes that tell every coefficient apart
    (2, 6, {"d_model": 32, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "mlp_width": 48}),
    (3, 33, {"d_model": 48, "n_heads": 6, "n_kv_heads": 3, "head_dim": 16, "mlp_width": 20}),
    (1, 17, {"d_model": 40, "n_heads": 5, "n_kv_heads": 1, "head_dim": 12, "mlp_width": 36}),
    (2, 64, {"d_model": 24, "n_heads": 3, "n_kv_heads": 3, "head_dim": 4, "mlp_width": 72}),
]


PRECISIONS = ("float32", "bf16-autocast", "bf16")
# Sizes in turn: each meets every precision and both roles, and a family meets most of them.
KEPT_CASES = [
    (family, role, precision, SIZES[(i + j + 2 * k) % len(SIZES)])
    for i, family in enumerate(KNOWN)
    for j, precision in enumerate(PRECISIONS)
    for k, role in enumerate(("trained", "traversed"))
]


@pytest.mark.quick_cases(6)
@pytest.mark.parametrize(("family", "role", "precision", "sizes"), KEPT_CASES)
def test_layer_bytes_per_token_equals_what_one_more_layer_keeps(
    family, role, precision, sizes, tiny_shape, random_tokens
):
    batch_size, sequence_length, widths = sizes
    setup = TrainingSetup(
        batch_size=batch_size,
        sequence_length=sequence_length,
        precision=precision,
        loss="materialised",
        prefix_cache=False,
    )
    saved, copies = [], []
    for n_layers in (1, 2):
        model = build_tiny(family, n_layers=n_layers, **widths)
        shape = tiny_shape(model)
        parts = TrainableParts((role == "trained",) * n_layers, embeddings=True, final_norm=True, head=False)
        prepare(model, shape, setup, parts)
        saved.append(count_saved_bytes(model, random_tokens(model, setup), setup))
        copies.append(autocast_copy_bytes(shape, setup, parts))
    predicted = layer_bytes_per_token(shape.layers[0], widths["d_model"], precision, role)
    assert saved[1] - saved[0] == setup.tokens_per_step * predicted + copies[1] - copies[0]


# Depths in turn, with and without embeddings and head in turn with them.
LEFT_OUT_CASES = [
    (family, depth, ends, ends, precision)
    for i, family in enumerate(KNOWN)
    for j, precision in enumerate(PRECISIONS)
    for depth, ends in [((0, 1, 3, 4)[(i + j) % 4], (i + j) % 8 < 4), ((1, 3, 4, 0)[(i + j) % 4], (i + j) % 8 >= 4)]
]


@pytest.mark.parametrize(("family", "k", "embeddings", "head", "precision"), LEFT_OUT_CASES)
def test_training_bytes_of_activations_leaves_out_little_of_what_is_kept(
    family, k, embeddings, head, precision, tiny_shape, random_tokens
):
    model = build_tiny(family, n_layers=4, tied=False)
    shape, setup = tiny_shape(model), replace(SETUP, precision=precision)
    parts = TrainableParts(tuple(i >= k for i in range(4)), embeddings, final_norm=True, head=head)
    prepare(model, shape, setup, parts)
    saved = count_saved_bytes(model, random_tokens(model, setup), setup)
    left_out = saved - training_bytes(shape, setup, parts).activations - autocast_copy_bytes(shape, setup, parts)
    final_norm_and_head_input = (14 * shape.d_model + 8) * setup.tokens_per_step
    token_ids = 2 * 8 * setup.tokens_per_step
    rotary_tables = 2 * 4 * shape.layers[0].head_dim * setup.sequence_length
    assert 0 < left_out <= final_norm_and_head_input + token_ids + rotary_tables


def test_training_bytes_of_activations_overstates_an_rmsnorm_that_passes_nothing_down(tiny_shape, random_tokens):
    model = build_tiny("llama", n_layers=2)
    shape, parts = tiny_shape(model), TrainableParts((False, True), False, True, False)
    prepare(model, shape, SETUP, parts, boundary=False)
    stopped = count_saved_bytes(model, random_tokens(model, SETUP), SETUP)
    prepare(model, shape, SETUP, parts)
    through = count_saved_bytes(model, random_tokens(model, SETUP), SETUP)
    assert through - stopped == (4 * 32 + 4) * SETUP.tokens_per_step


@pytest.mark.parametrize(
    ("family", "precision", "micro_batch_size"),
    [
        ("llama", "float32", None),
        ("gpt2", "bf16-autocast", None),
        ("gpt_neox", "bf16", None),
        ("qwen2", "bf16-autocast", None),
        ("llama", "float32", 2),
        ("qwen2", "bf16-autocast", 2),
    ],
)
def test_training_bytes_of_logits_equals_the_peak_of_the_usual_loss(
    family, precision, micro_batch_size, tiny_shape, random_tokens
):
    setup = TrainingSetup(
        batch_size=2 if micro_batch_size is None else 4, sequence_length=32, precision=precision, loss="materialised",
        prefix_cache=False, micro_batch_size=micro_batch_size,
    )  # fmt: skip
    sizes = {"d_model": 16, "n_heads": 2, "n_kv_heads": 2, "head_dim": 8, "mlp_width": 8, "vocab": 4096}
    model = build_tiny(family, n_layers=1, **sizes).to(DTYPES[precision])
    tokens = random_tokens(model, setup)
    examples = setup.examples_per_pass
    with PeakOfLargeTensors(at_least_bytes=2 * examples * setup.sequence_length * 4096) as memory:
        for start in range(0, setup.batch_size, examples):
            of_pass = tokens[start : start + examples]
            with torch.autocast("cpu", torch.bfloat16) if precision == "bf16-autocast" else nullcontext():
                output = model(input_ids=of_pass, labels=of_pass, use_cache=False)
            output.loss.backward()
            del output
    assert memory.peak == training_bytes(tiny_shape(model), setup, TrainableParts((True,), True, True, True)).logits


class PeakOfLargeTensors(TorchDispatchMode):
    """Most bytes of large storages alive at once, whoever holds them."""

    def __init__(self, at_least_bytes):
        super().__init__()
        self.at_least_bytes = at_least_bytes
        self.alive = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.watch(value.untyped_storage())
        self.peak = max(self.peak, sum(self.alive.values()))
        return result

    def watch(self, storage):
        address = storage.data_ptr()
        if storage.nbytes() >= self.at_least_bytes and address not in self.alive:
            self.alive[address] = storage.nbytes()
            weakref.finalize(storage, self.alive.pop, address)
