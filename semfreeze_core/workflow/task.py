"""The examples of an analysis: drawn from its data, as token ids, with the positions that are read of each."""

from dataclasses import dataclass

import pandas as pd

from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.defaults import MAX_LENGTH
from semfreeze_core.records.run import GROUP_PREFIX
from semfreeze_core.semantics.positions import Positions, choose_positions
from semfreeze_core.sources.data.encode import EncodedSet, encode_all
from semfreeze_core.sources.data.examples import ExampleSet, read_examples
from semfreeze_core.sources.data.fields import resolve_fields
from semfreeze_core.sources.data.rows import open_rows
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.workflow.request import AnalysisRequest


@dataclass(frozen=True)
class TaskExamples:
    """The examples of an analysis.

    Attributes:
        examples: as drawn from the data.
        encoded: the same as token ids.
        max_length: the longest one's limit, in tokens.
        positions: target positions read of each.
    """

    examples: ExampleSet
    encoded: EncodedSet
    max_length: int
    positions: list[Positions]


def read_task(loaded: LoadedModel, request: AnalysisRequest, progress: Progress = silent) -> TaskExamples:
    """The examples that a request draws, as its model reads them.

    Raises:
        InputError: the data cannot be used.
    """
    examples = read_examples(
        resolve_data(request.data),
        mapping=request.mapping,
        split=request.split,
        n=request.examples or None,
        seed=request.seed,
        tokenizer=loaded.tokenizer,
        progress=progress,
    )
    max_length = length_limit(loaded.shape.max_positions, request.max_length)
    encoded = encode_all(
        loaded.tokenizer,
        examples.examples,
        max_length=max_length,
        add_eos=request.add_eos,
        allow_few=request.allow_few,
        counts=examples.counts,
        progress=progress,
    )
    positions = choose_positions(encoded.tokenized, request.positions, request.seed)
    return TaskExamples(examples, encoded, max_length, positions)


def check_data(request: AnalysisRequest) -> None:
    """Refuse a task file that is missing or whose fields are unclear, before minutes go into loading a model."""
    source = resolve_data(request.data)
    if not source.startswith("hf:"):
        resolve_fields(request.mapping, open_rows(source, request.split).columns())


def length_limit(max_positions: int | None, max_length: int | None) -> int:
    """Longest example in tokens: the smaller of the model's limit and the requested one; None stands for MAX_LENGTH."""
    return min(max_positions or MAX_LENGTH, max_length or MAX_LENGTH)


def example_table(task: TaskExamples) -> pd.DataFrame:
    """A row per example, with the columns that `Run.examples` describes."""
    examples, tokenized = task.examples, task.encoded.tokenized
    index_by_row = {e.row: i for i, e in enumerate(examples.examples)}
    indices = [index_by_row[t.row] for t in tokenized]
    texts = {
        "label": [t.label for t in tokenized],
        "prompt": [examples.examples[i].prompt for i in indices],
        "completion": [examples.examples[i].completion for i in indices],
    } | {GROUP_PREFIX + name: [values[i] for i in indices] for name, values in examples.groups.items()}
    return pd.DataFrame(
        {"row": [t.row for t in tokenized]}
        | {name: pd.Series(values, dtype="string") for name, values in texts.items()}
        | {
            "n_tokens": [len(t.input_ids) for t in tokenized],
            "n_supervised": [int(t.supervised.sum()) for t in tokenized],
            "n_read": [len(p) for p in task.positions],
            "n_truncated": [t.truncated for t in tokenized],
        }
    )
