"""The examples of a finetune: tokenized as the analysis tokenized them, with warnings about what would mislead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import HELD_OUT_DATA
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data.encode import EncodedSet, encode_all
from semfreeze_core.sources.data.examples import ExampleSet, read_examples
from semfreeze_core.sources.data.held_out import split_examples
from semfreeze_core.sources.data.samples import resolve_data


@dataclass(frozen=True)
class TaskData:
    """Training and eval examples.

    Attributes:
        train: training examples, as encoded.
        evaluation: eval examples, as encoded.
        train_notes: how the training set was read: fields that were guessed, columns that are not, how it was drawn.
        skipped: of each set with rows that cannot be read, how many and why; the training set's first.
        overlap: warnings about eval examples that are training examples too.
    """

    train: EncodedSet
    evaluation: EncodedSet
    train_notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    overlap: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what would make a comparison less reliable."""
        return self.skipped + self.overlap


def read_task_data(
    train: str,
    evaluation: str,
    tokenizer: Any,
    *,
    mapping: FieldMapping,
    n_train: int | None,
    n_eval: int | None,
    max_length: int,
    add_eos: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> TaskData:
    """Read and tokenize both sets.

    Args:
        train, evaluation: task files, "hf:owner/name#split", or "sample:NAME"; HELD_OUT_DATA for eval examples takes
            rows of the training data, which are then not trained on.
        tokenizer: the model's.
        mapping: which fields hold what; unset ones are guessed when unambiguous.
        n_train, n_eval: how many to draw, by label where there is one; None takes all.
        max_length, add_eos: as for encode_all.
        seed: of the draws.
        progress: receives the number of examples read, and how each set was read as messages.

    Raises:
        DataError: a file cannot be used, or has no usable example.
    """
    sets: list[EncodedSet] = []
    notes: list[list[str]] = []
    skipped = []

    def read(source: str, n: int | None) -> ExampleSet:
        return read_examples(
            resolve_data(source), mapping=mapping, split=None, n=n, seed=seed, tokenizer=tokenizer, progress=progress
        )

    for name in ("training set", "eval set"):
        try:
            if evaluation != HELD_OUT_DATA:
                examples = read(train, n_train) if name == "training set" else read(evaluation, n_eval)
            elif name == "training set":
                whole = read(train, None)
                examples, held_out = split_examples(train, whole, n_train, n_eval, seed)
                text = f"{held_out.n_usable:,} of {whole.n_usable:,} rows are held out for evaluation."
                progress(ProgressEvent("Holding out", message=text))
            else:
                examples = held_out
            notes.append([note for note in examples.notes if note != examples.skipped_note])
            for note in notes[-1]:
                n_rows = examples.n_rows
                progress(ProgressEvent("Checking rows", n_rows, n_rows, "rows", f"The {name}: {note}"))
            sets.append(
                encode_all(
                    tokenizer,
                    examples.examples,
                    max_length=max_length,
                    add_eos=add_eos,
                    minimum=1,
                    counts=examples.counts,
                    progress=progress,
                )
            )
        except DataError as error:
            raise DataError(f"The {name}: {error}") from error
        if examples.skipped_note is not None and (name == "training set" or evaluation != HELD_OUT_DATA):
            skipped.append(f"The {name}: {examples.skipped_note}")
    overlap = overlap_warnings(sets[0].tokenized, sets[1].tokenized)
    return TaskData(sets[0], sets[1], tuple(notes[0]), tuple(skipped), tuple(overlap))


def overlap_warnings(train: Sequence[TokenizedExample], evaluation: Sequence[TokenizedExample]) -> list[str]:
    """Warnings about eval examples that are training examples too: their losses show memory."""
    train_tokens = {example.input_ids.tobytes() for example in train}
    shared = sum(example.input_ids.tobytes() in train_tokens for example in evaluation)
    if not shared:
        return []
    if shared == len(evaluation):
        return ["Every eval example is also a training example: losses show memory, and a verdict means nothing."]
    return [f"{shared} of {len(evaluation)} eval examples are also training examples: their losses show memory."]
