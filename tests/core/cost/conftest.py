"""An independent reading of the tiny models' sizes, family by family, and one real training step to count."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from semfreeze_core.records.model import LayerKind, LayerShape, Matrix, ModelShape
from semfreeze_core.records.training import TrainingSetup
from tests.core.tiny_configs import ACTIVE_EXPERTS, N_EXPERTS
from tests.core.tiny_models import find_pieces

LAYER_KINDS: dict[str, LayerKind] = {
    "llama": "gated-rmsnorm",
    "mistral": "gated-rmsnorm",
    "qwen2": "gated-rmsnorm",
    "qwen3": "gated-rmsnorm-qk",
    "gpt2": "mlp-layernorm",
    "gpt_neox": "parallel-layernorm",
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny_shape() -> Callable[[PreTrainedModel], ModelShape]:
    """ModelShape of a tiny model, written down by hand: a second opinion on the one semfreeze measures."""
    return _tiny_shape


def _tiny_shape(model: PreTrainedModel) -> ModelShape:
    config, pieces = model.config, find_pieces(model)
    tied = pieces.head.weight is pieces.embeddings[0].weight
    layers = [
        LayerShape(
            parameters=_parameters(layer),
            matrices=tuple(_matrices(layer)),
            n_heads=config.num_attention_heads,
            n_kv_heads=_kv_heads(config),
            head_dim=_head_dim(config),
            mlp_width=_mlp_width(config, layer),
            kind=_kind(config),
        )
        for layer in pieces.layers
    ]
    different = tuple(dict.fromkeys(layers))
    return ModelShape(
        d_model=config.hidden_size,
        vocab_rows=pieces.head.out_features,
        tied=tied,
        layer_shapes=different,
        layer_index=tuple(map(different.index, layers)),
        embedding_parameters=sum(_parameters(module) for module in pieces.embeddings),
        final_norm_parameters=_parameters(pieces.final_norm),
        head_parameters=_parameters(pieces.head) - tied * pieces.head.weight.numel(),
        head_linear_weights=pieces.head.weight.numel(),
        max_positions=getattr(config, "max_position_embeddings", None),
        embedding_linear_weights=sum(_linear_weights(module) for module in pieces.embeddings),
        final_linear_weights=_linear_weights(pieces.final_norm),
    )


def _kind(config: PreTrainedConfig) -> LayerKind:
    """A window shorter than the longest sequence needs a mask, and then more is kept."""
    slides = config.model_type == "mistral" and config.sliding_window is not None
    return "other" if slides else LAYER_KINDS.get(config.model_type, "other")


def _kv_heads(config: PreTrainedConfig) -> int:
    if config.model_type == "falcon":
        if config.new_decoder_architecture:
            return config.num_kv_heads
        return 1 if config.multi_query else config.num_attention_heads
    return getattr(config, "num_key_value_heads", config.num_attention_heads)


def _head_dim(config: PreTrainedConfig) -> int:
    if config.model_type == "deepseek_v3":  # the mean of what keys and values have
        return (config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim) // 2
    return getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)


def _mlp_width(config: PreTrainedConfig, layer: nn.Module) -> int:
    experts = [module for module in layer.modules() if type(module).__name__.endswith("Experts")]
    if experts and hasattr(config, "moe_intermediate_size"):
        return config.moe_intermediate_size
    match config.model_type:
        case "gpt2":
            return config.n_inner
        case "opt":
            return config.ffn_dim
        case "falcon":
            return config.ffn_hidden_size
        case "bloom":
            return 4 * config.hidden_size
        case _:
            return config.intermediate_size


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _linear_weights(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def _matrices(layer: nn.Module) -> Iterator[Matrix]:
    for name, module in layer.named_modules():
        if isinstance(module, nn.Linear):
            yield Matrix(name, module.weight.shape[1], module.weight.shape[0])
        elif isinstance(module, Conv1D):  # stored the other way round
            yield Matrix(name, module.weight.shape[0], module.weight.shape[1])
        elif type(module).__name__.endswith("Router"):
            yield Matrix(name, module.weight.shape[1], N_EXPERTS)
        elif type(module).__name__.endswith("Experts"):
            d, f = module.config.hidden_size, module.down_proj[0].numel() // module.config.hidden_size
            yield Matrix(f"{name}.gate_up_proj", d, 2 * f, N_EXPERTS, ACTIVE_EXPERTS)
            yield Matrix(f"{name}.down_proj", f, d, N_EXPERTS, ACTIVE_EXPERTS)


@pytest.fixture
def random_tokens() -> Callable[[PreTrainedModel, TrainingSetup], Tensor]:
    """Token ids (batch, sequence) for a setup, special tokens left out."""

    def draw(model: PreTrainedModel, setup: TrainingSetup) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        size = (setup.batch_size, setup.sequence_length)
        return torch.randint(3, model.config.vocab_size, size, generator=generator)

    return draw


@pytest.fixture
def compute_loss() -> Callable[[PreTrainedModel, Tensor, TrainingSetup], Tensor]:
    """Cross-entropy of a tiny model, on the logits of every token or of the supervised ones alone."""

    def loss(model: PreTrainedModel, tokens: Tensor, setup: TrainingSetup) -> Tensor:
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        labels = tokens
        if setup.loss == "supervised-only":
            n = setup.head_tokens_per_step
            hidden, labels = hidden.flatten(0, 1)[-n:], tokens.flatten()[-n:]
        logits = find_pieces(model).head(hidden)
        return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())

    return loss
