"""What finetuning takes, in compute, memory and time, kept between reruns."""

import streamlit as st

from semfreeze_core.cost import compare_costs, progressive_cost, read_switch, refused_with_switch
from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.guided.forecast import ForecastRequest, forecast_lines
from semfreeze_core.plan.forecast import FinetuneForecast, forecast_finetunes
from semfreeze_core.records.cost import CostTable, ProgressiveCost
from semfreeze_core.records.defaults import EVAL_ROWS, TRAIN_EXAMPLES
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import LoraSetup, Precision, TrainingSetup
from semfreeze_core.runs.reports import finetune_rate as newest_rate
from semfreeze_core.sources.models.known_shapes import KNOWN_SHAPES, PREFIX
from semfreeze_core.sources.models.named_shape import named_shape as shape_of_model

from . import task_data
from .cache_keys import BY_KEY
from .finetune_request import FinetuneForm
from .run_folder import OpenRun
from .visitor_requests import require_model


@st.cache_resource(max_entries=64, show_spinner=False, hash_funcs=BY_KEY)
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


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=BY_KEY)
def deeper_costs(opened: OpenRun, setup: TrainingSetup, wide_steps: int) -> tuple[ProgressiveCost | None, ...]:
    """`deeper_cost` of every freeze depth, entry k for depth k; None where it is not possible."""
    deeper: list[ProgressiveCost | None] = []
    for depth in range(opened.run.shape.n_layers + 1):
        try:
            deeper.append(deeper_cost(opened, setup, depth, wide_steps))
        except PlanError:
            deeper.append(None)
    return tuple(deeper)


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=BY_KEY | {ForecastRequest: repr})
def _finetune_lines(opened: OpenRun, request: ForecastRequest) -> list[str]:
    return forecast_lines(opened.run, request)


def finetune_lines(opened: OpenRun, form: FinetuneForm) -> tuple[list[str], dict[str, int]]:
    """What a guided finetune will do and take; and how many examples are assumed, of each set not fetched yet.

    Raises:
        InputError: its data cannot be read, or it cannot be made like this on the examples of the run.
    """
    n_train, n_eval = task_data.n_rows(opened, form.data), task_data.n_rows(opened, form.evaluation)
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
        depth=form.depth,
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
