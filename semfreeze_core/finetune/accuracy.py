"""Accuracy by generation: greedy until the end of sequence, the stripped text compared with the reference."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from semfreeze_core.records.examples import TokenisedExample
from semfreeze_core.sources.decoder import Decoder

_EXTRA_TOKENS = 8  # a wrong answer may be longer than the reference; one that runs on past this is wrong anyway
_BATCH = 16


def generation_items(examples: Sequence[TokenisedExample], limit: int) -> list[int]:
    """Places of the first `limit` examples whose supervised tokens are one stretch at the end.

    Others (chats with several answers, plain text) have no one prompt to answer.
    """
    starts = [int(np.argmax(example.supervised)) for example in examples]
    fitting = (p for p, start in enumerate(starts) if start > 0 and examples[p].supervised[start:].all())
    return list(islice(fitting, limit))


@torch.no_grad()
def exact_matches(
    decoder: Decoder, tokenizer: Any, examples: Sequence[TokenisedExample], places: Sequence[int]
) -> float:
    """Share of the examples at `places` that the model answers exactly, in 0..1; NaN without any.

    Prompts are padded on the left, so that every row's next token is its own; equal lengths are batched together.
    """
    if not places:
        return float("nan")
    prompts = {place: int(np.argmax(examples[place].supervised)) for place in places}
    order = sorted(places, key=lambda place: prompts[place])
    right = 0
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        answers = _generate(
            decoder,
            tokenizer,
            [examples[p].input_ids[: prompts[p]] for p in batch],
            max(len(examples[p].input_ids) - prompts[p] for p in batch),
        )
        for place, answer in zip(batch, answers, strict=True):
            reference = tokenizer.decode(examples[place].input_ids[prompts[place] :], skip_special_tokens=True)
            right += answer.strip() == reference.strip()
    return right / len(places)


def _generate(decoder: Decoder, tokenizer: Any, prompts: list[Any], longest: int) -> list[str]:
    length = max(len(p) for p in prompts)
    ids = torch.zeros((len(prompts), length), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, length - len(prompt) :] = 1
    model = decoder.model
    was_training = model.training
    model.eval()
    out = model.generate(
        input_ids=ids.to(decoder.device),
        attention_mask=mask.to(decoder.device),
        max_new_tokens=longest + _EXTRA_TOKENS,
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.train(was_training)
    found: list[str] = tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
    return found
