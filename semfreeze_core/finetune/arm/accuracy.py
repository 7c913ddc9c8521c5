"""Accuracy by generation: greedy until an end of sequence or turn, the stripped text compared with the reference."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from semfreeze_core.finetune.model.batches import bounded_batches
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.sources.data.chat_template import end_of_turn
from semfreeze_core.sources.models.decoder import Decoder

ANSWERING = "Generating answers before training"
_EXTRA_TOKENS = 8  # a wrong answer may be longer than the reference; one that runs on past this is wrong anyway


def generation_indices(examples: Sequence[TokenizedExample], limit: int) -> list[int]:
    """Indices of the first `limit` examples whose target tokens are one stretch at the end.

    Others (chats with several answers, plain text) have no one prompt to answer.
    """
    starts = [int(np.argmax(example.supervised)) for example in examples]
    fitting = (i for i, start in enumerate(starts) if start > 0 and examples[i].supervised[start:].all())
    return list(islice(fitting, limit))


def references(tokenizer: Any, examples: Sequence[TokenizedExample], indices: Sequence[int]) -> list[tuple[str, str]]:
    """Prompt and reference of the examples at `indices`, as text."""
    pairs = []
    for i in indices:
        ids, start = examples[i].input_ids, int(np.argmax(examples[i].supervised))
        prompt = tokenizer.decode(ids[:start], skip_special_tokens=True)
        pairs.append((prompt, tokenizer.decode(ids[start:], skip_special_tokens=True)))
    return pairs


@torch.no_grad()
def answers(
    decoder: Decoder,
    tokenizer: Any,
    examples: Sequence[TokenizedExample],
    indices: Sequence[int],
    progress: Progress = silent,
) -> list[str]:
    """The model's answers to the prompts of the examples at `indices`, in their order.

    Prompts are padded on the left, so that every row's next token is its own; equal lengths are batched together.
    """
    prompt_lengths = {i: int(np.argmax(examples[i].supervised)) for i in indices}
    order = sorted(indices, key=lambda i: prompt_lengths[i])
    answer_by_index: dict[int, str] = {}
    lengths = [len(examples[i].input_ids) + _EXTRA_TOKENS for i in order]
    for part in bounded_batches(lengths):
        progress(ProgressEvent(ANSWERING, len(answer_by_index), len(order), "examples"))
        batch = [order[i] for i in part]
        generated = _generate(
            decoder,
            tokenizer,
            [examples[i].input_ids[: prompt_lengths[i]] for i in batch],
            max(len(examples[i].input_ids) - prompt_lengths[i] for i in batch),
        )
        answer_by_index |= dict(zip(batch, generated, strict=True))
    if order:
        progress(ProgressEvent(ANSWERING, len(order), len(order), "examples"))
    return [answer_by_index[i] for i in indices]


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Ids at which an answer ends, by the tokenizer, the generation config and the chat template.

    A chat model's tokenizer often names the end of a document, and its answers end before.
    """
    configured = model.generation_config.eos_token_id
    ids = [tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])]
    ids.append(end_of_turn(tokenizer))
    rows = model.get_input_embeddings().num_embeddings
    return sorted({i for i in ids if i is not None and 0 <= i < rows})


def exact_match_fraction(generated: Sequence[str], expected: Sequence[str]) -> float:
    """Share of answers that equal the reference, without white space around them, in 0..1; NaN without any."""
    if not generated:
        return float("nan")
    return sum(one.strip() == other.strip() for one, other in zip(generated, expected, strict=True)) / len(generated)


def _generate(decoder: Decoder, tokenizer: Any, prompts: list[Any], longest: int) -> list[str]:
    length = max(len(p) for p in prompts)
    ids = torch.zeros((len(prompts), length), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, length - len(prompt) :] = 1
    model = decoder.model
    ends = end_tokens(model, tokenizer)
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
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(ends), None),
        eos_token_id=ends or None,
    )
    model.train(was_training)
    texts: list[str] = tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
    return texts
