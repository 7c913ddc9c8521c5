"""Tokenized examples made of random tokens, and an independent way to read them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.models.decoder import Decoder


def make_example(*stretches: Sequence[int], row: int = 0, label: str | None = None) -> TokenizedExample:
    """Alternating context and supervised stretches of token ids, context first."""
    flags = [bool(i % 2) for i in range(len(stretches))]
    return TokenizedExample(
        input_ids=np.concatenate([np.asarray(s, dtype=np.int64) for s in stretches]),
        supervised=np.repeat(flags, [len(s) for s in stretches]),
        label=label,
        row=row,
    )


def random_examples(
    n: int, seed: int, *, vocab: int = 97, prompt: tuple[int, int] = (2, 12), completion: tuple[int, int] = (1, 5)
) -> list[TokenizedExample]:
    """Prompts and completions of uniformly random tokens, independent of each other; lengths are inclusive ranges.

    Special tokens (0 to 2) are left out: the padding token's embedding is zero in a tiny Llama.
    """
    rng = np.random.default_rng(seed)

    def draw(lengths: tuple[int, int]) -> list[int]:
        return rng.integers(3, vocab, rng.integers(lengths[0], lengths[1] + 1)).tolist()

    return [make_example(draw(prompt), draw(completion), row=row) for row in range(n)]


@torch.no_grad()
def own_spaces(decoder: Decoder, example: TokenizedExample) -> Tensor:
    """Normalized states (L + 1, T, d) of one example, from the library's own `output_hidden_states`, unpadded.

    The library hands the last space out normalized already.
    """
    out = decoder.model(input_ids=torch.from_numpy(example.input_ids)[None], output_hidden_states=True, use_cache=False)
    *raw, last = out.hidden_states
    return torch.stack([*(decoder.final_norm(state) for state in raw), last])[:, 0]


def semantic_by_definition(decoder: Decoder, example: TokenizedExample, positions: Sequence[int]) -> Tensor:
    """1 - cos(u, pinv(W) e_y) of the named positions at every space, float64 (L + 1, n), through an SVD."""
    at = torch.as_tensor(list(positions))
    states = own_spaces(decoder, example)[:, at - 1].double()
    bases = torch.linalg.pinv(decoder.head.weight.detach().double()).T[torch.from_numpy(example.input_ids)[at]]
    return 1 - torch.cosine_similarity(states, bases, dim=-1)
