"""Estimate: what finetuning a model takes on a GPU, before there are data or even the model."""

from dataclasses import dataclass, replace

import streamlit as st

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.cost.speed import Speed, training_speed
from semfreeze_core.cost.table import parts_at_depth
from semfreeze_core.errors import InputError
from semfreeze_core.records.cost import CostTable, DepthCost
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from semfreeze_core.records.usual_depths import quarter_depth, two_thirds_depth
from semfreeze_core.sources.models.known_shapes import KNOWN_SHAPES
from semfreeze_core.wording.costs import MEMORY_NOTE, estimate_sentence, lora_name
from semfreeze_core.wording.plan import stack_sentence
from semfreeze_dashboard.charts import costs
from semfreeze_dashboard.components.layer_stack import draggable_stack
from semfreeze_dashboard.data import depth_choice, estimates, run_choice, setup_fields
from semfreeze_dashboard.data.run_folder import OpenRun, server_catalog
from semfreeze_dashboard.forms import estimate_form
from semfreeze_dashboard.panels import page, saving_panel, tables
from semfreeze_dashboard.panels.cost_charts import cost_charts, gpu_ruler, memory_caption
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped
from semfreeze_dashboard.text.tooltips import TOOLTIPS


@dataclass(frozen=True)
class _Estimate:
    """A model's finetune and what it costs at every depth.

    Attributes:
        shape: its sizes.
        setup: of the finetune.
        gpu: that it is for, or None.
        table: of costs.
        speed: rates it runs at.
        depth: that is looked at.
        lora_rank: of the adapters beside it.
    """

    shape: ModelShape
    setup: TrainingSetup
    gpu: Gpu | None
    table: CostTable
    speed: Speed
    depth: int
    lora_rank: int

    @property
    def alternatives(self) -> dict[str, DepthCost]:
        """What people choose between, by what it is called, the depth that is looked at first."""
        n_layers, depths = self.shape.n_layers, self.table.depths
        named = {f"freeze {self.depth}": depths[self.depth], "full finetuning": self.table.full}
        for share_name, k in (
            ("a quarter", quarter_depth(n_layers)),
            ("half", n_layers // 2),
            ("two thirds", two_thirds_depth(n_layers)),
        ):
            if k != self.depth:
                named[f"freeze {share_name}, {k}"] = depths[k]
        return named | ({lora_name(self.table, self.lora_rank): self.table.lora} if self.table.lora else {})


def body() -> None:
    """Model, GPU and rows; then what every depth takes, and what would make it fit."""
    top = st.container()
    page.keep_metric()
    model, rows = estimate_form.inputs()
    if model is None:
        with top:
            page.conclusion(page_text.ESTIMATE_TITLE)
        return
    shape = estimates.named_shape(model)
    options, gpu = setup_fields.training_setup()
    options = replace(options, train_examples=rows)
    depth_choice.note_estimate(model, shape.n_layers)
    setup = setup_from_options(shape, None, options, with_reference=True, gpu=gpu)
    table = estimates.estimate(model, setup, LoraSetup(options.lora_rank))
    last = len(table.depths) - 1
    with top:
        headline, stack, ruler = st.container(), st.container(), st.container()
    with ruler:
        depth = depth_choice.estimate_slider(last, min(quarter_depth(shape.n_layers), last), TOOLTIPS["depth"])
    speed = training_speed(None, None, setup, gpu=gpu)
    asked = _Estimate(shape, setup, gpu, table, speed, depth, options.lora_rank or 0)
    name = tables.short_source(model)
    with headline:
        page.conclusion(estimate_sentence(name, shape.n_layers, depth, table, gpu, speed.rates))
        st.caption(escaped(page_text.estimate_caption(shape, setup)))
    with stack:
        readouts = [page_text.depth_readout(cost, speed.rates, gpu) for cost in table.depths]
        draggable_stack(
            shape.n_layers, depth, stack_sentence(shape.n_layers, depth), readouts, depth_choice.set_estimate_depth
        )
    saving_panel.saving_panel(
        shape, setup, parts_at_depth(shape, depth, lora=setup.lora is not None), gpu, table.depths
    )
    figures(asked)


def figures(asked: _Estimate) -> None:
    """The alternatives in a table and by part, every depth's memory, and the GPUs that hold them."""
    st.markdown("**What you can choose between**", help=TOOLTIPS["alternatives"])
    rows = tables.alternative_rows(asked.alternatives, asked.speed.rates, asked.gpu)
    st.dataframe(rows, hide_index=True, alt="Compute, memory, time and fit of each alternative")
    if not asked.speed.rates:
        st.caption(escaped(page_text.no_estimate_time(asked.gpu, asked.setup.precision)))
    caption = f"{memory_caption(asked.table, asked.setup)} {MEMORY_NOTE}"
    figure = costs.draw_memory(asked.table.depths, asked.depth, asked.gpu, "depth")
    page.chart("memory-by-depth", "Device memory by freeze depth", caption, figure, "memory")
    with st.expander("By part"):
        cost_charts(asked.alternatives, asked.table, asked.setup)
    gpu_ruler(asked.alternatives, asked.gpu)
    with st.expander("Every GPU in a table"):
        rows = tables.gpu_rows(asked.alternatives, asked.table.depths, asked.gpu)
        st.dataframe(rows, hide_index=True, alt="Headroom on each GPU")
    st.caption(page_text.ESTIMATE_NEXT)
    if server_catalog().folder is not None:
        page.next_step("Analyze my model and data", "data", do=run_choice.NEW_ANALYSIS)


def setup_model(opened: OpenRun) -> tuple[ModelShape, None]:
    """The model that is estimated, as far as it is known; the open run's shape where it is not, which the page says."""
    try:
        return estimates.named_shape(estimate_form.model_of_link()), None
    except InputError:
        return opened.run.shape, None


def link_choices(opened: OpenRun) -> None:
    """This page's widgets of the link, for pages that only keep them there."""
    estimate_form.keep_inputs()
    model = estimate_form.model_of_link()
    known = model.lower() in KNOWN_SHAPES  # others may have to be asked for, which no other page waits for
    n_layers = estimates.named_shape(model).n_layers if known else depth_choice.estimated_layers(model)
    if n_layers is not None:
        depth_choice.keep_estimate_depth(n_layers, quarter_depth(n_layers))


draw = guarded(body)
