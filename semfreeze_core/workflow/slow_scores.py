"""The layer scores that take long and decide nothing, each measured when it is asked for."""

from collections.abc import Callable, Iterator, Sequence

from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.scores import SLOW_SCORES, LayerScore, ScoreName
from semfreeze_core.semantics.gradient_norm import gradient_score
from semfreeze_core.semantics.scores import read_spectrum_score
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.workflow.request import AnalysisRequest
from semfreeze_core.workflow.task import TaskExamples


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
