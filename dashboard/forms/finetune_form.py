"""The form of a guided finetune: what to train on, what to judge by, to what end, and for how long."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

import streamlit as st

from semfreeze_core.errors import RunError
from semfreeze_core.records.defaults import RULE
from semfreeze_core.records.finetune_report import FINETUNE_REPORT
from semfreeze_core.records.race import ObjectiveKind
from semfreeze_core.runs.folder import FINETUNES
from semfreeze_core.runs.store import free_name, require_name

from ..data import compute, depth_choice, link, setup_fields
from ..data.finetune_request import FinetuneForm, analyzed_form
from ..data.run_folder import EXAMPLE, OpenRun
from ..panels import page
from ..text import finetune_text
from ..text.tooltips import TOOLTIPS
from .analysis_form import data_input
from .validation_form import analyzed_data, eval_sample, with_split

_NARROW = 135
_MOST_STEPS, _LIMITS, _GIB, _HOURS = 10_000_000, (0.1, 10_000.0), 16.0, 2.0
HELD_OUT, GIVEN = JUDGED = ("held out", "given")
BY_FINETUNE, AS_ON_DECIDE = DECIDED = ("by the finetune", "as on Decide")
OBJECTIVES = get_args(ObjectiveKind)


@dataclass(frozen=True)
class NamedFinetune:
    """What to finetune, the folder of the run's finetunes, and the name of the model there, as it was typed."""

    form: FinetuneForm
    finetunes: Path
    name: str

    @property
    def folder(self) -> Path:
        """Of the model."""
        return self.finetunes / self.name

    def require_free(self) -> None:
        """Refuse a name that cannot be one, or that a finished finetune has; one that was stopped resumes.

        Raises:
            RunError: saying so.
        """
        require_name(self.name)
        if (self.folder / FINETUNE_REPORT).exists():
            raise RunError(finetune_text.TAKEN.format(name=self.name))


def finetune_form(opened: OpenRun, runs: Path, *, shown: bool) -> NamedFinetune | None:
    """The finetune as the form has it; None while data are missing, or where the form is not shown.

    Its choices are in the link also while it is not shown.
    """
    data = evaluation = None
    name, given = "", ""
    with st.container() if shown else page.hidden("finetune"):
        left, right = st.columns(2)
        with right:
            judged = st.segmented_control(
                "Eval examples", JUDGED, default=HELD_OUT, required=True, help=TOOLTIPS["judged"],
                **link.in_link("judged"),
            )  # fmt: skip
        read = analyzed_data(opened)
        if shown:
            with left:
                data, split, name = data_input(runs, "Train on", f"finetune of {opened.name}", read=read, first="read")
                data = with_split(data, split)
            if judged == GIVEN:
                with right:
                    first, sample = eval_sample(read)
                    evaluation, split, _ = data_input(
                        runs, "Judge by", f"judge of {opened.name}", first=first, sample=sample
                    )
                    evaluation = with_split(evaluation, split)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            kind, limit = _objective()
            depth = _depth(opened, shown=kind == OBJECTIVES[0])
            steps = st.number_input(
                "Steps", 0, _MOST_STEPS, 0, width=_NARROW, help=TOOLTIPS["finetune steps"], **link.in_link("steps")
            )
            folder = Path() if opened.name == EXAMPLE else opened.folder / FINETUNES  # the bundled run is read-only
            stem = opened.name if name in ("", read) else Path(name).stem
            proposed = free_name(f"{stem}-finetuned", folder) if shown else ""
            given = str(st.text_input(
                "Name of the model", placeholder=proposed, width=240, help=TOOLTIPS["output"], **link.in_link("output")
            )).strip()  # fmt: skip
    if not shown or data is None or (judged == GIVEN and evaluation is None):
        return None
    form = analyzed_form(opened.run.manifest, data, evaluation, setup_fields.training_setup()[0])
    form = replace(
        form, steps=int(steps) or None, epochs=None if steps else form.epochs, kind=kind, limit=limit, depth=depth
    )
    return NamedFinetune(form, folder, given or proposed)


def keep_choices() -> None:
    """Hold on to the form's choices in the link, on pages that do not have it."""
    link.keep_choice("judged", JUDGED)
    link.keep_choice("decided", DECIDED)
    link.keep_number("gib", *_LIMITS, _GIB)
    link.keep_number("hours", *_LIMITS, _HOURS)
    link.keep_number("steps", 0, _MOST_STEPS, 0)
    link.keep_text("output")


def keep_objective() -> None:
    """Hold on to the objective in the link, on pages that have no choice of it."""
    link.keep_option("objective", OBJECTIVES)


def _depth(opened: OpenRun, *, shown: bool) -> int | None:
    """The freeze depth that other pages show, where the finetune is to take it; None where it decides itself.

    Args:
        opened: the run.
        shown: whether there is a choice: an objective chooses the depth.
    """
    with st.container(width="content") if shown else page.hidden("decided"):
        decided = st.segmented_control(
            "Freeze depth", DECIDED, default=BY_FINETUNE, required=True, help=TOOLTIPS["decided"],
            **link.in_link("decided"),
        )  # fmt: skip
    if not shown or decided != AS_ON_DECIDE:
        return None
    recommended = compute.comparison(opened, "semantic", None, None).rules[RULE].freeze_depth
    return depth_choice.depth_of_link(recommended or 0)


def _objective() -> tuple[ObjectiveKind, float | None]:
    """What the finetune is to be good at, and the limit of those that have one."""
    kind = str(st.selectbox(
        "Objective", OBJECTIVES, width=_NARROW, help=TOOLTIPS["objective"], **link.in_link("objective")
    ))  # fmt: skip
    limits = {}
    with st.container(width="content") if kind == "memory" else page.hidden("gib"):
        limits["memory"] = st.number_input("Memory, GiB", *_LIMITS, _GIB, width=_NARROW, **link.in_link("gib"))
    with st.container(width="content") if kind == "time" else page.hidden("hours"):
        limits["time"] = st.number_input("Time, hours", *_LIMITS, _HOURS, width=_NARROW, **link.in_link("hours"))
    limit = limits.get(kind)
    return cast(ObjectiveKind, kind), None if limit is None else float(limit)
