"""Adapters: FLOP to torch's counter, bytes to what autograd keeps, targets, and what LoRA can save at most."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import (
    check_targets,
    compare_costs,
    cost_table,
    lora_cost,
    parts_at_depth,
    step_flop,
    training_bytes,
)
from semfreeze_core.cost.activations import adapter_bytes_per_token, layer_bytes_per_token
from semfreeze_core.cost.lora import adaptable_matrices, adapted_matrices
from semfreeze_core.cost.memory import autocast_copy_bytes
from semfreeze_core.errors import PlanError
from semfreeze_core.records.model import LayerShape, Matrix
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from semfreeze_core.sources.models.named_shape import named_shape
from semfreeze_core.wording.costs import cost_notes
from tests.core.cost.counted_step import count_step, expected_step, prepare
from tests.core.cost.saved_bytes import count_saved_bytes
from tests.core.shapes import TWO_LAYERS, with_kind
from tests.core.tiny_models import FAMILIES, VARIANTS, build_tiny

SETUP = TrainingSetup(batch_size=2, sequence_length=5, loss="materialised", prefix_cache=False)


def ends(shape):
    """Targets: the first matrix of a layer, and its last."""
    names = [matrix.name for matrix in adaptable_matrices(shape.layers[0])]
    return (names[0], names[-1])


# Against torch's counter


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("family", VARIANTS)
def test_step_flop_with_lora_equals_the_counter(family, tiny_shape, random_tokens, compute_loss):
    cases = [
        (0, (False, False, False), True),
        (1, (False, False, False), False),
        (2, (False, True, False), True),
        (1, (True, True, True), False),
    ]
    # two in turn, one of each choice of targets; Llama and GPT-2 meet all
    for k, others, all_linear in cases if family in ("llama", "gpt2") else cases[VARIANTS.index(family) % 3 :][:2]:
        parts = TrainableParts(tuple(i >= k for i in range(3)), *others)
        model = build_tiny(family, n_layers=3, attention="eager")
        shape = tiny_shape(model)
        setup = replace(SETUP, lora=LoraSetup(3) if all_linear else LoraSetup(5, ends(shape)))
        prepare(model, shape, setup, parts)
        counted = count_step(model, random_tokens(model, setup), setup, compute_loss)
        assert counted == expected_step(shape, setup, parts), parts


def test_step_flop_with_lora_overstates_a_first_layer_whose_input_requires_no_gradient(
    tiny_shape, random_tokens, compute_loss
):
    # PEFT without checkpointing at depth 0: nothing flows back through q, k and v, nor through their three A's
    model = build_tiny("llama", n_layers=2, attention="eager")
    shape, parts = tiny_shape(model), TrainableParts((True, True), False, False, False)
    setup = replace(SETUP, lora=LoraSetup(3))
    prepare(model, shape, setup, parts, boundary=False)
    counted = count_step(model, random_tokens(model, setup), setup, compute_loss)
    reading = [matrix for matrix in shape.layers[0].matrices if matrix.name.endswith(("q_proj", "k_proj", "v_proj"))]
    skipped = 2 * setup.tokens_per_step * sum(m.parameters + 3 * m.inputs for m in reading)
    assert expected_step(shape, setup, parts)[1] - counted[1] == skipped


# By hand

LAYER = LayerShape(
    parameters=200,
    matrices=(Matrix("self_attn.q_proj", 4, 8), Matrix("mlp.gate", 4, 3), Matrix("mlp.experts.up", 4, 6, 3, 2)),
    n_heads=1,
    n_kv_heads=1,
    head_dim=1,
    mlp_width=1,
    kind="other",
)
ONE_MATRIX = with_kind(TWO_LAYERS, "other")  # a layer


def test_adapted_matrices_leaves_out_experts_and_their_router():
    assert [m.name for m in adapted_matrices(LAYER, LoraSetup(2))] == ["self_attn.q_proj"]


@pytest.mark.parametrize(
    ("target", "hit"),
    [("q_proj", True), ("self_attn.q_proj", True), ("all-linear", True), ("proj", False), ("self_attn", False)],
)
def test_adapted_matrices_matches_whole_ends_of_names(target, hit):
    assert bool(adapted_matrices(LAYER, LoraSetup(2, (target,)))) is hit


def test_check_targets_names_what_misses_and_what_there_is():
    check_targets(ONE_MATRIX, LoraSetup(2, ("only",)))
    with pytest.raises(PlanError, match=r"LoRA targets x, y match no matrix of the layers\. Available: only"):
        check_targets(ONE_MATRIX, LoraSetup(2, ("x", "only", "y")))


def test_step_flop_with_lora_is_the_hand_computed_sum():
    # the matrices are 1 x 100 and 1 x 50; rank 2 adds 2 * 10 * 2 * 101 = 4040 and 2 * 10 * 2 * 51 = 2040
    setup = replace(SETUP, lora=LoraSetup(2))
    step = step_flop(ONE_MATRIX, setup, TrainableParts((False, True), False, False, False))
    assert step.forward == (2000 + 800) + (1000 + 800 + 2040) + 400
    assert step.activation_gradient == (1000 + 1600 + 2040) + 400
    assert step.weight_gradient == 2040
    both = step_flop(ONE_MATRIX, setup, TrainableParts((True, True), False, False, False))
    assert both.weight_gradient == 4040 + 2040


def test_training_bytes_with_lora_trains_adapters_in_float32():
    # 202 and 102 adapter parameters over 210 of the model
    parts = TrainableParts((True, True), False, False, False)
    for precision, weights in (("float32", 4 * 210), ("bf16", 2 * 210)):
        n_bytes = training_bytes(ONE_MATRIX, replace(SETUP, precision=precision, lora=LoraSetup(2)), parts)
        assert (n_bytes.weights, n_bytes.gradients, n_bytes.optimizer) == (weights + 4 * 304, 4 * 304, 8 * 304)


# Against what autograd keeps

TARGETS = [("all-linear",), (0, 2), (1, -2), (-1,)]  # names, or places in a layer


# Targets in turn, two to a family and precision: each meets every family and every precision.
ADAPTER_CASES = [
    (family, precision, TARGETS[(i + j + step) % 4])
    for i, family in enumerate([*FAMILIES, "mistral", "qwen3"])
    for j, precision in enumerate(("float32", "bf16-autocast", "bf16"))
    for step in (0, 2)
]


@pytest.mark.quick_cases(6)
@pytest.mark.parametrize(("family", "precision", "targets"), ADAPTER_CASES)
def test_adapter_bytes_per_token_equals_what_one_more_adapted_layer_keeps(
    family, precision, targets, tiny_shape, random_tokens
):
    setup = TrainingSetup(batch_size=2, sequence_length=7, precision=precision, loss="materialised", prefix_cache=False)
    saved, copies = [], []
    for n_layers in (1, 2):
        model = build_tiny(family, n_layers=n_layers, d_model=40, n_heads=5, n_kv_heads=1, head_dim=12, mlp_width=36)
        shape = tiny_shape(model)
        layer = shape.layers[0]
        names = tuple(t if isinstance(t, str) else layer.matrices[t].name for t in targets)
        setup = replace(setup, lora=LoraSetup(3, names))
        parts = TrainableParts((True,) * n_layers, embeddings=True, final_norm=False, head=False)
        prepare(model, shape, setup, parts)
        saved.append(count_saved_bytes(model, random_tokens(model, setup), setup))
        copies.append(autocast_copy_bytes(shape, setup, parts))
    if layer.kind == "other":  # a window keeps more
        assert adapter_bytes_per_token(layer, precision, setup.lora) is None
        return
    predicted = layer_bytes_per_token(layer, shape.d_model, precision, "traversed")
    predicted += adapter_bytes_per_token(layer, precision, setup.lora)
    assert saved[1] - saved[0] == setup.tokens_per_step * predicted + copies[1] - copies[0]


# Limits and identities


@pytest.mark.parametrize("checkpointing", ["none", "reentrant"])
def test_lora_on_all_layers_saves_at_most_a_third(checkpointing):
    weights = [10**6] * 12
    shape = replace(ONE_MATRIX, **_layers_of(weights))
    setup = replace(SETUP, checkpointing=checkpointing)
    relative_flop = lora_cost(shape, setup, LoraSetup(1)).relative_flop
    units = 3 if checkpointing == "none" else 4
    assert relative_flop > (units - 1) / units - 1e-3
    assert relative_flop < 1


def _layers_of(weights):
    layers = [
        LayerShape(n, (Matrix("up", 1000, n // 1000), Matrix("down", n // 1000, 1000)), 1, 1, 1, 1, "other")
        for n in weights
    ]
    return {"layer_shapes": (layers[0],), "layer_index": (0,) * len(layers)}


def test_cost_table_with_lora_trains_adapters_alone_unless_told():
    table = cost_table(ONE_MATRIX, replace(SETUP, lora=LoraSetup(2)))
    assert [row.freeze_depth for row in table] == [0, 1]  # nothing is left to train at depth 2
    assert table[0].bytes.gradients == 4 * 304
    with_final_norm = cost_table(ONE_MATRIX, replace(SETUP, lora=LoraSetup(2)), final_norm=True)
    assert with_final_norm[0].bytes.gradients == 4 * (304 + 4)
    assert [row.freeze_depth for row in with_final_norm] == [0, 1, 2]


def test_cost_table_with_lora_is_relative_to_full_finetuning_without():
    adapted, plain = (cost_table(ONE_MATRIX, replace(SETUP, lora=lora)) for lora in (LoraSetup(2), None))
    full = plain[0].flop
    assert [row.relative_flop for row in adapted] == [row.flop / full for row in adapted]


def test_lora_cost_is_that_of_adapters_on_every_layer_without_a_cache():
    setup = replace(SETUP, prefix_cache=True)
    lora = LoraSetup(2)
    parts = parts_at_depth(ONE_MATRIX, 0, lora=True)
    assert (parts.embeddings, parts.final_norm, parts.head) == (False, False, False)
    assert lora_cost(ONE_MATRIX, setup, lora).step_flop == step_flop(ONE_MATRIX, replace(SETUP, lora=lora), parts)


def test_cost_table_refuses_targets_that_match_nothing():
    with pytest.raises(PlanError, match="match no matrix"):
        cost_table(ONE_MATRIX, replace(SETUP, lora=LoraSetup(2, ("nothing",))))


LARGE = named_shape("shape:qwen2.5-7b")


@pytest.mark.parametrize("checkpointing", ["none", "non-reentrant"])
def test_next_to_autocast_lora_has_its_base_in_bfloat16(checkpointing):
    setup = TrainingSetup(precision="bf16-autocast", checkpointing=checkpointing)
    table = compare_costs(LARGE, setup, lora=LoraSetup(16))
    loaded = lora_cost(LARGE, replace(setup, precision="bf16"), LoraSetup(16))
    assert table.lora_in_bf16
    assert table.lora.bytes == loaded.bytes
    assert table.lora.relative_bytes == loaded.bytes.total / table.full.bytes.total, "of full finetuning in autocast"
    assert table.lora.flop == lora_cost(LARGE, setup, LoraSetup(16)).flop
    assert any("its base in bfloat16" in note for note in cost_notes(table))


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        (LARGE, {"precision": "float32"}),
        (LARGE, {"precision": "bf16"}),
        (LARGE, {"precision": "bf16-autocast", "lora": LoraSetup(16)}),  # which says how adapters are trained
        (named_shape("shape:smollm2-135m"), {"precision": "bf16-autocast"}),  # activations outweigh the base
    ],
)
def test_elsewhere_lora_is_in_the_precision_of_the_setup(shape, changes):
    setup = TrainingSetup(**changes)
    table = compare_costs(shape, setup, lora=LoraSetup(16))
    assert not table.lora_in_bf16
    assert table.lora == lora_cost(shape, setup, LoraSetup(16))
    assert not any("base in bfloat16" in note for note in cost_notes(table))
