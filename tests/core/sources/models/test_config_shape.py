"""Shapes from config.json alone: equal to those counted from real modules, and none where it cannot know."""

import json

import pytest
from transformers import AutoConfig

from semfreeze_core.sources.models.causal_lm import measure_empty
from semfreeze_core.sources.models.config_shape import shape_from_config
from semfreeze_core.sources.models.opening import open_checkpoint

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "max_position_embeddings": 64,
}


@pytest.fixture
def write(tmp_path):
    """Writes a config.json and returns its folder."""

    def to_folder(entries):
        (tmp_path / "config.json").write_text(json.dumps({**SIZES, **entries}))
        return tmp_path

    return to_folder


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(
    "entries",
    [
        {"model_type": "llama"},
        {"model_type": "llama", "tie_word_embeddings": True, "head_dim": 16},
        {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
        {"model_type": "mistral"},
        {"model_type": "mistral", "sliding_window": None, "tie_word_embeddings": True, "head_dim": 12},
        {"model_type": "qwen2"},
        {"model_type": "qwen2", "tie_word_embeddings": True, "sliding_window": 8, "use_sliding_window": False},
        {"model_type": "qwen3", "head_dim": 8},
        {"model_type": "qwen3", "head_dim": 16, "attention_bias": True, "tie_word_embeddings": True},
    ],
)
def test_shape_from_config_equals_what_is_counted_from_the_modules(write, entries):
    folder = write(entries)
    assert shape_from_config(folder) == measure_empty(open_checkpoint(str(folder), config_only=True))
    assert shape_from_config(folder / "config.json") == shape_from_config(folder)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_shape_from_config_equals_that_of_a_config_that_transformers_saved(write, tmp_path, family):
    config = AutoConfig.for_model(family, **SIZES, head_dim=8)
    config.save_pretrained(tmp_path / "saved")
    counted = measure_empty(open_checkpoint(str(tmp_path / "saved"), config_only=True))
    assert shape_from_config(tmp_path / "saved") in (counted, None)  # None: it names each layer's kind of attention


@pytest.mark.parametrize(
    "entries",
    [
        {"model_type": "gpt2"},
        {"model_type": "mixtral"},
        {"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "x.Y"}},
        {"model_type": "llama", "quantization_config": {"bits": 4}},
        {"model_type": "llama", "num_hidden_layers": 1},
        {"model_type": "llama", "hidden_act": "gelu"},
        {"model_type": "llama", "hidden_size": "32"},
        {"model_type": "llama", "hidden_size": True},
        {"model_type": "llama", "num_key_value_heads": None},
        {"model_type": "llama", "attention_bias": "yes"},
        {"model_type": "llama", "hidden_size": 33},
        {"model_type": "mistral", "sliding_window": 8},
        {"model_type": "qwen2", "use_sliding_window": True},
        {"model_type": "qwen3"},
    ],
)
def test_shape_from_config_is_none_where_the_modules_must_be_asked(write, entries):
    assert shape_from_config(write(entries)) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '"llama"'])
def test_shape_from_config_is_none_for_what_is_no_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert shape_from_config(tmp_path) is None
    assert shape_from_config(tmp_path / "nowhere") is None


# https://arxiv.org/abs/2407.21783 (Llama 3), 2310.06825 (Mistral), 2407.10671 (Qwen2), 2505.09388 (Qwen3): the released
# configs; the counts are those of the released safetensors files.
PUBLISHED = [
    (8_030_261_248, "llama", (4096, 14336, 32, 32, 8, 128256, 8192), {}),
    (70_553_706_496, "llama", (8192, 28672, 80, 64, 8, 128256, 8192), {}),
    (6_738_415_616, "llama", (4096, 11008, 32, 32, 32, 32000, 4096), {}),
    (7_241_732_096, "mistral", (4096, 14336, 32, 32, 8, 32000, 32768), {"sliding_window": None}),
    (494_032_768, "qwen2", (896, 4864, 24, 14, 2, 151936, 32768), {"tie_word_embeddings": True}),
    (8_190_735_360, "qwen3", (4096, 12288, 36, 32, 8, 151936, 40960), {"head_dim": 128}),
]


@pytest.mark.parametrize(("parameters", "family", "sizes", "others"), PUBLISHED)
def test_shape_from_config_has_the_released_models_parameter_counts(write, parameters, family, sizes, others):
    shape = shape_from_config(write({"model_type": family, **dict(zip(SIZES, sizes, strict=True)), **others}))
    assert shape.total_parameters == parameters
