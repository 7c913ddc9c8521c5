"""What a few alternatives cost: memory and compute by part, and the GPUs that hold them."""

from collections.abc import Mapping

import streamlit as st

from semfreeze_core.cost.hardware import Gpu
from semfreeze_core.records.cost import CostTable, DepthCost
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.wording.costs import flop_status_word, setup_line

from ..charts import costs
from ..charts.gpu_ruler import draw_gpu_ruler
from . import page


def cost_charts(alternatives: Mapping[str, DepthCost], table: CostTable, setup: TrainingSetup) -> None:
    """Memory and compute of the alternatives, by part.

    Args:
        alternatives: by what they are called.
        table: which says how the numbers are known.
        setup: that they are estimated for.
    """
    left, right = st.columns(2)
    with left:
        figure = costs.draw_memory_beside(alternatives)
        page.chart("memory", "Device memory by part", memory_caption(table, setup), figure, "memory")
    with right:
        caption = f"{flop_status_word(table.flop_status)}: {setup_line(setup)}."
        figure = costs.draw_flop_beside(alternatives)
        page.chart("flop", "FLOPs per step, by operation", caption, figure, "flop")


def gpu_ruler(alternatives: Mapping[str, DepthCost], gpu: Gpu | None) -> None:
    """What the alternatives need beside what common GPUs hold."""
    figure = draw_gpu_ruler(alternatives, gpu)
    if figure is not None:
        caption = "Estimated sums of the parts; drivers and allocators take some more."
        page.chart("gpu-ruler", "GPUs it fits on", caption, figure, "gpus")


def memory_caption(table: CostTable, setup: TrainingSetup) -> str:
    """How memory is known, and for which setup."""
    return f"{table.bytes_status.capitalize()}: {setup_line(setup)}."
