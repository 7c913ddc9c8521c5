"""What would save most memory now, or make the finetune fit the GPU, with a button that sets it."""

from collections.abc import Sequence

import streamlit as st

from semfreeze_core.cost.hardware import Gpu, least_fitting_depth
from semfreeze_core.cost.presets import fitting_presets
from semfreeze_core.cost.savings import Saving, cheapest_fit, savings
from semfreeze_core.cost.table import depth_cost
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from semfreeze_core.wording.costs import fitting_changes, no_fit, saving_sentence

from ..data import setup_fields
from ..text.analysis_text import escaped


def saving_panel(
    shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, gpu: Gpu | None, depths: Sequence[DepthCost]
) -> None:
    """One sentence and one button: the changes that make it fit, else the one that saves most; nothing where none does.

    Args:
        shape: the counted model.
        setup: of the finetune.
        parts: what it trains.
        gpu: that it is for, or None.
        depths: what every freeze depth costs in the setup.
    """
    total = depth_cost(shape, setup, parts).bytes.total
    if total is None:
        return
    fits = gpu is None or total <= gpu.memory_bytes
    if gpu is not None and not fits:
        saving = cheapest_fit(shape, setup, parts, gpu)
        least = least_fitting_depth(depths, gpu)
        if saving is None:
            text = no_fit(gpu, total, least, fitting_presets(shape, setup, parts, gpu))
        else:
            text = fitting_changes(gpu, total, saving)
    else:
        saving = next(iter(savings(shape, setup, parts, gpu)), None)
        if saving is None:
            return
        text = saving_sentence(saving, total, flags=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        if fits:
            st.markdown(escaped(text))
        else:
            st.warning(escaped(text))
        if saving is not None and st.button(
            "Apply", on_click=_apply, args=(saving,), help="Sets this in the training setup."
        ):
            st.rerun()  # the training setup stands outside of a page that is a fragment


def _apply(saving: Saving) -> None:
    """Set the widgets of the training setup as the saving has them."""
    setup_fields.apply_setup(dict(saving.options))
