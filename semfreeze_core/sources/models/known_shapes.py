"""Shapes of well-known models, for an estimate before a model is at hand; they hold sizes and no weights.

Sizes are those of each model's public config.json. Any other model's cost needs its config alone.
"""

from typing import Any

from semfreeze_core.errors import ModelError
from semfreeze_core.records.model import ModelShape
from semfreeze_core.sources.models.config_shape import shape_of_config

PREFIX = "shape:"  # of a name, as "sample:" of a data file


def _config(
    family: str,
    width: int,
    mlp: int,
    layers: int,
    heads: tuple[int, int],
    vocabulary: int,
    positions: int,
    *,
    tied: bool,
) -> dict[str, Any]:
    """Entries of a config.json; `heads` are those of queries, and of keys and values."""
    return {
        "model_type": family,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "sliding_window": None,
        "tie_word_embeddings": tied,
    }


# Smallest first.
KNOWN_SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": _config("llama", 576, 1536, 30, (9, 3), 49152, 8192, tied=True),
    "smollm2-360m": _config("llama", 960, 2560, 32, (15, 5), 49152, 8192, tied=True),
    "qwen2.5-0.5b": _config("qwen2", 896, 4864, 24, (14, 2), 151936, 32768, tied=True),
    "llama-3.2-1b": _config("llama", 2048, 8192, 16, (32, 8), 128256, 131072, tied=True),
    "qwen2.5-1.5b": _config("qwen2", 1536, 8960, 28, (12, 2), 151936, 32768, tied=True),
    "smollm2-1.7b": _config("llama", 2048, 8192, 24, (32, 32), 49152, 8192, tied=True),
    "qwen2.5-3b": _config("qwen2", 2048, 11008, 36, (16, 2), 151936, 32768, tied=True),
    "llama-3.2-3b": _config("llama", 3072, 8192, 28, (24, 8), 128256, 131072, tied=True),
    "mistral-7b": _config("mistral", 4096, 14336, 32, (32, 8), 32768, 32768, tied=False),
    "qwen2.5-7b": _config("qwen2", 3584, 18944, 28, (28, 4), 152064, 32768, tied=False),
    "llama-3.1-8b": _config("llama", 4096, 14336, 32, (32, 8), 128256, 131072, tied=False),
    "qwen2.5-14b": _config("qwen2", 5120, 13824, 48, (40, 8), 152064, 32768, tied=False),
    "qwen2.5-32b": _config("qwen2", 5120, 27648, 64, (40, 8), 152064, 32768, tied=False),
    "llama-3.1-70b": _config("llama", 8192, 28672, 80, (64, 8), 128256, 131072, tied=False),
}


def known_shape(source: str) -> ModelShape | None:
    """The shape that a name such as "shape:llama-3.1-8b" means; None of anything else.

    Raises:
        ModelError: there is no such shape; lists those there are.
    """
    if not source.startswith(PREFIX):
        return None
    config = KNOWN_SHAPES.get(source.removeprefix(PREFIX).strip().lower())
    if config is None:
        raise ModelError(
            f"{source}: no shape of this name. Known: {', '.join(KNOWN_SHAPES)}. For another model give its "
            "config.json or hub id."
        )
    return shape_of_config(config)


def refuse_shape(source: str) -> None:
    """Refuse a shape where weights are needed.

    Raises:
        ModelError: it is one.
    """
    if source.startswith(PREFIX):
        raise ModelError(
            f"{source} names sizes without weights: `semfreeze cost --model {source}` estimates with it. Here give a "
            "model: a hub id, a local folder, or embedded."
        )
