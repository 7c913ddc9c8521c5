"""Task data as rows for any causal language model trainer."""

import warnings
from typing import Any

from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.encode import encode_all
from semfreeze_core.sources.data.examples import read_examples
from semfreeze_core.sources.data.samples import resolve_data

IGNORED = -100  # torch's and transformers' label of a token without a loss


def training_rows(
    data: str, tokenizer: Any, *, mapping: FieldMapping | None = None, max_length: int
) -> list[dict[str, list[int]]]:
    """All usable examples of a source, tokenized as an analysis does; exported scripts train on them.

    Args:
        data: a task file, "hf:owner/name#split", or "sample:NAME".
        tokenizer: the model's.
        mapping: which fields hold what; unset ones are guessed when unambiguous.
        max_length: longest example in tokens; longer ones are truncated as in an analysis.

    Returns:
        One row per example with `input_ids` and `labels` of the same length; a label is the token id at target tokens
        and -100 elsewhere.

    Raises:
        DataError: the source cannot be used, or has no usable example.
    """
    example_set = read_examples(
        resolve_data(data), mapping=mapping or FieldMapping(), n=None, seed=0, tokenizer=tokenizer
    )
    if example_set.skipped_note is not None:
        warnings.warn(example_set.skipped_note, stacklevel=2)
    encoded = encode_all(tokenizer, example_set.examples, max_length=max_length, minimum=1, counts=example_set.counts)
    rows = []
    for example in encoded.tokenized:
        ids = example.input_ids.tolist()
        labels = [token if target else IGNORED for token, target in zip(ids, example.supervised, strict=True)]
        rows.append({"input_ids": ids, "labels": labels})
    return rows
