"""The steps of an analysis in order, from model and examples to a run; the command line and the dashboard call them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

from semfreeze_core.device import PeakMemory, dtype_name
from semfreeze_core.errors import InputError
from semfreeze_core.gains.task_checks import check_task
from semfreeze_core.processes import by_first, own_share
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import (
    BIGRAM_COMPLETIONS,
    DISPLAY_POSITIONS,
    EXAMPLES,
    LARGEST_SEED,
    MAX_DISPLAY_POSITIONS,
    MAX_LENGTH,
    MIN_EXAMPLES,
    POSITIONS,
)
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.manifest import (
    AnalysisSettings,
    DataEntry,
    ExtractionEntry,
    ModelEntry,
    RunManifest,
    ScoreEntry,
)
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.run import GROUP_PREFIX, Run
from semfreeze_core.records.scores import SCORE_NAMES, SLOW_SCORES, LayerScore, ScoreName
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace
from semfreeze_core.records.training import DtypeName
from semfreeze_core.semantics.analysis import KeptStates, Labels, prepare_labels, read_traces
from semfreeze_core.semantics.display import choose_display, project_display
from semfreeze_core.semantics.extraction import extraction_entry
from semfreeze_core.semantics.gradient_norm import gradient_score
from semfreeze_core.semantics.positions import Positions, choose_positions
from semfreeze_core.semantics.score_states import ScoreStates
from semfreeze_core.semantics.scores import read_scores, read_spectrum_score, states_to_keep
from semfreeze_core.semantics.task_null import OwnReading, read_task_null
from semfreeze_core.sources.data.encode import EncodedSet, encode_all
from semfreeze_core.sources.data.examples import ExampleSet, read_examples
from semfreeze_core.sources.data.fields import resolve_fields
from semfreeze_core.sources.data.rows import open_rows
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.sources.models.causal_lm import LoadedModel, load_causal_lm
from semfreeze_core.sources.models.placement import place_layers


@dataclass(frozen=True)
class AnalysisRequest:
    """What to analyze, and how.

    Attributes:
        model: "embedded", a local folder, a hub id, or a GGUF file.
        data: a task file, "hf:owner/name", or "sample:NAME".
        mapping: which fields hold what; unset ones are guessed when unambiguous.
        split: of a hub dataset.
        examples: how many to draw; 0 takes all.
        positions: target tokens analyzed per example at most.
        max_length: longest example in tokens; None takes the model's limit, at most MAX_LENGTH.
        add_eos: end completions with the tokenizer's EOS, as a target token.
        allow_few: accept fewer than MIN_EXAMPLES.
        lens_loss: also measure the whole head's cross-entropy at every hidden state (slower).
        scores: layer scores to measure besides the cheap ones.
        seed: of every draw.
        display_positions: positions saved for drawing, at most MAX_DISPLAY_POSITIONS.
        revision: of a hub model.
        dtype: auto, float32 or bfloat16.
        device: auto, cpu, cuda, cuda:N or mps.
        trust_remote_code: run Python code that comes with the checkpoint.
        allow_pickle: accept weights stored as pickle, which can run code while loading.
        batch_tokens: tokens per forward pass, padding included; None takes the device's default.
    """

    model: str
    data: str
    mapping: FieldMapping = field(default_factory=FieldMapping)
    split: str | None = None
    examples: int = EXAMPLES
    positions: int = POSITIONS
    max_length: int | None = None
    add_eos: bool = True
    allow_few: bool = False
    lens_loss: bool = False
    scores: tuple[ScoreName, ...] = ()
    seed: int = 0
    display_positions: int = DISPLAY_POSITIONS
    revision: str | None = None
    dtype: DtypeName = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.display_positions <= MAX_DISPLAY_POSITIONS:
            raise InputError(
                f"display_positions must be in 1..{MAX_DISPLAY_POSITIONS}, found {self.display_positions}."
            )
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"seed must be in 0..{LARGEST_SEED}, found {self.seed}.")
        if unknown := [name for name in self.scores if name not in SCORE_NAMES]:
            raise InputError(f"scores: expected {', '.join(SCORE_NAMES)}, found {', '.join(unknown)}.")


@dataclass(frozen=True)
class Analysis:
    """An analysis whose hidden states are read: layer contributions and the plan follow from its run.

    Attributes:
        run: with everything but the slow scores, which its manifest names as scores to come.
        slow_scores: measures those, one after the other; called with a listener to its progress.
    """

    run: Run
    slow_scores: Callable[[Progress], Iterator[LayerScore]]

    def complete(self, progress: Progress = silent) -> Run:
        """The run with the slow scores, too."""
        run = self.run
        for score in self.slow_scores(progress):
            run = run.with_score(score)
        return run


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


def analyze(request: AnalysisRequest, progress: Progress = silent) -> Run:
    """Analyze a model on examples, layer by layer.

    Args:
        request: what to analyze, and how.
        progress: receives stages and counts.

    Returns:
        The run, in memory; `semfreeze_core.write_run` saves it.

    Raises:
        InputError: the model or the data cannot be used, or memory is too small; nothing is saved.
    """
    return begin_analysis(request, progress).complete(progress)


def analyze_loaded(loaded: LoadedModel, request: AnalysisRequest, progress: Progress = silent) -> Run:
    """As `analyze`, with a model that is already in memory."""
    return _analysis(_read(loaded, request, progress), progress).complete(progress)


def begin_analysis(request: AnalysisRequest, progress: Progress = silent) -> Analysis:
    """Analyze a model on examples up to where layer contributions and the plan are known.

    Args:
        request: what to analyze, and how.
        progress: receives stages and counts.

    Raises:
        InputError: the model or the data cannot be used, or memory is too small; nothing is saved.
    """
    _check_data(request)
    return _analysis(_read(load_model(request, progress), request, progress), progress)


def begin_shared_analysis(request: AnalysisRequest, progress: Progress = silent) -> Analysis | None:
    """As `begin_analysis`, by several joined processes, each of which reads its share of the examples.

    Returns:
        The analysis in the first process, and in one that works alone; None in the others.

    Raises:
        InputError: as `begin_analysis`.
    """
    _check_data(request)
    reading = _read(load_model(request, progress), request, progress)
    return by_first(lambda: _analysis(reading, progress))


def load_model(request: AnalysisRequest, progress: Progress = silent) -> LoadedModel:
    """The model that a request names, in memory.

    Raises:
        InputError: it cannot be used, or memory is too small.
    """
    return load_causal_lm(
        request.model,
        revision=request.revision,
        dtype=request.dtype,
        device=request.device,
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
        placing=place_layers,
        progress=progress,
    )


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


def slow_score_names(request: AnalysisRequest) -> list[ScoreName]:
    """The slow scores of a request: the spectrum, which is left out where it takes too long, and those it names."""
    return [name for name in SLOW_SCORES if name == "spectrum" or name in request.scores]


def measure_slow_scores(
    loaded: LoadedModel,
    request: AnalysisRequest,
    names: Sequence[ScoreName],
    task: Callable[[], TaskExamples],
    progress: Progress = silent,
) -> Iterator[LayerScore]:
    """Slow scores one after the other, each measured when it is asked for.

    Args:
        loaded: the model.
        request: of the analysis.
        names: of the scores.
        task: returns the examples, for a score that needs them.
        progress: receives stages and counts.
    """
    for name in names:
        if name == "spectrum":
            requested = name in request.scores
            yield read_spectrum_score(loaded.decoder, loaded.identity, requested=requested, progress=progress)
        else:
            read = task()
            yield gradient_score(
                loaded.decoder,
                read.encoded.tokenized,
                read.positions,
                max_tokens=request.batch_tokens,
                progress=progress,
            )


@dataclass(frozen=True)
class _Reading:
    """What the passes over the examples gave, and what they were read with.

    Attributes:
        loaded, request, task, labels: of the analysis.
        traces, pairs: by metric, of the examples and of the swapped completions.
        display: states of the display sample.
        states: of the layer scores that come with the passes.
        extraction: what reading took.
        by_layer: whether layers kept off the device came in once for all examples.
        n_processes: that read, each its share.
    """

    loaded: LoadedModel
    request: AnalysisRequest
    task: TaskExamples
    labels: Labels
    traces: dict[str, TransitionTrace]
    pairs: dict[str, SwappedPairs]
    display: KeptStates
    states: ScoreStates
    extraction: ExtractionEntry
    by_layer: bool
    n_processes: int


def _read(loaded: LoadedModel, request: AnalysisRequest, progress: Progress) -> _Reading:
    """Read the examples; of several processes each its share."""
    task, decoder = read_task(loaded, request, progress), loaded.decoder
    tokenized, positions = task.encoded.tokenized, task.positions
    progress(ProgressEvent("Solving for the semantic bases"))
    labels = prepare_labels(
        decoder, tokenized, positions, real_rows=loaded.vocabulary.real_rows, lens_loss=request.lens_loss
    )
    display_rows = choose_display(decoder, positions, request.display_positions, request.seed)
    states = states_to_keep(decoder, tokenized, request.seed)
    peak = PeakMemory(decoder.device)
    traces, tally = read_traces(
        decoder,
        tokenized,
        positions,
        labels,
        max_tokens=request.batch_tokens,
        kept_states=display_rows,
        scores=states,
        progress=progress,
    )
    pairs, null_tally = read_task_null(
        decoder,
        tokenized,
        labels,
        position_limit=request.positions,
        seed=request.seed,
        analyzed=OwnReading(positions, traces),
        max_tokens=request.batch_tokens,
        progress=progress,
    )
    extraction = extraction_entry(tally, null_tally, peak)
    return _Reading(
        loaded, request, task, labels, traces, pairs, display_rows, states, extraction, tally.by_layer, own_share().of
    )


def _analysis(reading: _Reading, progress: Progress) -> Analysis:
    """The run of what was read, and its slow scores to come."""
    loaded, request, task, labels = reading.loaded, reading.request, reading.task, reading.labels
    tokenized, decoder = task.encoded.tokenized, loaded.decoder
    scores = read_scores(tokenized, reading.states, len(decoder.layers), request.seed)
    progress(ProgressEvent("Projecting the display sample"))
    display = project_display(
        decoder, loaded.tokenizer, tokenized, task.positions, labels, reading.display, request.seed
    )
    new_tokens = _new_tokens_used(loaded, tokenized)
    to_come = slow_score_names(request)
    manifest = RunManifest(
        model=_model_entry(loaded, new_tokens),
        data=_data_entry(request, task),
        settings=_settings(request, labels.metrics),
        extraction=reading.extraction,
        task_null_reason=next(iter(reading.pairs.values())).reason,
        scores=[ScoreEntry.of(score) for score in scores.values()],
        scores_to_come=tuple(to_come),
        notes=[*loaded.notes, *task.examples.notes, *task.encoded.notes, *_reading_notes(reading)],
        warnings=_warnings(request, new_tokens, tokenized),
        display_note=f"{display.coordinates.shape[1]} of {display.n_positions_total} positions, seed {request.seed}",
        provenance=provenance_now(request.seed),
        files={},
    )
    run = Run(manifest, reading.traces, reading.pairs, _example_table(task), display, scores)
    return Analysis(run, lambda listener: measure_slow_scores(loaded, request, to_come, lambda: task, listener))


def _reading_notes(reading: _Reading) -> list[str]:
    """How the examples were read, where that is not in batches by one process on one device."""
    notes = ["Each layer off the device came in once for all examples."] if reading.by_layer else []
    count = reading.n_processes
    if count > 1:
        notes.append(f"{count} processes read the examples, each its share; the peak memory is that of the first.")
    return notes


def _check_data(request: AnalysisRequest) -> None:
    """Refuse a task file that is missing or whose fields are unclear, before minutes go into loading a model."""
    source = resolve_data(request.data)
    if not source.startswith("hf:"):
        resolve_fields(request.mapping, open_rows(source, request.split).columns())


def length_limit(max_positions: int | None, max_length: int | None) -> int:
    """Longest example in tokens: the smaller of the model's limit and the requested one; None stands for MAX_LENGTH."""
    return min(max_positions or MAX_LENGTH, max_length or MAX_LENGTH)


def _new_tokens_used(loaded: LoadedModel, tokenized: Sequence[TokenizedExample]) -> int:
    used = set(np.unique(np.concatenate([e.input_ids for e in tokenized])).tolist())
    return len(used & (loaded.vocabulary.untrained | loaded.vocabulary.added))


def _model_entry(loaded: LoadedModel, new_tokens: int) -> ModelEntry:
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


def _data_entry(request: AnalysisRequest, task: TaskExamples) -> DataEntry:
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


def _settings(request: AnalysisRequest, metrics: Sequence[str]) -> AnalysisSettings:
    return AnalysisSettings(
        examples=request.examples,
        positions=request.positions,
        add_eos=request.add_eos,
        metrics=list(metrics),
        seed=request.seed,
        max_length=request.max_length,
        display_positions=request.display_positions,
    )


def _warnings(request: AnalysisRequest, new_tokens: int, tokenized: Sequence[TokenizedExample]) -> list[str]:
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


def _example_table(task: TaskExamples) -> pd.DataFrame:
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
