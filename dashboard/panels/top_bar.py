"""The bar above all pages: which run, for which GPU, in which training setup, the jobs, and a link to share."""

from contextlib import suppress
from urllib.parse import urlencode

import streamlit as st

from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.errors import PlanError
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.run import Run

from ..data import state
from ..forms.setup_form import gpu_input, setup_options
from ..text import page_text
from ..text.tooltips import TOOLTIPS
from . import jobs_panel

BAR = "top-bar"  # of the container, which Present hides


class TopBar:
    """The bar's places, which are filled as what stands in them becomes known."""

    def __init__(self) -> None:
        with st.container(key=BAR, gap=None):
            row = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
            self._words = st.empty()
        with row:
            self._run = st.container(width=260)
            self._gpu = st.container(width=150)
            self._setup, self._rest = (st.container(width="content") for _ in range(2))

    def pick_run(self, names: list[str], first: str) -> None:
        """The run picker."""
        with self._run:
            state.pick_run(names, first)

    def training_setup(self, shape: ModelShape, run: Run | None) -> None:
        """The GPU and the training setup, in widgets and in words.

        Args:
            shape: of the model that is finetuned.
            run: its analysis; None where it has none.
        """
        with self._gpu:
            gpu = gpu_input()
        with self._setup, st.popover("Training setup"):
            options = setup_options(shape, run, gpu)
        state.keep_training_setup(options, gpu)
        with suppress(PlanError):  # of a setup that contradicts itself, which the page Decide says
            setup = setup_from_options(shape, run, options, with_reference=True, gpu=gpu)
            self._words.caption(page_text.setup_words(setup))

    def actions(self) -> None:
        """The jobs and the link."""
        with self._rest, st.container(horizontal=True, gap="small"):
            jobs_panel.jobs_popover()
            share_popover()


def share_popover() -> None:
    """The link to what is on the screen; put together when it is asked for."""
    popover = st.popover("Share", on_change="rerun", key="share", help=TOOLTIPS["share"])
    if popover.open:
        query = urlencode([(name, value) for name in st.query_params for value in st.query_params.get_all(name)])
        with popover:
            st.caption(page_text.SHARE_CAPTION)
            st.code(f"{st.context.url or ''}{'?' if query else ''}{query}", language=None, wrap_lines=True)
