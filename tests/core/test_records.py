"""Records check themselves: shapes that cannot belong together are refused when they are made."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from semfreeze_core.records.cost import StepFlop, TrainingBytes
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.examples import Example, Segment, TokenizedExample
from semfreeze_core.records.gain import Band
from semfreeze_core.records.model import LayerShape, Matrix, ModelShape
from semfreeze_core.records.provenance import Document, Provenance, provenance_now
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from semfreeze_core.version import __version__


def _trace(**changed: Any) -> TransitionTrace:
    names = [f.name for f in dataclasses.fields(TransitionTrace) if f.name != "metric"]
    values: dict[str, Any] = {name: np.full((3, 5), 0.5, dtype=np.float32) for name in names}
    return TransitionTrace(**{"metric": "semantic", **values, **changed})


@pytest.mark.parametrize("name", ["null", "first_deviation", "first_null", "later_deviation", "later_null"])
def test_transition_trace_refuses_matrices_of_different_shape(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is \(3, 4\), deviation \(3, 5\)"):
        _trace(**{name: np.zeros((3, 4), dtype=np.float32)})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_transition_trace_refuses_a_deviation_that_is_no_number(value: float) -> None:
    deviation = np.full((3, 5), 0.5, dtype=np.float32)
    deviation[1, 2] = value
    with pytest.raises(ValueError, match="deviation must be a finite matrix"):
        _trace(deviation=deviation)


def test_transition_trace_refuses_what_is_no_matrix() -> None:
    vector = np.zeros(5, dtype=np.float32)
    with pytest.raises(ValueError, match="deviation must be a finite matrix"):
        TransitionTrace("semantic", *[vector] * 6)


def test_transition_trace_accepts_unknown_later_values() -> None:
    unknown = np.full((3, 5), np.nan, dtype=np.float32)
    assert np.isnan(_trace(later_deviation=unknown, later_null=unknown).later_deviation).all()


def test_transition_trace_advantage_is_null_less_deviation() -> None:
    trace = _trace(null=np.full((3, 5), 0.75, dtype=np.float32))
    np.testing.assert_array_equal(trace.advantage, 0.25)


@pytest.mark.parametrize(
    ("metric", "unit"), [("semantic", "1 - cosine"), ("logit_z", "1 - cosine"), ("lens_loss", "nat")]
)
def test_transition_trace_carries_the_unit_of_its_metric(metric: str, unit: str) -> None:
    assert _trace(metric=metric).unit == unit


def test_swapped_pairs_refuse_sides_of_different_shape() -> None:
    with pytest.raises(ValueError, match=r"own is \(2, 5\), swapped \(3, 5\)"):
        SwappedPairs("semantic", np.zeros((2, 5), dtype=np.float32), np.zeros((3, 5), dtype=np.float32))


def test_band_refuses_bounds_of_different_length() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        Band(np.zeros(3), np.zeros(3), np.zeros(2))


def test_band_at_is_the_interval_of_one_element() -> None:
    interval = Band(np.array([1.0, 2.0]), np.array([0.5, 1.5]), np.array([1.5, 2.25])).at(1)
    assert (interval.estimate, interval.low, interval.high) == (2.0, 1.5, 2.25)


@pytest.mark.parametrize(
    ("ids", "supervised"),
    [([1, 2, 3], [False, True]), ([[1, 2]], [[False, True]]), ([1], [False, True])],
)
def test_tokenized_example_refuses_vectors_of_different_length(ids: list[Any], supervised: list[Any]) -> None:
    with pytest.raises(ValueError, match="must be equal vectors"):
        TokenizedExample(np.array(ids), np.array(supervised), None, 0)


@pytest.mark.parametrize("supervised", [[False, False], [True, False], [True, True]])
def test_tokenized_example_refuses_to_supervise_nothing_or_the_first_token(supervised: list[bool]) -> None:
    with pytest.raises(ValueError, match="at least one token must be supervised, and never the first"):
        TokenizedExample(np.array([1, 2]), np.array(supervised), None, 0)


def test_example_prompt_is_all_that_stands_before_the_last_supervised_segment() -> None:
    turns = (
        Segment("Q1 ", False),
        Segment("A1 ", True),
        Segment("Q2 ", False),
        Segment("A2", True),
        Segment("\n", False),
    )
    example = Example(turns, None, 0)
    assert example.prompt == "Q1 A1 Q2 "
    assert example.completion == "A2"
    assert Example((Segment("text", True),), None, 0).prompt == ""


LAYER: dict[str, Any] = {
    "parameters": 110,
    "matrices": (Matrix("q", 8, 10), Matrix("experts", 2, 5, copies=6, active=2)),
    "n_heads": 2,
    "n_kv_heads": 1,
    "head_dim": 4,
    "mlp_width": 16,
    "kind": "other",
}
SHAPE: dict[str, Any] = {
    "d_model": 8,
    "vocab_rows": 10,
    "tied": False,
    "layer_shapes": (LayerShape(**LAYER), LayerShape(**{**LAYER, "parameters": 120})),
    "layer_index": (0, 1, 0),
    "embedding_parameters": 80,
    "final_norm_parameters": 8,
    "head_parameters": 80,
    "head_linear_weights": 80,
    "max_positions": None,
}


def test_layer_shape_counts_each_token_through_its_active_experts_only() -> None:
    layer = LayerShape(**LAYER)
    assert layer.linear_weights == 8 * 10 + 2 * 5 * 2
    assert [m.parameters for m in layer.matrices] == [80, 60]


def test_model_shape_total_parameters_add_up() -> None:
    shape = ModelShape(**SHAPE)
    assert (shape.n_layers, [layer.parameters for layer in shape.layers]) == (3, [110, 120, 110])
    assert shape.total_parameters == 110 + 120 + 110 + 80 + 8 + 80


@pytest.mark.parametrize("index", [(0, 0), (0, 1, 2), (1, 1)])
def test_model_shape_refuses_an_index_that_does_not_name_each_layer_shape(index: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="layer_index must name each of the 2 layer_shapes"):
        ModelShape(**{**SHAPE, "layer_index": index})


@pytest.mark.parametrize("name", ["d_model", "vocab_rows"])
def test_model_shape_refuses_sizes_below_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, found 0"):
        ModelShape(**{**SHAPE, name: 0})


@pytest.mark.parametrize("name", ["n_heads", "n_kv_heads", "head_dim", "mlp_width"])
def test_layer_shape_refuses_sizes_below_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, found 0"):
        LayerShape(**{**LAYER, name: 0})


@pytest.mark.parametrize(
    ("layers", "depth"),
    [((True, True), 0), ((False, True), 1), ((False, False), 2), ((True, False), 0), ((False, True, False), 1)],
)
def test_trainable_parts_freeze_depth_counts_the_frozen_layers_of_the_input_side(
    layers: tuple[bool, ...], depth: int
) -> None:
    assert TrainableParts(layers, False, False, False).freeze_depth == depth


def test_trainable_parts_any_holds_when_one_part_is_trained() -> None:
    nothing = TrainableParts((False, False), False, False, False)
    assert not nothing.any
    for change in ({"layers": (False, True)}, {"embeddings": True}, {"final_norm": True}, {"head": True}):
        assert dataclasses.replace(nothing, **change).any


def test_training_setup_gives_all_its_problems_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"batch_size .*; sequence_length .*; train_examples .*; steps .*; supervised_"
    ):
        TrainingSetup(batch_size=0, sequence_length=-1, train_examples=0, steps=0, supervised_fraction=0)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, math.nan])
def test_training_setup_refuses_a_fraction_outside_zero_to_one(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"supervised_fraction must be in \(0, 1\]"):
        TrainingSetup(supervised_fraction=fraction)


def test_training_setup_counts_its_tokens_and_steps() -> None:
    sparse = TrainingSetup(batch_size=8, sequence_length=10, supervised_fraction=0.26, train_examples=17)
    assert sparse.tokens_per_step == 80
    assert dataclasses.replace(sparse, loss="materialised").head_tokens_per_step == 80
    assert sparse.steps_per_epoch == 3
    assert sparse.head_tokens_per_step == 21
    assert dataclasses.replace(sparse, supervised_fraction=0.001).head_tokens_per_step == 1


def test_step_flop_and_training_bytes_totals_are_sums() -> None:
    assert StepFlop(1, 10, 100, 1000).total == 1111
    assert TrainingBytes(1, 10, 100, 1000, 10000).total == 11111
    assert TrainingBytes(1, 10, 100, None, 10000).total is None


DISPLAY: dict[str, Any] = {
    "coordinates": np.zeros((3, 2, 4), dtype=np.float16),
    "variance_fraction": np.ones(4, dtype=np.float32),
    "basis_coordinates": np.zeros((1, 4), dtype=np.float16),
    "basis_ids": np.array([7]),
    "deviation": np.zeros((2, 2, 3), dtype=np.float16),
    "metrics": ("semantic", "logit_z"),
    "example": np.array([0, 1]),
    "order": np.array([0, 0]),
    "label_ids": np.array([7, 7]),
    "predicted_ids": np.array([7, 8]),
    "read_top": np.zeros((0, 3, 5), dtype=np.int64),
    "token_text": {7: "a", 8: "b"},
    "n_positions_total": 9,
    "seed": 0,
}


def test_display_sample_right_holds_where_the_model_says_the_label() -> None:
    assert DisplaySample(**DISPLAY).right.tolist() == [True, False]


@pytest.mark.parametrize("name", ["example", "order", "label_ids", "predicted_ids"])
def test_display_sample_refuses_vectors_of_another_length(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is \(3,\), expected \(2,\)"):
        DisplaySample(**{**DISPLAY, name: np.zeros(3, dtype=np.int64)})


def test_display_sample_refuses_deviations_of_another_shape() -> None:
    with pytest.raises(ValueError, match="deviation is"):
        DisplaySample(**{**DISPLAY, "deviation": np.zeros((2, 3, 2), dtype=np.float16)})


class _Note(Document):
    value: float | None


def test_document_writes_nan_as_null_and_refuses_unknown_keys() -> None:
    assert json.loads(_Note(value=math.nan).model_dump_json()) == {"value": None}
    with pytest.raises(ValueError, match="Extra inputs"):
        _Note.model_validate({"value": 1.0, "remark": "mine"})


def test_document_cannot_be_changed() -> None:
    note = _Note(value=1.0)
    with pytest.raises(ValueError, match="frozen"):
        note.value = 2.0  # type: ignore[misc]


def test_provenance_now_names_versions_time_and_seed() -> None:
    provenance = provenance_now(7)
    assert provenance.seed == 7
    assert provenance.semfreeze == __version__
    assert provenance.torch
    assert provenance.transformers
    assert provenance.created.endswith("+00:00")
    assert Provenance.model_validate_json(provenance.model_dump_json()) == provenance
