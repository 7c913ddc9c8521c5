"""An analysis in its run's folder: the run as soon as a plan can be made of it, then the projection and slow scores.

Whatever ends the analysis in between leaves a whole run, whose manifest names the parts that are to come. The same
request again adds only those.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from semfreeze_core.errors import RunError
from semfreeze_core.plan.make import make_plan
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.manifest import PROJECTION, PartName, RunManifest
from semfreeze_core.records.run import Run
from semfreeze_core.records.scores import LayerScore
from semfreeze_core.records.training import dtype_named
from semfreeze_core.runs.folder import add_display, add_score, read_manifest, read_run, write_run
from semfreeze_core.semantics.spectrum_cache import read_spectrum
from semfreeze_core.storage import user_path
from semfreeze_core.wording.plan import headline
from semfreeze_core.wording.runs import PLAN_READY
from semfreeze_core.workflow.analysis import Analysis, load_model
from semfreeze_core.workflow.projection import read_projection
from semfreeze_core.workflow.request import AnalysisRequest
from semfreeze_core.workflow.slow_scores import measure_slow_scores, slow_score_names
from semfreeze_core.workflow.task import TaskExamples, read_task


def save_analysis(
    analysis: Analysis,
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Run:
    """Write an analysis into its run's folder, report what is planned, and add the other parts.

    Args:
        analysis: with its hidden states read.
        folder: of the run.
        overwrite: replace the run that is there.
        progress: receives stages and counts, and what the plan recommends as soon as the run is there.

    Returns:
        The run with all parts.

    Raises:
        RunError: the folder is in the way or cannot be written.
        ResourceError: the disk is full.
    """
    files = write_run(analysis.run, folder, overwrite=overwrite).files
    progress(ProgressEvent(PLAN_READY, message=headline(make_plan(analysis.run))))
    run = _with_display(analysis.run, folder, files, analysis.projection(progress))
    return _with_scores(run, folder, files, analysis.slow_scores(progress))


def missing_parts(request: AnalysisRequest, folder: Path) -> list[PartName]:
    """What a run in a folder lacks of a request: the projection, and the slow scores that are to come or named.

    Nothing, unless it is a run of that request. A score that could not be measured, or was left out because it takes
    long, is lacking where the request names it.

    Args:
        request: of an analysis.
        folder: where its run may be.
    """
    try:
        manifest = read_manifest(folder)
    except RunError:
        return []
    if not _is_of(request, manifest):
        return []
    measured = [score.name for score in manifest.scores if not score.reason]
    wanted = {*request.scores, *manifest.scores_to_come}
    missing: list[PartName] = [PROJECTION] if manifest.projection_to_come else []
    missing += [name for name in slow_score_names(request) if name in wanted and name not in measured]
    return missing


def add_missing_parts(
    request: AnalysisRequest, folder: Path, parts: Iterable[PartName], progress: Progress = silent
) -> Run:
    """Compute what a run that is written lacks, and add it.

    Args:
        request: of the analysis that wrote the run.
        folder: of the run.
        parts: as `missing_parts` returns them.
        progress: receives stages and counts.

    Returns:
        The run with these parts.

    Raises:
        RunError: the model or the data are not those of the run any more.
        InputError: they cannot be used, or memory is too small.
    """
    run = read_run(folder)
    left, model = list(parts), run.manifest.model
    spectrum = read_spectrum(model.identity, model.dtype, run.shape.n_layers) if "spectrum" in left else None
    if spectrum is not None:  # which needs no model
        run = _with_scores(run, folder, run.manifest.files, [spectrum])
        left.remove("spectrum")
    if not left:
        return run
    request = replace(request, dtype=dtype_named(model.dtype) or "auto")
    loaded = load_model(request, progress)
    if loaded.identity.weights_digest != model.identity.weights_digest:
        raise RunError(
            f"The weights of {model.identity.source} have changed since {folder} was analyzed, so {', '.join(left)} "
            "would be of another model. Analyze it again with --overwrite, or with another --out."
        )

    @cache
    def task() -> TaskExamples:
        read = read_task(loaded, request, progress)
        if read.encoded.digest != run.manifest.data.tokens_digest:
            raise RunError(
                f"The examples of {run.manifest.data.source} have changed since {folder} was analyzed, so "
                f"{', '.join(left)} would be of others. Analyze it again with --overwrite, or with another --out."
            )
        return read

    files = run.manifest.files
    if PROJECTION in left:
        run = _with_display(run, folder, files, read_projection(loaded, request, task(), progress))
    scores = [part for part in left if part != PROJECTION]
    return _with_scores(run, folder, files, measure_slow_scores(loaded, request, scores, task, progress))


def _with_display(run: Run, folder: Path, files: Mapping[str, str], display: DisplaySample) -> Run:
    """The run with its display sample, which is added to its folder."""
    add_display(folder, display, files)
    return run.with_display(display)


def _with_scores(run: Run, folder: Path, files: Mapping[str, str], scores: Iterable[LayerScore]) -> Run:
    """The run with scores that are added to its folder as they come."""
    for score in scores:
        add_score(folder, score, files)
        run = run.with_score(score)
    return run


def _is_of(request: AnalysisRequest, manifest: RunManifest) -> bool:
    """Whether a run is what a request gives, as far as that shows before the model is loaded."""
    data, settings = manifest.data, manifest.settings
    metrics = {"semantic", "logit_z", *(("lens_loss",) if request.lens_loss else ())}
    chosen = {name: value for name, value in asdict(request.mapping).items() if value is not None}
    return (
        _same_source(request.model, manifest.model.identity.source)
        and _same_source(request.data, data.source)
        and request.split == data.split
        and chosen.items() <= data.mapping.items()
        and request.dtype in ("auto", manifest.model.dtype)
        and metrics == {*settings.metrics}
        and all(
            getattr(request, name) == getattr(settings, name)
            for name in ("examples", "positions", "add_eos", "seed", "max_length", "display_positions")
        )
    )


def _same_source(one: str, other: str) -> bool:
    """Whether two names of a model or data are the same, or paths of one file."""
    return one == other or os.path.realpath(user_path(one)) == os.path.realpath(user_path(other))
