"""Numbers that others have published, reached with our formulas; each test is named after its table."""

import pytest

from semfreeze_core.cost import adapter_parameters, step_flop, training_bytes
from semfreeze_core.cost.memory import quantized_parameters, weight_bytes
from semfreeze_core.records.model import LayerShape, Matrix, ModelShape
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup

ONE = Matrix("only", 1, 1)
FLAT = {"n_heads": 1, "n_kv_heads": 1, "head_dim": 1, "mlp_width": 1}


def square_attention(d_model):
    """A layer's four attention matrices, which is where the LoRA paper puts its adapters."""
    names = ("query", "key", "value", "output")
    return LayerShape(4 * d_model**2, tuple(Matrix(n, d_model, d_model) for n in names), **FLAT, kind="other")


@pytest.mark.parametrize(
    ("n_layers", "d_model", "rank", "targets", "millions"),
    [
        (12, 768, 8, ("query", "value"), 0.3),  # RoBERTa base, table 2
        (24, 1024, 8, ("query", "value"), 0.8),  # RoBERTa large, table 2
        (48, 1536, 16, ("query", "value"), 4.7),  # DeBERTa XXL, table 2
        (96, 12288, 1, ("query", "value"), 4.7),  # GPT-3 175B, table 4
        (96, 12288, 8, ("query", "value"), 37.7),  # GPT-3 175B, table 4
    ],
)
def test_lora_paper_tables_2_and_4_of_trainable_parameters(n_layers, d_model, rank, targets, millions):
    # Hu et al. 2021, https://arxiv.org/abs/2106.09685
    parameters = n_layers * adapter_parameters(square_attention(d_model), LoraSetup(rank, targets))
    assert parameters / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("rank", "targets"),
    [
        (8, ("query",)),
        (8, ("key",)),
        (8, ("value",)),
        (8, ("output",)),
        (4, ("query", "key")),
        (4, ("query", "value")),
        (2, ("query", "key", "value", "output")),
    ],
)
def test_lora_paper_table_5_spends_18_million_parameters_on_each_choice(rank, targets):
    # Hu et al. 2021, table 5: GPT-3 175B, "all with the same number of trainable parameters", 18M
    assert 96 * adapter_parameters(square_attention(12288), LoraSetup(rank, targets)) == 18_874_368


def model_of(parameters, matrix=ONE, layers=1, **sizes):
    layer = LayerShape(parameters // layers, (matrix,), **({**FLAT, **sizes}), kind="other")
    rest = {"embedding_parameters": 0, "final_norm_parameters": 0, "head_parameters": 0, "head_linear_weights": 1}
    return ModelShape(1, 1, False, (layer,), (0,) * layers, **rest, max_positions=None)


def test_zero_paper_figure_1_of_16_bytes_a_parameter():
    # Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054: 7.5 billion parameters take 120 GB with Adam
    n_bytes = training_bytes(
        model_of(7_500_000_000),
        TrainingSetup(loss="materialised", prefix_cache=False),
        TrainableParts((True,), False, False, False),
    )
    assert n_bytes.weights + n_bytes.gradients + n_bytes.optimizer == 120 * 10**9


def test_qlora_paper_section_3_of_half_a_bit_for_quantization_constants():
    # Dettmers et al. 2023, https://arxiv.org/abs/2305.14314: 32-bit constants for blocks of 64, 32/64 bit a number
    shape = model_of(64_000_000, Matrix("only", 8_000, 8_000))
    setup = TrainingSetup(precision="bf16", frozen_bits=4, lora=LoraSetup(1), loss="materialised", prefix_cache=False)
    parts = TrainableParts((True,), False, False, False)
    assert quantized_parameters(shape, setup, parts) == 64_000_000
    adapters = 4 * 16_000
    assert (weight_bytes(shape, setup, parts) - adapters) * 8 / 64_000_000 == 4 + 32 / 64


def test_palm_appendix_b_of_6_n_plus_12_l_h_q_t_flop_a_token():
    # Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311: N parameters that are multiplied, L layers, H heads of
    # width Q, sequences of T tokens
    weights, layers, heads, width, tokens = 1_000_000, 6, 8, 64, 2048
    shape = model_of(layers * weights, Matrix("only", 1000, 1000), layers, n_heads=heads, head_dim=width)
    setup = TrainingSetup(batch_size=1, sequence_length=tokens, loss="materialised", prefix_cache=False)
    step = step_flop(shape, setup, TrainableParts((True,) * layers, True, True, True))
    n = layers * weights + 1  # and the head's one
    assert step.total == tokens * (6 * n + 12 * layers * heads * width * tokens)
