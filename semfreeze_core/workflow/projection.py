"""The projection of the display sample, which takes long and decides nothing."""

from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.semantics.analysis import KeptStates, Labels, prepare_labels
from semfreeze_core.semantics.display import choose_display, project_display, read_display_states
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.workflow.request import AnalysisRequest
from semfreeze_core.workflow.task import TaskExamples


def project_states(
    loaded: LoadedModel,
    request: AnalysisRequest,
    task: TaskExamples,
    labels: Labels,
    states: KeptStates,
    progress: Progress = silent,
) -> DisplaySample:
    """The display sample of an analysis, from the states that its passes kept."""
    progress(ProgressEvent("Projecting the display sample"))
    return project_display(
        loaded.decoder, loaded.tokenizer, task.encoded.tokenized, task.positions, labels, states, request.seed
    )


def read_projection(
    loaded: LoadedModel, request: AnalysisRequest, task: TaskExamples, progress: Progress = silent
) -> DisplaySample:
    """The display sample of an analysis whose states are gone: they are read again.

    Raises:
        ModelError, ResourceError: as reading states does.
    """
    tokenized, positions = task.encoded.tokenized, task.positions
    labels = prepare_labels(loaded.decoder, tokenized, positions, real_rows=loaded.vocabulary.real_rows,
                            lens_loss=request.lens_loss)  # fmt: skip
    states = choose_display(loaded.decoder, positions, request.display_positions, request.seed)
    read_display_states(
        loaded.decoder, tokenized, positions, labels, states, max_tokens=request.batch_tokens, progress=progress
    )
    return project_states(loaded, request, task, labels, states, progress)
