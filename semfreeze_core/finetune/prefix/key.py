"""What boundary states depend on, as digests: a cache is used for exactly this or not at all."""

import hashlib
from typing import Any

import torch
import transformers

from semfreeze_core.finetune.prefix.forward import prefix_parameters
from semfreeze_core.finetune.quantize.weights import quantized_modules, scale_location
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.placement import parameter_values
from semfreeze_core.storage import digest

# In a config, but of no influence on what the model computes.
_NOT_COMPUTED = ("_name_or_path", "transformers_version", "dtype", "use_cache")


def sample_digest(example: TokenizedExample) -> str:
    """Sha256 of an example's token ids: another tokenization makes another sample, other target tokens do not."""
    return hashlib.sha256(example.input_ids.astype("<i8").tobytes()).hexdigest()


def cache_key(
    decoder: Decoder, k: int, key_base: dict[str, Any] | str, computed_in: torch.dtype, weights: str | None = None
) -> str:
    """Sha256 of all that the states depend on besides the tokens.

    Every bit of the prefix's weights is in it, so that a finetuned or repaired model never gets another one's states;
    what lies above the boundary is not, so that training there keeps the cache valid. `weights` is their
    `prefix_digest` where it is known.
    """
    # Before they were stored in what they are computed in, states had the model's dtype under the same key.
    stored = {} if computed_in == decoder.dtype else {"stored_in": str(computed_in)}
    config = {name: value for name, value in decoder.model.config.to_dict().items() if name not in _NOT_COMPUTED}
    return digest(
        {
            "base": key_base,
            "architecture": type(decoder.model).__name__,
            "config": repr(sorted(config.items())),
            "transformers": transformers.__version__,
            "weights": weights or prefix_digest(decoder, k),
            "depth": k,
            "dtype": str(decoder.dtype),
            "computed_in": str(computed_in),
            **stored,
        }
    )


def prefix_digest(decoder: Decoder, k: int) -> str:
    """Sha256 of the weights of the embedding and layers 0..k-1, every bit."""
    sha = hashlib.sha256()
    for name, parameter in parameter_values(decoder.model, sorted(prefix_parameters(decoder, k))):
        sha.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        sha.update(_bytes(parameter))
    for i, layer in enumerate(decoder.layers[:k]):
        for name, module in quantized_modules(layer):
            # codes alone do not determine weights: scales and the dtype of products are not parameters
            sha.update(f"{i} {name} {getattr(module, 'compute_dtype', None)}\n".encode())
            sha.update(_bytes(scale_location(module).tensor))
    return sha.hexdigest()


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
