"""Rows held out of a task file for evaluation, where no eval examples are given."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.defaults import HELD_OUT, HELD_OUT_ROWS, MIN_EXAMPLES
from semfreeze_core.records.examples import Example
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.examples import ExampleSet, read_examples
from semfreeze_core.sources.data.rows import open_rows
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.sources.data.sampling import sample_rows
from semfreeze_core.storage import write_atomically


@dataclass(frozen=True)
class HeldOut:
    """A task file split in two.

    Attributes:
        train, evaluation: the two files, JSON lines.
        n_train, n_eval: their rows.
    """

    train: Path
    evaluation: Path
    n_train: int
    n_eval: int


def hold_out(
    source: str,
    mapping: FieldMapping,
    folder: Path,
    *,
    tokenizer: Any = None,
    seed: int = 0,
    progress: Progress = silent,
) -> HeldOut:
    """Write HELD_OUT of the usable rows as an eval file and the others as a training file.

    They are drawn by label where there are classes, and no prompt stands in both: rows of one prompt stay together. A
    second call writes the same.

    Args:
        source: as for `read_examples`.
        mapping: which fields hold what.
        folder: gets `train.jsonl` and `eval.jsonl`.
        tokenizer: as for `read_examples`.
        seed: of the draw.
        progress: receives the rows read.

    Raises:
        DataError: too few rows, or too few different prompts, to hold any out.
    """
    examples = read_examples(
        resolve_data(source), mapping=mapping, n=None, seed=seed, tokenizer=tokenizer, progress=progress
    ).examples
    evaluation = held_out_rows(source, examples, seed)
    train = {example.row for example in examples} - evaluation
    rows = {number: row for number, row in open_rows(resolve_data(source)) if number in train or number in evaluation}
    held_out = HeldOut(folder / "train.jsonl", folder / "eval.jsonl", len(train), len(evaluation))
    for path, numbers in ((held_out.train, train), (held_out.evaluation, evaluation)):
        # Values of other types than JSON's, such as dates, are in columns that no example is read from.
        lines = (json.dumps(rows[number], default=str) + "\n" for number in sorted(numbers))
        write_atomically(path, "".join(lines))
    return held_out


def split_examples(
    source: str, examples: ExampleSet, n_train: int | None, n_eval: int | None, seed: int
) -> tuple[ExampleSet, ExampleSet]:
    """Training and eval examples out of one source, as `hold_out` splits it, without writing files.

    Args:
        source: for messages.
        examples: all that are usable.
        n_train, n_eval: how many to draw of either part, by label where there is one; None takes all.
        seed: of the split and the draws.

    Raises:
        DataError: too few rows, or too few different prompts, to hold any out.
    """
    held_out = held_out_rows(source, examples.examples, seed)
    parts = []
    for n, inside in ((n_train, False), (n_eval, True)):
        indices = [i for i, example in enumerate(examples.examples) if (example.row in held_out) == inside]
        order, notes = sample_rows([examples.examples[i].label for i in indices], n, seed)
        drawn = [indices[i] for i in order]
        parts.append(
            replace(
                examples,
                examples=tuple(examples.examples[i] for i in drawn),
                n_usable=len(indices),
                notes=(*examples.notes, *notes),
                groups={name: tuple(values[i] for i in drawn) for name, values in examples.groups.items()},
            )
        )
    return parts[0], parts[1]


def n_held_out(n_examples: int) -> int:
    """How many of so many usable examples are held out, at most: whole prompts may make them fewer."""
    least, most = HELD_OUT_ROWS
    return min(most, max(least, round(HELD_OUT * n_examples)))


def held_out_rows(source: str, examples: Sequence[Example], seed: int) -> set[int]:
    """Row numbers to hold out: HELD_OUT of the examples, at least and at most HELD_OUT_ROWS, whole prompts only.

    Args:
        source: for the message.
        examples: all usable ones.
        seed: of the draw.

    Raises:
        DataError: fewer than the least would be held out, or fewer than MIN_EXAMPLES would be left.
    """
    least, wanted = HELD_OUT_ROWS[0], n_held_out(len(examples))
    if len(examples) < wanted + MIN_EXAMPLES:
        raise DataError(
            f"{source} has {len(examples)} usable rows, too few to hold any out for evaluation: at least "
            f"{least + MIN_EXAMPLES} are needed. Add rows, or give eval examples with --eval."
        )
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.prompt or example.completion, []).append(example)
    movable = [group for group in groups.values() if len(group) <= wanted]
    # Drawn by label one by one, so that enough rows come together whatever the sizes of the groups.
    share = max(1, round(len(movable) * wanted / len(examples)))
    order, _ = sample_rows([group[0].label for group in movable], share, seed)
    rows = _first_rows([movable[i] for i in order], wanted)
    rest = [i for i in sample_rows([None] * len(movable), None, seed)[0] if i not in set(order)]
    rows |= _first_rows([movable[i] for i in rest], wanted - len(rows))
    if len(rows) < least:
        raise DataError(
            f"{source} has too few different prompts to hold any out for evaluation: rows with the same prompt stay "
            f"together, and at least {least} rows with prompts of their own are needed. Give eval examples with --eval."
        )
    return rows


def _first_rows(groups: Collection[Sequence[Example]], wanted: int) -> set[int]:
    """Rows of whole groups in their order, as far as they are no more than wanted."""
    rows: set[int] = set()
    for group in groups:
        if len(rows) + len(group) <= wanted:
            rows |= {example.row for example in group}
    return rows
