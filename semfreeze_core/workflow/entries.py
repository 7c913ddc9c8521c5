"""What a run's manifest records of its model, its data and its settings, and its warnings."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from semfreeze_core.device import dtype_name
from semfreeze_core.gains.task_checks import check_task
from semfreeze_core.records.defaults import BIGRAM_COMPLETIONS, MIN_EXAMPLES
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.manifest import AnalysisSettings, DataEntry, ModelEntry
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.workflow.request import AnalysisRequest
from semfreeze_core.workflow.task import TaskExamples


def new_tokens_used(loaded: LoadedModel, tokenized: Sequence[TokenizedExample]) -> int:
    """How many different tokens of the examples have an embedding that was added or never trained."""
    used = set(np.unique(np.concatenate([e.input_ids for e in tokenized])).tolist())
    return len(used & (loaded.vocabulary.untrained | loaded.vocabulary.added))


def model_entry(loaded: LoadedModel, new_tokens: int) -> ModelEntry:
    """The model as a manifest records it."""
    decoder = loaded.decoder
    return ModelEntry(
        identity=loaded.identity,
        shape=loaded.shape,
        names=decoder.names,
        dtype=dtype_name(decoder.dtype),
        device=str(decoder.device),
        logits_error=decoder.logits_error,
        real_vocab_rows=loaded.vocabulary.real_rows,
        padded_vocab_rows=loaded.vocabulary.padded_rows,
        new_tokens_used=new_tokens,
    )


def data_entry(request: AnalysisRequest, task: TaskExamples) -> DataEntry:
    """The examples as a manifest records them: where they are from, how they were read, and how many."""
    examples, encoded = task.examples, task.encoded
    tokenized = encoded.tokenized
    labels = {e.label for e in tokenized if e.label is not None}
    return DataEntry(
        source=request.data,
        file_digest=examples.file_digest,
        split=request.split,
        mapping=asdict(examples.mapping),
        n_rows=examples.n_rows,
        n_usable=examples.n_usable,
        n_examples=len(tokenized),
        n_labels=len(labels) or None,
        n_tokens=sum(len(e.input_ids) for e in tokenized),
        n_supervised_tokens=sum(int(e.supervised.sum()) for e in tokenized),
        n_positions_read=sum(len(p) for p in task.positions),
        n_truncated=encoded.n_truncated,
        n_too_long=encoded.n_too_long,
        max_length=task.max_length,
        tokens_digest=encoded.digest,
        checks=check_task(tokenized[:BIGRAM_COMPLETIONS], tokenized[BIGRAM_COMPLETIONS:]),
    )


def analysis_settings(request: AnalysisRequest, metrics: Sequence[str]) -> AnalysisSettings:
    """What the request asked for, as a manifest records it."""
    return AnalysisSettings(
        examples=request.examples,
        positions=request.positions,
        add_eos=request.add_eos,
        metrics=list(metrics),
        seed=request.seed,
        max_length=request.max_length,
        display_positions=request.display_positions,
    )


def analysis_warnings(request: AnalysisRequest, new_tokens: int, tokenized: Sequence[TokenizedExample]) -> list[str]:
    """What an analysis of layers cannot show, where this request makes it matter."""
    warnings = repetition_warnings(tokenized)
    if new_tokens:
        warnings.append(
            f"The data uses {new_tokens} tokens whose embeddings look new or untrained. Freezing layers freezes the "
            "embeddings too, so these would stay as they are."
        )
    if request.mapping.text_field:
        warnings.append(
            "Plain text has no prompts to swap, so there is no swapped-completion control. New knowledge and new "
            "languages enter in the first layers, which freezing would keep from learning."
        )
    return warnings


def repetition_warnings(tokenized: Sequence[TokenizedExample]) -> list[str]:
    """A warning where intervals over examples would be too narrow, as examples repeat one another."""
    n, distinct = len(tokenized), len({(e.input_ids.tobytes(), e.supervised.tobytes()) for e in tokenized})
    if distinct == 1:
        which = "There is one example" if n == 1 else f"All {n} examples are the same"
        return [f"{which}, so intervals have no width. They do not show how the estimates vary between examples."]
    if distinct < min(n, MIN_EXAMPLES):
        return [
            f"Only {distinct} of {n} examples differ. Intervals treat the repeated ones as independent, so they are "
            "too narrow."
        ]
    return []
