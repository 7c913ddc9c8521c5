"""Verification that training from a prefix cache trains the same model: cached states must give the model's logits."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semfreeze_core.finetune.prefix.cache import PrefixCache
from semfreeze_core.finetune.prefix.forward import evaluating, prefix_parameters
from semfreeze_core.finetune.prefix.key import sample_digest
from semfreeze_core.finetune.prefix.store import CacheUnavailable
from semfreeze_core.finetune.prefix.suffix import Suffix
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.models.decoder import Decoder

# Largest difference over the logits' standard deviation. In float32 only the order of sums differs; bfloat16 keeps 8
# bits, and each layer rounds anew.
FLOAT32_TOLERANCE, BFLOAT16_TOLERANCE = 1e-4, 0.1

VERIFIED_EXAMPLES, _POSITIONS = 4, 64  # compared: examples, and target tokens of each


@torch.no_grad()
def verify_cache(decoder: Decoder, suffix: Suffix, cache: PrefixCache, examples: Sequence[TokenizedExample]) -> float:
    """Compare the logits from cached states with the model's on a batch of long and short examples.

    The prefix runs in its current mode, so that active dropout shows; what is above the boundary runs in eval mode.
    Call it with the model as it will be trained, before weights are offloaded.

    Args:
        decoder: the model.
        suffix: of the same model and depth, installed or not.
        cache: to verify.
        examples: those the cache was built for, in order.

    Returns:
        The largest difference at target tokens, divided by the standard deviation of the model's logits.

    Raises:
        CacheUnavailable: the cache is not of this depth or these examples, something below the boundary is to be
            trained, the model cannot run from boundary states, or its logits differ; the message says which.
    """
    if suffix.k != cache.k or suffix.decoder.model is not decoder.model:
        raise CacheUnavailable(f"The cache is of depth {cache.k}, the suffix of depth {suffix.k} or another model.")
    if cache.samples != tuple(sample_digest(example) for example in examples):
        raise CacheUnavailable("The cache was built for other examples, or for another tokenization of these.")
    trained = [name for name, p in prefix_parameters(decoder, cache.k).items() if p.requires_grad]
    if trained:
        raise CacheUnavailable(f"{trained[0]} is trained, which would change the cached states at each step.")
    indices = _long_and_short(examples)
    states, mask = cache.batch(indices)
    rows, columns = _positions([examples[i] for i in indices])
    ids = np.zeros(tuple(mask.shape), dtype=np.int64)
    for row, i in enumerate(indices):
        ids[row, : len(examples[i].input_ids)] = examples[i].input_ids
    with evaluating(*decoder.layers[cache.k :], decoder.final_norm):
        logits = _model_logits(decoder, torch.from_numpy(ids).to(decoder.device), mask, rows, columns)
        cached_logits = _cached_logits(decoder, suffix, states, mask, rows, columns)
    exact = decoder.dtype == cache.computed_in == torch.float32 and not torch.is_autocast_enabled(decoder.device.type)
    tolerance = FLOAT32_TOLERANCE if exact else BFLOAT16_TOLERANCE
    difference = float((cached_logits - logits).abs().max() / logits.std())
    if not difference <= tolerance:
        raise CacheUnavailable(
            f"{type(decoder.model).__name__} from cached states at depth {cache.k} differs from a pass from tokens: "
            f"largest difference {difference:.2g} of the logits' spread (allowed {tolerance:g}). The states are "
            "another model's, dropout is active below the boundary, or its layers use more than the previous layer's "
            "output."
        )
    return difference


def _long_and_short(examples: Sequence[TokenizedExample]) -> list[int]:
    """Indices of a few examples of different length, so that padding is in the batch."""
    order = np.argsort([len(example.input_ids) for example in examples], kind="stable")
    ranks = np.linspace(0, len(order) - 1, min(VERIFIED_EXAMPLES, len(order))).round().astype(int)
    return [int(order[rank]) for rank in ranks]


def _positions(examples: Sequence[TokenizedExample]) -> tuple[Tensor, Tensor]:
    """Row and column of the states that predict target tokens, at most 64 of each example, spread evenly."""
    columns = [np.flatnonzero(example.supervised) - 1 for example in examples]
    columns = [c[:: -(-len(c) // _POSITIONS)] for c in columns]
    rows = np.repeat(np.arange(len(columns)), [len(c) for c in columns])
    return torch.from_numpy(rows), torch.from_numpy(np.concatenate(columns))


def _model_logits(decoder: Decoder, ids: Tensor, mask: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The model's logits (n, V) from token ids, float32; the head sees the wanted positions alone."""

    def choose(_: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        return (args[0][rows, columns][None],)

    handle = decoder.head.register_forward_pre_hook(choose)
    try:
        with warnings.catch_warnings():
            # of reentrant checkpointing, which needs no gradient here
            warnings.filterwarnings("ignore", message="None of the inputs have requires_grad")
            logits: Tensor = decoder.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    finally:
        handle.remove()
    return logits[0].float()


def _cached_logits(
    decoder: Decoder, suffix: Suffix, states: Tensor, mask: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    was_installed = suffix.installed
    if not was_installed:
        suffix.install()
    try:
        return decoder.logits(suffix(states, mask)[rows, columns])
    except Exception as error:  # a model's own code can fail in any way on an input it was not written for
        text = " ".join(str(error).split())[:300]
        raise CacheUnavailable(
            f"{type(decoder.model).__name__} cannot run from boundary states: {type(error).__name__}: {text}"
        ) from error
    finally:
        if not was_installed:
            suffix.remove()
