"""The bar above all pages: which run of which model and data, GPU, training setup, the jobs, and a link to share."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from urllib.parse import urlencode

import streamlit as st

from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.errors import PlanError
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.run import Run
from semfreeze_core.wording.plan import depth_summary
from semfreeze_core.wording.validation import measured_lines

from ..charts.plan_picture import plan_picture
from ..data import finetune_results, link, run_choice, setup_fields
from ..data.run_folder import OpenRun
from ..forms.setup_form import gpu_input, setup_options
from ..text import page_text
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from ..text.visitor_text import visitor_text
from . import jobs_panel, page

BAR = "top-bar"  # of the container, which Present hides


class TopBar:
    """The bar's places, which are filled as what stands in them becomes known."""

    def __init__(self) -> None:
        with st.container(key=BAR, gap=None):
            row = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
            self._caption = st.empty()
        with row:
            self._run = st.container(width=260)
            self._gpu = st.container(width=150)
            places = (st.container(width="content") for _ in range(4))
            self._jobs, self._setup, self._share, self._present = places

    def pick_run(self, names: list[str], first: str) -> None:
        """The run picker."""
        with self._run:
            run_choice.pick_run(names, first)

    def training_setup(self, shape: ModelShape, run: Run | None) -> None:
        """The GPU and the training setup in widgets, and below them in words, with the model and its data.

        Args:
            shape: of the model that is finetuned.
            run: its analysis; None where it has none.
        """
        with self._gpu:
            gpu = gpu_input()
        with self._setup, st.popover("Training setup"):
            options = setup_options(shape, run, gpu)
        setup_fields.keep_training_setup(options, gpu)
        lines = [] if run is None else [page_text.rows_sentence(run.manifest)]
        with suppress(PlanError):  # of a setup that contradicts itself, which the page Decide says
            setup = setup_from_options(shape, run, options, with_reference=True, gpu=gpu)
            lines.append(page_text.setup_caption(setup))
        self._caption.caption(escaped(" ".join(lines)))

    def actions(self, opened: OpenRun | None) -> None:
        """The jobs and what to share of the open run."""
        with self._jobs:
            jobs_panel.jobs_popover()
        with self._share:
            share_popover(opened)
        with self._present:
            page.other_step("Present", "present")


def share_popover(opened: OpenRun | None) -> None:
    """The link to what is on the screen, and the plan as a picture; made when they are asked for.

    Args:
        opened: the open run; None where it cannot be read.
    """
    popover = st.popover("Share", on_change="rerun", key="share", help=TOOLTIPS["share"])
    if popover.open:
        query = urlencode([(name, value) for name in st.query_params for value in st.query_params.get_all(name)])
        with popover:
            st.caption(page_text.SHARE_CAPTION)
            st.code(f"{st.context.url or ''}{'?' if query else ''}{query}", language=None, wrap_lines=True)
            if opened is not None:
                st.download_button(
                    "Download a picture of the plan", picture_of_plan(opened),
                    f"semfreeze-{opened.name}.png", "image/png", on_click="ignore",
                )  # fmt: skip


def picture_of_plan(opened: OpenRun) -> Callable[[], bytes]:
    """What draws the open run's plan at the depth on the screen; drawn when it is asked for, without the session."""
    n_layers = opened.run.shape.n_layers
    depth = int(link.number("depth", 0))
    costs = page.depth_costs(opened)
    meters = [] if costs is None else page_text.start_meters(costs[0], depth, costs[1].rates)
    lines = [*measured_lines(finetune_results.validations(opened), depth, n_layers), page_text.run_sentence(opened.run)]
    headline, *cost = depth_summary(depth, n_layers, None if costs is None else costs[0].depths[depth])
    shown = [visitor_text(line) for line in lines]
    return partial(plan_picture, headline, " ".join(cost), n_layers, depth, meters, shown)
