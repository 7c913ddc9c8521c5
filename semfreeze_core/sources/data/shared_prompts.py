"""How many prompts of eval examples stand in the training examples too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from semfreeze_core.records.examples import Example
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.examples import read_examples
from semfreeze_core.sources.data.samples import resolve_data


@dataclass(frozen=True)
class SharedPrompts:
    """Eval examples whose prompt a training example has too: their losses show memory.

    Attributes:
        n_shared: eval examples with such a prompt.
        n_eval: usable eval examples.
    """

    n_shared: int
    n_eval: int


def count_shared_prompts(
    train: str, evaluation: str, mapping: FieldMapping, *, split: str | None = None, tokenizer: Any = None
) -> SharedPrompts:
    """Eval examples whose prompt stands in the training examples; of plain text, whose text does.

    Args:
        train, evaluation: task files or samples, all of whose usable rows count.
        mapping: which fields hold what.
        split: of the training data, where they are a hub dataset.
        tokenizer: as for `read_examples`.

    Raises:
        DataError: one of them cannot be read.
    """
    known = set(map(_key, _examples(train, mapping, split, tokenizer)))
    keys = [_key(example) for example in _examples(evaluation, mapping, None, tokenizer)]
    return SharedPrompts(sum(key in known for key in keys), len(keys))


def _examples(source: str, mapping: FieldMapping, split: str | None, tokenizer: Any) -> Sequence[Example]:
    return read_examples(
        resolve_data(source), mapping=mapping, split=split, n=None, seed=0, tokenizer=tokenizer
    ).examples


def _key(example: Example) -> str:
    """What rows of one prompt have in common, as where rows are held out."""
    return example.prompt or example.completion
