"""Everything the pages compute, kept between reruns: the only place with caches; thin calls into semfreeze_core."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from semfreeze_core.cost import compare_costs, progressive_cost, read_switch, refused_with_switch
from semfreeze_core.errors import InputError, PlanError, RunError
from semfreeze_core.gains import bands, score_coverage
from semfreeze_core.guided.forecast import ForecastRequest, forecast_lines
from semfreeze_core.plan import curve_of
from semfreeze_core.plan.badge import evidence_badge
from semfreeze_core.plan.compare import SideBySide
from semfreeze_core.plan.compare import side_by_side as compare_runs
from semfreeze_core.plan.depth_spread import DepthSpread
from semfreeze_core.plan.depth_spread import depth_spread as depth_spread_of
from semfreeze_core.plan.document import Badge
from semfreeze_core.plan.forecast import FinetuneForecast, forecast_finetunes
from semfreeze_core.plan.make import recommended_depth
from semfreeze_core.plan.opinions import Comparison, gather_opinions
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.plan.slices import Slice, slice_of_examples
from semfreeze_core.plan.slices import slices as slices_of
from semfreeze_core.records.cost import CostTable, ProgressiveCost
from semfreeze_core.records.defaults import EVAL_ROWS, HELD_OUT_DATA, TRAIN_EXAMPLES
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.gain import Band, GainCurve
from semfreeze_core.records.manifest import RunManifest
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.records.prediction_error import CalibrationReport
from semfreeze_core.records.preview import DataPreview, MemoryForecast
from semfreeze_core.records.sweep import SweepReport
from semfreeze_core.records.training import LoraSetup, Precision, TrainingSetup
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.records.validation import LiveArm, ValidationReport
from semfreeze_core.runs.calibration import bundled_calibration, read_calibration
from semfreeze_core.runs.finetunes import GuidedFinetune, list_finetunes
from semfreeze_core.runs.folder import VALIDATIONS, read_traces
from semfreeze_core.runs.reports import finetune_rate as newest_rate
from semfreeze_core.runs.reports import list_measurements, list_sweeps, list_validations, read_live
from semfreeze_core.runs.umaps import read_umap, umap_file
from semfreeze_core.sources.data.held_out import n_held_out
from semfreeze_core.sources.data.rows import open_rows
from semfreeze_core.sources.data.samples import resolve_data, sample_names
from semfreeze_core.sources.data.shared_prompts import SharedPrompts, count_shared_prompts
from semfreeze_core.sources.models.known_shapes import KNOWN_SHAPES, PREFIX
from semfreeze_core.sources.models.named_shape import named_shape as shape_of_model

from ..charts.layer_by_layer import (
    add_layer_bars,
    followed_position,
    followed_token,
    place_among_layers,
    place_on_coverage,
)
from ..charts.projection import Coloring, draw_projection
from .analysis_request import AnalysisForm
from .finetune_request import FinetuneForm
from .projections import ProjectedPoints
from .run_folder import OpenRun, RunCatalog, open_run
from .visitor_requests import require_data, require_model

_MANY = 1_000_000  # examples, where nobody has counted them
_BY_KEY: dict[str | type, Any] = {OpenRun: lambda opened: opened.key, ProjectedPoints: lambda points: points.key}


@st.cache_resource(max_entries=4, show_spinner=False)
def _read(catalog: RunCatalog, name: str, stamp: int) -> OpenRun:
    return open_run(catalog, name, stamp)


def read(catalog: RunCatalog, name: str) -> OpenRun:
    """A run, read again only when it was written again.

    Raises:
        RunError: missing, damaged, newer than this version, or gone since.
    """
    return _read(catalog, name, catalog.stamp(name))


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=_BY_KEY)
def curve(opened: OpenRun, metric: str) -> GainCurve:
    """The gain curve everything is decided from."""
    return curve_of(opened.run, metric)


@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs=_BY_KEY)
def scores(opened: OpenRun) -> dict[str, Band]:
    """R(k) of every other layer score."""
    return {name: score_coverage(score) for name, score in opened.run.scores.items()}


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=_BY_KEY)
def task_null(opened: OpenRun, metric: str) -> tuple[Band, Band] | None:
    """Deviations with own and with swapped completions."""
    return bands.task_null(opened.run, metric)


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=_BY_KEY)
def first_and_later(opened: OpenRun, metric: str) -> tuple[Band, Band]:
    """Advantage at first and at later tokens."""
    return bands.first_and_later(opened.run, metric)


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=_BY_KEY)
def slices(opened: OpenRun, metric: str, by: str) -> tuple[list[Slice], int]:
    """The run's groups of examples, and how many are too small to read."""
    return slices_of(opened.run, metric, by)


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=_BY_KEY)
def chosen_examples(opened: OpenRun, metric: str, rows: tuple[int, ...]) -> Slice | None:
    """Examples of the run as a group of their own; None where they are too few."""
    return slice_of_examples(opened.run, metric, np.array(rows, dtype=np.int64))


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=_BY_KEY)
def depth_spread(opened: OpenRun, metric: str) -> DepthSpread | None:
    """The depth that the paper's rule picks for each example."""
    return depth_spread_of(opened.run, metric)


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs=_BY_KEY)
def selection_bands(opened: OpenRun, metric: str, chosen: tuple[int, ...]) -> tuple[Band, Band | None]:
    """Deviation of the chosen positions and of the rest."""
    return bands.selection_bands(opened.run.require_display(), metric, np.array(chosen, dtype=np.int64))


@st.cache_resource(max_entries=64, show_spinner=False, hash_funcs=_BY_KEY)
def depth_costs(opened: OpenRun, setup: TrainingSetup, lora: LoraSetup) -> CostTable:
    """The estimated cost of every freeze depth, of full finetuning, and of LoRA on all layers."""
    return compare_costs(opened.run.shape, setup, lora=setup.lora or lora)


@st.cache_resource(max_entries=32, show_spinner="Reading the model's config")
def named_shape(model: str) -> ModelShape:
    """The shape of a model that is only named: a well-known one, or of the hub, or where allowed of this machine.

    Raises:
        InputError: there is no such model, or it is nothing that visitors may name.
    """
    if model.lower() in KNOWN_SHAPES:
        return shape_of_model(f"{PREFIX}{model}")
    require_model(model)
    return shape_of_model(model)


@st.cache_resource(max_entries=64, show_spinner=False)
def estimate(model: str, setup: TrainingSetup, lora: LoraSetup) -> CostTable:
    """The estimated cost of every freeze depth of a model that is only named, of full finetuning, and of LoRA."""
    return compare_costs(named_shape(model), setup, lora=setup.lora or lora)


def deeper_cost(opened: OpenRun, setup: TrainingSetup, depth: int, wide_steps: int) -> ProgressiveCost:
    """The estimated cost of freezing a quarter of the layers for some steps, and then `depth`.

    Raises:
        PlanError: that is not possible; the rest of a sentence.
    """
    if problems := refused_with_switch(setup, (None, None, None)):
        raise PlanError("; ".join(problems))
    try:
        switch = read_switch(f"@{wide_steps}", opened.run.shape, depth, setup.steps)
    except PlanError as error:
        raise PlanError(f"it {error}") from error
    return progressive_cost(opened.run.shape, setup, switch)


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=_BY_KEY)
def deeper_costs(opened: OpenRun, setup: TrainingSetup, wide_steps: int) -> tuple[ProgressiveCost | None, ...]:
    """`deeper_cost` of every freeze depth, entry k for depth k; None where it is not possible."""
    deeper: list[ProgressiveCost | None] = []
    for depth in range(opened.run.shape.n_layers + 1):
        try:
            deeper.append(deeper_cost(opened, setup, depth, wide_steps))
        except PlanError:
            deeper.append(None)
    return tuple(deeper)


@st.cache_resource(max_entries=64, show_spinner=False, hash_funcs=_BY_KEY)
def comparison(opened: OpenRun, metric: str, setup: TrainingSetup | None, budget: Budget | None) -> Comparison:
    """What every rule and every score says."""
    return gather_opinions(opened.run, metric=metric, setup=setup, budget=budget)


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=_BY_KEY)
def projection(
    opened: OpenRun,
    points: ProjectedPoints,
    coloring: Coloring,
    metric: str,
    n_paths: int,
    selected: tuple[int, ...],
    space: int,
    depth: int,
    _curve: GainCurve,
) -> go.Figure:
    """The animated projection over contributions and coverage of the layers; built once for each way of looking at it.

    The curve follows from metric and selection, so it is no part of the key.
    """
    run, display = opened.run, opened.run.require_display()
    labels, paths = run.examples["label"], points.subset(n_paths)
    companions = [place_among_layers(_curve, space), place_on_coverage(_curve, space)]
    among = points.positions if not selected else np.intersect1d(points.positions, np.array(selected, dtype=np.int64))
    followed = followed_position(display, among) if points.dimensions == 2 else None
    if followed is not None:
        companions.append(followed_token(display, points, followed, space))
    figure = draw_projection(display, points, labels, coloring, metric, paths, selected, space, companions)
    add_layer_bars(figure, _curve, depth)
    return figure


@st.cache_resource(max_entries=4, show_spinner=False)
def _umap(file: Path, stamp: int) -> UmapProjection | None:
    return read_umap(file)


def umap(opened: OpenRun, seed: int, n_neighbors: int) -> UmapProjection | None:
    """The kept UMAP of a run, read again only when it was written again; None when there is none.

    Raises:
        RunError: the kept one is damaged.
    """
    file = umap_file(opened.run.manifest, seed=seed, n_neighbors=n_neighbors)
    try:
        return _umap(file, file.stat().st_mtime_ns)
    except OSError:
        return None


@st.cache_data(max_entries=512, show_spinner=False)
def _planned_depth(folder: Path, stamp: int) -> int | None:
    manifest, traces, pairs = read_traces(folder)
    try:
        return recommended_depth(manifest, traces["semantic"], pairs["semantic"])
    except (IndexError, KeyError, ValueError) as error:
        raise RunError(f"{folder} is damaged ({error}). Run semfreeze analyze again with --overwrite.") from error


def planned_depth(catalog: RunCatalog, name: str) -> int | None:
    """The freeze depth that is recommended for a run that is not opened; None where none is.

    Raises:
        RunError: damaged or gone.
    """
    return _planned_depth(catalog.folder_of(name), catalog.stamp(name))


@st.cache_resource(max_entries=16, show_spinner=False)
def _side_by_side(catalog: RunCatalog, stamped: tuple[tuple[str, int], ...], metric: str) -> SideBySide:
    return compare_runs({name: _read(catalog, name, stamp).run for name, stamp in stamped}, metric)


def side_by_side(catalog: RunCatalog, names: tuple[str, ...], metric: str) -> SideBySide:
    """Several runs compared, the first with each other.

    Raises:
        InputError: one is damaged or gone, or lacks the metric.
    """
    return _side_by_side(catalog, tuple((name, catalog.stamp(name)) for name in names), metric)


def named_validations(catalog: RunCatalog, name: str) -> dict[str, ValidationReport]:
    """The validations of a run, the newest last; none where they cannot be read, which the run's own page tells."""
    try:
        return _newest_last(list_validations(catalog.folder_of(name)))
    except RunError:
        return {}


def calibration(folder: Path) -> CalibrationReport:
    """Predicted against measured over all runs of a folder; read each time, as finetunes come at any time."""
    return read_calibration(folder)


@st.cache_data(max_entries=1, show_spinner=False)
def calibration_of_example() -> CalibrationReport:
    """Predicted against measured in the bundled run."""
    return bundled_calibration()


def validations(opened: OpenRun) -> dict[str, ValidationReport]:
    """The validations in the run's folder, the newest last; read each time, as they come without the run changing.

    Raises:
        RunError: a report is damaged or newer.
    """
    return _newest_last(list_validations(opened.folder))


def _newest_last(reports: dict[str, ValidationReport]) -> dict[str, ValidationReport]:
    return dict(sorted(reports.items(), key=lambda named: named[1].provenance.created))


def live(opened: OpenRun, validation: str) -> list[LiveArm]:
    """Arms of a validation that are training, as they are this moment."""
    return read_live(opened.folder / VALIDATIONS / validation)


def sweeps(opened: OpenRun) -> dict[str, SweepReport]:
    """The sweeps in the run's folder; read each time, likewise.

    Raises:
        RunError: a report is damaged or newer.
    """
    return list_sweeps(opened.folder)


def measurements(opened: OpenRun) -> dict[str, Measurement]:
    """What pilots of the run decided; read each time, likewise.

    Raises:
        RunError: one is damaged or newer.
    """
    return list_measurements(opened.folder)


def finetunes(opened: OpenRun) -> dict[str, GuidedFinetune]:
    """The guided finetunes in the run's folder, finished or not; read each time, likewise.

    Raises:
        RunError: a report is damaged or newer.
    """
    return list_finetunes(opened.folder)


def badge(opened: OpenRun, depth: int | None) -> Badge:
    """What a freeze depth rests on: a validation that passed, the race of a guided finetune, or an estimate."""
    reports = []
    if depth is not None:
        with suppress(RunError):  # a damaged report, which the page Prove says
            reports = [finetune.report for finetune in finetunes(opened).values()]
    raced = any(r is not None and r.freeze_depth == depth and r.badge == "checked" for r in reports)
    return evidence_badge(validations(opened), depth, checked=raced)


@st.cache_data(max_entries=16, show_spinner=False)
def _n_rows(data: str, stamp: int) -> int:
    require_data(data)
    return sum(1 for _ in open_rows(resolve_data(data)))


def n_rows(opened: OpenRun, data: str | None) -> int | None:
    """Rows of data; None for None, and for a hub dataset, which is not fetched for its number of rows.

    Raises:
        InputError: they cannot be read, or are nothing that visitors may name.
    """
    entry = opened.run.manifest.data
    if data in (entry.source, f"{entry.source}#{entry.split}"):
        return entry.n_usable
    return None if data is None or data.startswith("hf:") else _n_rows(data, stamp_of(data))


def most_examples(opened: OpenRun, train: str | None, evaluation: str | None) -> tuple[int, int]:
    """How many training and eval examples can be asked for at most; many, where data are not counted.

    Args:
        opened: the run.
        train: training data, or None.
        evaluation: eval data, HELD_OUT_DATA, or None.
    """
    n_train, n_eval = (_counted(opened, data) for data in (train, evaluation))
    if evaluation == HELD_OUT_DATA and n_train is not None:
        n_eval = n_held_out(n_train)
        n_train -= n_eval
    return max(1, _MANY if n_train is None else n_train), max(2, _MANY if n_eval is None else n_eval)


def _counted(opened: OpenRun, data: str | None) -> int | None:
    """Rows of data; None where they are not counted: on the hub, held out of others, or not to be read."""
    try:
        return None if data == HELD_OUT_DATA else n_rows(opened, data)
    except InputError:  # which the finetune reports
        return None


@st.cache_data(max_entries=16, show_spinner="Comparing prompts with the eval examples")
def _shared_prompts(
    train: str, evaluation: str, split: str | None, _manifest: RunManifest, stamps: tuple[int, int]
) -> SharedPrompts | None:
    mapping = FieldMapping(**_manifest.data.mapping)
    tokenizer = None
    if mapping.messages_field is not None:  # whose prompts the model's template writes
        from semfreeze_core.sources.models.loading import local_tokenizer

        tokenizer = local_tokenizer(_manifest.model.identity.source, _manifest.model.identity.revision)
    try:
        return count_shared_prompts(train, evaluation, mapping, split=split, tokenizer=tokenizer)
    except InputError:  # they are gone, are not here, or are read in another way
        return None


def shared_prompts(opened: OpenRun, evaluation: str) -> SharedPrompts | None:
    """Prompts of eval examples among those of the run's data; None where they cannot be read here again.

    Args:
        opened: the run.
        evaluation: the eval examples of one of its finetunes.
    """
    data = opened.run.manifest.data
    if "hf:" in (data.source[:3], evaluation[:3]):
        return None  # which would be fetched
    stamps = stamp_of(data.source), stamp_of(evaluation)
    return _shared_prompts(data.source, evaluation, data.split, opened.run.manifest, stamps)


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=_BY_KEY | {ForecastRequest: repr})
def _finetune_lines(opened: OpenRun, request: ForecastRequest) -> list[str]:
    return forecast_lines(opened.run, request)


def finetune_lines(opened: OpenRun, form: FinetuneForm) -> tuple[list[str], dict[str, int]]:
    """What a guided finetune will do and take; and how many examples are assumed, of each set not fetched yet.

    Raises:
        InputError: its data cannot be read, or it cannot be made like this on the examples of the run.
    """
    n_train, n_eval = n_rows(opened, form.data), n_rows(opened, form.evaluation)
    assumed = {}
    if n_train is None:
        assumed["rows"] = TRAIN_EXAMPLES
    if n_eval is None and form.evaluation is not None:
        assumed["eval examples"] = EVAL_ROWS
    request = ForecastRequest(
        n_rows=assumed.get("rows", n_train or 0),
        n_eval=assumed.get("eval examples", n_eval),
        objective=form.objective,
        options=form.options,
        epochs=form.epochs,
        steps=form.steps,
        max_length=form.max_length,
    )
    try:
        return _finetune_lines(opened, request), assumed
    except InputError as error:
        if not assumed and form.data == opened.run.manifest.data.source:
            raise
        return [str(error)], assumed  # the finetune's own examples and their analysis may not give it reason


def forecast(opened: OpenRun, *, batch_size: int, steps: int, n_runs: float) -> FinetuneForecast:
    """What finetunes of a run will take."""
    run = opened.run
    return forecast_finetunes(
        run, batch_size=batch_size, steps=steps, n_runs=n_runs, flop_per_second=finetune_rate(opened)[0]
    )


def finetune_rate(opened: OpenRun, precision: Precision | None = None) -> tuple[float | None, str]:
    """FLOP per second to forecast a finetune with, and whose: the newest's in a precision; None without one."""
    return newest_rate(opened.folder, precision), "of this run's last finetune"


def samples() -> list[str]:
    """Names of the sample tasks."""
    return sample_names()


def stamp_of(data: str) -> int:
    """When a file of data was last written, so that one written anew is read anew; 0 for what is no file."""
    try:
        return Path(data).stat().st_mtime_ns
    except OSError:
        return 0


@st.cache_data(max_entries=16, show_spinner=False)
def columns(data: str, split: str | None, stamp: int) -> list[str]:
    """Columns of the data, in order of appearance.

    Raises:
        InputError: it cannot be read, or is nothing that visitors may name.
    """
    require_data(data)
    return open_rows(resolve_data(data), split).columns()


@st.cache_resource(max_entries=4, show_spinner=False)
def _look(model: str) -> Any:
    from semfreeze_core.preview import inspect_model
    from semfreeze_core.workflow.request import AnalysisRequest

    require_model(model)
    return inspect_model(AnalysisRequest(model, ""))


def _request(form: AnalysisForm) -> Any:
    from semfreeze_core.workflow.request import AnalysisRequest

    require_data(form.data)
    return AnalysisRequest(
        form.model,
        form.data,
        mapping=form.fields,
        split=form.split,
        examples=form.examples,
        device=form.device,
        dtype=form.dtype,  # type: ignore[arg-type]  # one of the form's choices
    )


@st.cache_resource(max_entries=16, show_spinner=False)
def data_preview(form: AnalysisForm, stamp: int) -> DataPreview:
    """How the data would be read, with a few examples written out.

    Raises:
        InputError: there is no such model, or the data cannot be read in this way.
    """
    from semfreeze_core.preview import preview_data

    return preview_data(_request(form), _look(form.model))


def memory_forecast(form: AnalysisForm, data: DataPreview | None = None) -> MemoryForecast:
    """The memory a reading needs beside what is free now, and how it passes the previewed examples through layers that
    find no room.

    Raises:
        InputError: there is no such model or device.
    """
    from semfreeze_core.preview import forecast_analysis

    return forecast_analysis(_request(form), _look(form.model), data)
