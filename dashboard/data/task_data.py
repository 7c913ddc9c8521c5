"""The data that a form names: their columns, rows and examples as the model gets them, kept between reruns."""

from pathlib import Path
from typing import Any

import streamlit as st

from semfreeze_core.errors import InputError
from semfreeze_core.records.defaults import HELD_OUT_DATA
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.manifest import RunManifest
from semfreeze_core.records.preview import DataPreview, MemoryForecast
from semfreeze_core.sources.data.held_out import n_held_out
from semfreeze_core.sources.data.rows import open_rows
from semfreeze_core.sources.data.samples import resolve_data, sample_names
from semfreeze_core.sources.data.shared_prompts import SharedPrompts, count_shared_prompts

from .analysis_request import AnalysisForm
from .run_folder import OpenRun
from .visitor_requests import require_data, require_model

_MANY = 1_000_000  # examples, where nobody has counted them


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
