"""An independent reading of the tiny models' sizes, family by family, and one real training step to count."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from semfreeze_core.records.model import LayerKind, LayerShape, Matrix, ModelShape
from semfreeze_core.records.training import TrainingSetup
from tests.core.tiny_models import find_pieces

LAYER_KINDS: dict[str, LayerKind] = {
    "llama": "gated-rmsnorm",
    "qwen2": "gated-rmsnorm",
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
    n_heads = config.num_attention_heads
    n_kv_heads = getattr(config, "num_key_value_heads", n_heads)
    layers = [
        LayerShape(
            parameters=_parameters(layer),
            matrices=tuple(_matrices(layer)),
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=getattr(config, "head_dim", config.hidden_size // n_heads),
            mlp_width=config.n_inner if config.model_type == "gpt2" else config.intermediate_size,
            kind=LAYER_KINDS[config.model_type],
        )
        for layer in pieces.layers
    ]
    return ModelShape(
        d_model=config.hidden_size,
        vocab_rows=pieces.head.out_features,
        tied=tied,
        layer_shapes=(layers[0],),
        layer_index=(0,) * len(layers),
        embedding_parameters=sum(_parameters(module) for module in pieces.embeddings),
        final_norm_parameters=_parameters(pieces.final_norm),
        head_parameters=0 if tied else _parameters(pieces.head),
        head_linear_weights=pieces.head.weight.numel(),
        max_positions=config.max_position_embeddings,
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _matrices(layer: nn.Module) -> Iterator[Matrix]:
    for name, module in layer.named_modules():
        if isinstance(module, nn.Linear):
            yield Matrix(name, module.weight.shape[1], module.weight.shape[0])
        elif isinstance(module, Conv1D):  # stored the other way round
            yield Matrix(name, module.weight.shape[0], module.weight.shape[1])


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
