"""Which rows of the head are real tokens, and which tokens look as if nobody had trained them."""

from dataclasses import dataclass
from typing import Any

import torch

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.placement import parameter_values


@dataclass(frozen=True)
class Vocabulary:
    """What the tokenizer can produce against what the head holds.

    Attributes:
        real_rows: rows a token exists for (largest token id + 1); rows beyond are padding.
        padded_rows: rows of the head without a token.
        untrained: ids whose embedding row is zero, equals another row, or is the mean row (how resizing starts them).
        added: ids of ordinary tokens added after the tokenizer was trained.
    """

    real_rows: int
    padded_rows: int
    untrained: frozenset[int]
    added: frozenset[int]


def read_vocabulary(tokenizer: Any, decoder: Decoder) -> Vocabulary:
    """Compare tokenizer and head.

    Raises:
        ModelError: the tokenizer has ids the head has no row for.
    """
    rows = decoder.head.out_features
    largest = require_rows(tokenizer, rows, decoder.embedding.num_embeddings)
    special = set(tokenizer.all_special_ids)
    added = {i for i in tokenizer.get_added_vocab().values() if i >= tokenizer.vocab_size and i not in special}
    real = largest + 1
    [(_, weight)] = parameter_values(decoder.embedding, ["weight"])
    return Vocabulary(real, rows - real, _untrained_rows(weight[:real]), frozenset(added))


def require_rows(tokenizer: Any, head_rows: int, embedding_rows: int) -> int:
    """The largest token id, after checking that head and embedding have a row for it.

    Args:
        tokenizer: the model's.
        head_rows, embedding_rows: of their matrices; no weights are needed to know them.

    Raises:
        ModelError: the tokenizer has ids without a row.
    """
    ids = tokenizer.get_vocab()
    last = max(ids, key=ids.__getitem__)
    largest: int = ids[last]
    if largest >= min(head_rows, embedding_rows):
        raise ModelError(
            f"The tokenizer and the model disagree: token {last!r} has the id {largest}, but the head has {head_rows} "
            f"rows and the embedding {embedding_rows}. Is this tokenizer another model's, or was the embedding not "
            "resized after tokens were added?"
        )
    return largest


_ROWS_AT_ONCE = 8192  # a float32 copy of the whole embedding can be larger than the model


@torch.no_grad()
def _untrained_rows(weight: torch.Tensor) -> frozenset[int]:
    mean = weight.mean(0, dtype=torch.float32)
    untrained = _repeated_rows(weight)
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        rows = weight[start : start + _ROWS_AT_ONCE].float()
        resized = torch.cosine_similarity(rows, mean, dim=-1) > 0.999
        untrained[start : start + _ROWS_AT_ONCE] |= resized | (rows == 0).all(-1)
    return frozenset(untrained.nonzero().flatten().tolist())


def _repeated_rows(weight: torch.Tensor) -> torch.Tensor:
    """Whether each row (V,) equals another; eight columns tell nearly all apart, so few are compared whole."""
    columns = torch.linspace(0, weight.shape[1] - 1, min(8, weight.shape[1]), device=weight.device).long()
    alike = _repeated(weight[:, columns]).nonzero().flatten()
    repeated = torch.zeros(len(weight), dtype=torch.bool, device=weight.device)
    repeated[alike] = _repeated(weight[alike])
    return repeated


def _repeated(rows: torch.Tensor) -> torch.Tensor:
    inverse, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)[1:]
    alike: torch.Tensor = counts[inverse] > 1
    return alike
