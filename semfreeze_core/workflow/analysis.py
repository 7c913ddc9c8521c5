"""An analysis: read the model and the examples, measure the layers, and hand the run over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from semfreeze_core.device import PeakMemory
from semfreeze_core.processes import by_first, own_share
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.manifest import ExtractionEntry, RunManifest, ScoreEntry
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.run import Run
from semfreeze_core.records.scores import LayerScore
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace
from semfreeze_core.semantics.analysis import KeptStates, Labels, prepare_labels, read_traces
from semfreeze_core.semantics.display import choose_display
from semfreeze_core.semantics.extraction import extraction_entry
from semfreeze_core.semantics.score_states import ScoreStates
from semfreeze_core.semantics.scores import read_scores, states_to_keep
from semfreeze_core.semantics.task_null import OwnReading, read_task_null
from semfreeze_core.sources.models.causal_lm import LoadedModel, load_causal_lm
from semfreeze_core.sources.models.placement import place_layers
from semfreeze_core.workflow.entries import (
    analysis_settings,
    analysis_warnings,
    data_entry,
    model_entry,
    new_tokens_used,
)
from semfreeze_core.workflow.projection import project_states
from semfreeze_core.workflow.request import AnalysisRequest
from semfreeze_core.workflow.slow_scores import measure_slow_scores, slow_score_names
from semfreeze_core.workflow.task import TaskExamples, check_data, example_table, read_task


@dataclass(frozen=True)
class Analysis:
    """An analysis whose hidden states are read: layer contributions and the plan follow from its run.

    Attributes:
        run: with everything but the projection and the slow scores, which its manifest names as parts to come.
        projection: projects the display sample; called with a listener to its progress.
        slow_scores: measures those, one after the other; called likewise.
    """

    run: Run
    projection: Callable[[Progress], DisplaySample]
    slow_scores: Callable[[Progress], Iterator[LayerScore]]

    def complete(self, progress: Progress = silent) -> Run:
        """The run with the projection and the slow scores, too."""
        run = self.run.with_display(self.projection(progress))
        for score in self.slow_scores(progress):
            run = run.with_score(score)
        return run


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
    check_data(request)
    return _analysis(_read(load_model(request, progress), request, progress), progress)


def begin_shared_analysis(request: AnalysisRequest, progress: Progress = silent) -> Analysis | None:
    """As `begin_analysis`, by several joined processes, each of which reads its share of the examples.

    Returns:
        The analysis in the first process, and in one that works alone; None in the others.

    Raises:
        InputError: as `begin_analysis`.
    """
    check_data(request)
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
    """The run of what was read, and its parts to come."""
    loaded, request, task, labels = reading.loaded, reading.request, reading.task, reading.labels
    tokenized, decoder = task.encoded.tokenized, loaded.decoder
    scores = read_scores(tokenized, reading.states, len(decoder.layers), request.seed)
    new_tokens = new_tokens_used(loaded, tokenized)
    to_come = slow_score_names(request)
    manifest = RunManifest(
        model=model_entry(loaded, new_tokens),
        data=data_entry(request, task),
        settings=analysis_settings(request, labels.metrics),
        extraction=reading.extraction,
        task_null_reason=next(iter(reading.pairs.values())).reason,
        scores=[ScoreEntry.of(score) for score in scores.values()],
        scores_to_come=tuple(to_come),
        notes=[*loaded.notes, *task.examples.notes, *task.encoded.notes, *_reading_notes(reading)],
        warnings=analysis_warnings(request, new_tokens, tokenized),
        projection_to_come=True,
        display_note=f"{len(reading.display.states)} of {sum(map(len, task.positions))} positions, seed {request.seed}",
        provenance=provenance_now(request.seed),
        files={},
    )
    run = Run(manifest, reading.traces, reading.pairs, example_table(task), None, scores)
    return Analysis(
        run,
        lambda listener: project_states(loaded, request, task, labels, reading.display, listener),
        lambda listener: measure_slow_scores(loaded, request, to_come, lambda: task, listener),
    )


def _reading_notes(reading: _Reading) -> list[str]:
    """How the examples were read, where that is not in batches by one process on one device."""
    notes = ["Each layer off the device came in once for all examples."] if reading.by_layer else []
    count = reading.n_processes
    if count > 1:
        notes.append(f"{count} processes read the examples, each its share; the peak memory is that of the first.")
    return notes
