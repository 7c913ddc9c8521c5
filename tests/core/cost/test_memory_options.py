"""Bytes under every optimizer, precision, quantization and loss, by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest

from semfreeze_core.cost import cost_table, full_cost, step_flop, training_bytes
from semfreeze_core.records.model import LayerShape, Matrix, ModelShape
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup

SETUP = TrainingSetup(batch_size=2, sequence_length=5, loss="materialised", prefix_cache=False)  # 10 tokens

# Two layers of 110 parameters, 100 of them in matrices of 4 x 20 and 5 x 4; embedding and head 20 each, norm 4: 264.
LAYER = LayerShape(110, (Matrix("up", 4, 20), Matrix("down", 5, 4)), 2, 1, 2, 6, "gated-rmsnorm")
MODEL = ModelShape(4, 5, False, (LAYER,), (0, 0), 20, 4, 20, 20, None)
TOP = TrainableParts((False, True), embeddings=False, final_norm=True, head=False)  # 114 trained
FULL = TrainableParts((True, True), embeddings=True, final_norm=True, head=True)
ADAPTED = TrainableParts((False, True), embeddings=False, final_norm=False, head=False)


@pytest.mark.parametrize(
    ("optimizer", "precision", "frozen", "trained"),
    [
        ("adamw", "float32", 4, 16),
        ("adamw8bit", "float32", 4, 10),
        ("sgd", "float32", 4, 8),
        ("adamw", "bf16", 2, 8),
        ("adamw8bit", "bf16", 2, 6),
        ("sgd", "bf16", 2, 4),
    ],
)
def test_training_bytes_a_frozen_and_a_trained_parameter(optimizer, precision, frozen, trained):
    setup = replace(SETUP, optimizer=optimizer, precision=precision)
    for parts, n_trained in ((TOP, 114), (FULL, 264)):
        n_bytes = training_bytes(MODEL, setup, parts)
        total = n_bytes.weights + n_bytes.gradients + n_bytes.optimizer
        assert total == frozen * (264 - n_trained) + trained * n_trained


def test_training_bytes_under_autocast_adds_a_copy_of_each_matrix_in_the_graph():
    autocast = replace(SETUP, precision="bf16-autocast")
    for parts, matrices in ((TOP, 100 + 20), (replace(TOP, embeddings=True), 200 + 20), (FULL, 200 + 20)):
        plain, n_bytes = training_bytes(MODEL, SETUP, parts), training_bytes(MODEL, autocast, parts)
        assert n_bytes.weights == plain.weights + 2 * matrices
        assert (n_bytes.gradients, n_bytes.optimizer) == (plain.gradients, plain.optimizer)


@pytest.mark.parametrize(("bits", "bytes_of_100"), [(8, 100), (4, 57)])  # 56.25 rounded up
@pytest.mark.parametrize(("precision", "number"), [("float32", 4), ("bf16", 2)])
def test_training_bytes_quantizes_the_matrices_of_frozen_layers_alone(precision, number, bits, bytes_of_100):
    setup = replace(SETUP, precision=precision, frozen_bits=bits)
    assert training_bytes(MODEL, setup, TOP).weights == number * (264 - 100) + bytes_of_100
    assert training_bytes(MODEL, setup, FULL) == training_bytes(MODEL, replace(setup, frozen_bits=None), FULL)


def test_training_bytes_of_qlora_quantizes_the_base_of_adapted_layers_too():
    # adapters of rank 1: (4 + 20) + (5 + 4) = 33 parameters of 4 bytes
    setup = replace(SETUP, precision="bf16", frozen_bits=4, lora=LoraSetup(1))
    n_bytes = training_bytes(MODEL, setup, ADAPTED)
    assert n_bytes.weights == 2 * (264 - 200) + 113 + 4 * 33  # 112.5 rounded up
    assert (n_bytes.gradients, n_bytes.optimizer) == (4 * 33, 8 * 33)
    assert training_bytes(MODEL, replace(setup, optimizer="adamw8bit"), ADAPTED).optimizer == 2 * 33
    assert training_bytes(MODEL, replace(setup, optimizer="sgd"), ADAPTED).optimizer == 0


def test_training_bytes_under_autocast_casts_no_quantized_matrix():
    setup = replace(SETUP, precision="bf16-autocast", frozen_bits=8, lora=LoraSetup(1))
    assert training_bytes(MODEL, setup, ADAPTED).weights == 4 * (264 - 200) + 200 + 4 * 33 + 2 * (20 + 33)


def test_training_bytes_keeps_the_prefix_on_the_device_when_told():
    cached = replace(SETUP, prefix_cache=True)
    on_device = replace(cached, prefix_off_device=False)
    assert training_bytes(MODEL, cached, TOP).weights == 4 * (264 - 110 - 20)
    assert training_bytes(MODEL, on_device, TOP).weights == 4 * 264
    assert training_bytes(MODEL, replace(on_device, frozen_bits=8), TOP).weights == 4 * (264 - 100) + 100
    assert training_bytes(MODEL, replace(cached, frozen_bits=8), TOP) == training_bytes(MODEL, cached, TOP)


@pytest.mark.parametrize(
    ("tokens", "rows", "width", "chunk"),
    [
        (10, 5, 4, 8),  # 2 chunks of 5, rounded up to a power of two
        (10, 4, 4, 10),  # one chunk is all
        (16384, 32000, 4096, 2048),  # the example in Liger's own code
        (4096, 128256, 4096, 128),
    ],
)
@pytest.mark.parametrize(("precision", "logit", "state"), [("float32", 4, 4), ("bf16-autocast", 2, 4), ("bf16", 2, 2)])
def test_training_bytes_of_a_fused_loss_is_a_chunk_and_the_gradient_of_the_heads_input(
    precision, logit, state, tokens, rows, width, chunk
):
    shape = replace(MODEL, vocab_rows=rows, head_linear_weights=rows * width)
    setup = replace(SETUP, batch_size=1, sequence_length=tokens, loss="fused", precision=precision)
    logits_bytes = training_bytes(shape, setup, TOP).logits
    assert logits_bytes == logit * chunk * rows + state * tokens * width + 4 * tokens


@pytest.mark.parametrize(
    ("tokens", "fraction", "rows", "width", "chunk"),
    [
        (10, 1.0, 5, 4, 10),  # one chunk is all
        (10, 0.5, 5, 4, 5),  # of target tokens alone
        (4096, 1.0, 128256, 4096, 130),  # 256 MiB / (16 bytes x 128,256) = 130.8
        (4096, 1.0, 2**25, 64, 1),  # never less than one token
    ],
)
@pytest.mark.parametrize(
    ("precision", "logit", "state"), [("float32", 16, 4), ("bf16-autocast", 14, 4), ("bf16", 14, 2)]
)
def test_training_bytes_of_a_chunked_loss_is_a_chunk_and_the_gradient_of_the_heads_input_of_target_tokens(
    precision, logit, state, tokens, fraction, rows, width, chunk
):
    shape = replace(MODEL, vocab_rows=rows, head_linear_weights=rows * width)
    setup = replace(
        SETUP, batch_size=1, sequence_length=tokens, supervised_fraction=fraction, loss="chunked", precision=precision
    )
    assert training_bytes(shape, setup, TOP).logits == logit * chunk * rows + state * round(tokens * fraction) * width
    assert step_flop(shape, setup, TOP) == step_flop(shape, replace(setup, loss="supervised-only"), TOP)


def test_training_bytes_of_logits_fall_from_materialised_to_fused():
    shape = replace(MODEL, vocab_rows=128256, head_linear_weights=128256 * 4096)
    setup = replace(SETUP, batch_size=8, sequence_length=1024, supervised_fraction=0.25)
    sizes = [
        training_bytes(shape, replace(setup, loss=loss), TOP).logits
        for loss in ("materialised", "supervised-only", "fused")
    ]
    assert sizes[1] == sizes[0] / 4
    assert sizes[2] < sizes[0] / 50


def test_cost_table_is_relative_to_full_finetuning_without_what_only_frozen_weights_have():
    setup = replace(SETUP, precision="bf16", frozen_bits=4, optimizer="adamw8bit")
    assert full_cost(MODEL, setup) == full_cost(MODEL, replace(setup, frozen_bits=None))
    assert cost_table(MODEL, setup)[0] == full_cost(MODEL, setup)
    assert (
        cost_table(MODEL, setup)[1].relative_bytes
        < cost_table(MODEL, replace(setup, frozen_bits=None))[1].relative_bytes
    )


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "bf16-autocast", "bf16"])
@pytest.mark.parametrize("checkpointing", ["none", "non-reentrant", "reentrant", "transformers-5"])
def test_cost_table_never_rises_with_the_depth(optimizer, precision, checkpointing):
    setup = replace(SETUP, optimizer=optimizer, precision=precision, checkpointing=checkpointing, frozen_bits=4)
    table = cost_table(MODEL, setup)
    for shallow, deep in pairwise(table):
        assert deep.flop < shallow.flop
        assert deep.bytes.total < shallow.bytes.total
