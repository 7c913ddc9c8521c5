"""Shapes of well-known models: as many parameters as their cards say, and no weights."""

import pytest

from semfreeze_core.cost import depth_cost, parts_at_depth
from semfreeze_core.errors import ModelError
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.sources.models.known_shapes import KNOWN_SHAPES, known_shape
from semfreeze_core.sources.models.opening import open_checkpoint

# Of the checkpoints on the Hugging Face hub, as their safetensors headers add up.
PARAMETERS = {
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "qwen2.5-0.5b": 494_032_768,
    "llama-3.2-1b": 1_235_814_400,
    "qwen2.5-1.5b": 1_543_714_304,
    "smollm2-1.7b": 1_711_376_384,
    "qwen2.5-3b": 3_085_938_688,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_248_023_552,
    "qwen2.5-7b": 7_615_616_512,
    "llama-3.1-8b": 8_030_261_248,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "llama-3.1-70b": 70_553_706_496,
}


def test_every_shape_has_the_parameters_of_its_checkpoint():
    assert list(PARAMETERS) == list(KNOWN_SHAPES)
    for name, parameters in PARAMETERS.items():
        shape = known_shape(f"shape:{name}")
        layers = sum(layer.parameters for layer in shape.layers)
        around = shape.embedding_parameters + shape.final_norm_parameters + shape.head_parameters
        assert layers + around == parameters, name


def test_they_stand_smallest_first_and_each_has_a_price():
    assert list(PARAMETERS.values()) == sorted(PARAMETERS.values())
    for name in KNOWN_SHAPES:
        shape = known_shape(f"shape:{name.upper()}")
        assert depth_cost(shape, TrainingSetup(), parts_at_depth(shape, 1)).bytes.total is not None


def test_what_is_no_shape_is_left_alone_and_an_unknown_one_lists_the_others():
    assert known_shape("embedded") is None
    with pytest.raises(ModelError, match=r"shape:gpt-9: no shape of this name. Known: smollm2-135m, .*llama-3.1-70b"):
        known_shape("shape:gpt-9")


def test_where_weights_are_needed_a_shape_is_refused():
    with pytest.raises(ModelError, match=r"names sizes without weights: `semfreeze cost --model shape:qwen2.5-7b`"):
        open_checkpoint("shape:qwen2.5-7b")
