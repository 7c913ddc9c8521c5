"""The form of new finetunes: what they shall tell, what to train on, what to judge by, and for how long."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from semfreeze_core.gains.rates import compared_steps, lost_steps
from semfreeze_core.plan.candidate_depths import auto_depths, candidates_of, depth_arms
from semfreeze_core.records.defaults import (
    DYNAMIC,
    MIN_RATE_STEPS,
    MIN_SEEDS,
    PILOT_BUDGET,
    PROGRESSIVE,
    RULE,
    VARIANTS,
)
from semfreeze_core.records.usual_depths import quarter_depth
from semfreeze_core.storage import digest

from ..data import compute, depth_choice, link, task_data
from ..data.form_fields import in_form
from ..data.run_folder import OpenRun
from ..text import page_text, validation_text
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from .analysis_form import data_input

_NARROW = 135
Kind = Literal["validation", "sweep", "pilots"]


@dataclass(frozen=True)
class Preset:
    """What the form begins with.

    Attributes:
        kind: what the finetunes shall tell.
        name: of its fields, which keep what is typed for each preset apart.
        steps, seeds, n_train, n_eval: as the command line has them.
        arms: of a validation.
    """

    kind: Kind
    name: str = "proof"
    steps: int = 24
    seeds: int = 3
    n_train: int = 192
    n_eval: int = 64
    arms: tuple[str, ...] = VARIANTS


# By what the link says, after which the page offers them.
PRESETS = {
    "validate": Preset("validation"),
    "quick look": Preset("validation", "quick", steps=12, seeds=1, n_train=96, n_eval=32, arms=("full", "planned")),
    "sweep": Preset("sweep"),
    "pilots": Preset("pilots"),
}


@dataclass(frozen=True)
class FinetuneRequest:
    """What the form of new finetunes holds.

    Attributes:
        kind: what they shall tell.
        train, evaluation: data, as the command line takes them.
        data_name: what people call the training data.
        steps, seeds, batch_size, n_train, n_eval: as the command line has them.
        arms: of a validation.
        depth: of a validation, where it is not the one that the default rule recommends.
    """

    kind: Kind
    train: str
    evaluation: str
    data_name: str
    steps: int
    seeds: int
    batch_size: int
    n_train: int
    n_eval: int
    arms: tuple[str, ...] = VARIANTS
    depth: int | None = None

    def command(self, run: str) -> tuple[str, ...]:
        """Arguments of the semfreeze command that does it."""
        options: dict[str, object] = {"train": self.train, "eval": self.evaluation, "steps": self.steps}
        options |= {"batch-size": self.batch_size, "train-examples": self.n_train, "eval-examples": self.n_eval}
        if self.kind == "pilots":
            return ("plan", run, "--rule=measured", *(f"--{name}={value}" for name, value in options.items()))
        options |= {"seeds": self.seeds, "accuracy-examples": 0 if self.kind == "sweep" else min(32, self.n_eval)}
        if self.kind == "validation" and self.arms != VARIANTS:
            options["arms"] = ",".join(self.arms)
        if self.kind == "validation" and self.depth is not None:
            options["depth"] = self.depth
        command = "validate" if self.kind == "validation" else "sweep"
        return (command, run, *(f"--{name}={value}" for name, value in options.items()))

    def n_runs(self, opened: OpenRun) -> float:
        """How many full finetunes they cost: each arm at equal compute with each seed; pilots keep within a share."""
        if self.kind == "pilots":
            return PILOT_BUDGET
        if self.kind == "validation":
            return len(self.arms) * self.seeds
        candidates = candidates_of(compute.comparison(opened, "semantic", None, None)).values()
        return len(depth_arms(auto_depths(opened.run.shape.n_layers, candidates))) * self.seeds

    @property
    def search_shares(self) -> tuple[float, float] | None:
        """Least and most that searching learning rates adds, as shares of all finetunes; pilots search none."""
        compared = None if self.kind == "pilots" else compared_steps(self.steps)
        if compared is None:
            return None
        least, most = lost_steps(compared)
        return least / (self.steps * self.seeds), most / (self.steps * self.seeds)

    @property
    def folder_name(self) -> str:
        """Tells validations of other data or settings apart."""
        stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(self.data_name).stem)[:60]
        return f"{stem or 'task'}-{digest(self.command(''))[:6]}"


def finetune_form(opened: OpenRun, runs: Path, preset: Preset) -> FinetuneRequest | None:
    """The finetunes as the form has them; None while data are missing."""
    kind, name = preset.kind, preset.name
    read = analyzed_data(opened)
    sampled, sibling = eval_sample(read)
    left, right = st.columns(2)
    with left:
        train, split, data_name = data_input(runs, "Train on", f"train of {opened.name}", read=read, first="read")
    with right:
        evaluation, judged, _ = data_input(
            runs, "Evaluate on", f"eval of {opened.name}", held_out=True,
            first="held" if sampled == "upload" else sampled, sample=sibling,
        )  # fmt: skip
    train, evaluation = with_split(train, split), with_split(evaluation, judged)
    if train is not None and train != read:
        st.warning(escaped(validation_text.OTHER_DATA.format(read=page_text.data_name(read))))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        steps = _number("Steps", 1 if kind == "pilots" else 3 * MIN_RATE_STEPS, 100_000, f"{name}-steps", preset.steps)
        seeds = _number("Seeds", 1, 20, f"{name}-seeds", preset.seeds)
        batch = _number("Batch", 1, 4096, f"{name}-batch", 8)
        most_train, most_eval = task_data.most_examples(opened, train, evaluation)
        n_train = _number("Train examples", 1, most_train, f"{name}-train", preset.n_train)
        n_eval = _number("Eval examples", 2, most_eval, f"{name}-eval", preset.n_eval)
    arms, depth = variant_inputs(opened, preset) if kind == "validation" else (VARIANTS, None)
    if train is None or evaluation is None:
        return None
    return FinetuneRequest(
        kind, train, evaluation, data_name, steps, seeds, batch, n_train, n_eval, arms, depth
    )  # fmt: skip


def variant_inputs(opened: OpenRun, preset: Preset) -> tuple[tuple[str, ...], int | None]:
    """What a validation trains, and its depth where that is not the recommended one."""
    recommended = _recommended_depth(opened)
    last, start = opened.run.shape.n_layers, start_depth(opened)
    link.follow_default("tested", start)  # the page's depth, which another page has moved
    with st.container(horizontal=True, vertical_alignment="bottom"):
        depth = int(st.number_input(
            "Freeze depth", 1, last, start, width=_NARROW, help=TOOLTIPS["proof depth"], **link.in_link("tested")
        ))  # fmt: skip
        chosen = st.multiselect(
            "Variants",
            (*VARIANTS, DYNAMIC, PROGRESSIVE),
            key=in_form(f"{preset.name}-arms", list(preset.arms)),
            width=520,
            help=TOOLTIPS["arms"],
        )
    if "planned" not in chosen or "full" not in chosen:
        st.info(validation_text.NO_VERDICT)
    elif preset.seeds < MIN_SEEDS:
        st.caption(validation_text.QUICK_LOOK)
    arms = tuple(arm for arm in (*VARIANTS, DYNAMIC) if arm in chosen)
    if PROGRESSIVE in chosen:
        wide = quarter_depth(last)
        if depth > wide:
            arms = (*arms, PROGRESSIVE)
        else:
            st.info(validation_text.NOT_PROGRESSIVE.format(wide=wide, depth=depth))
    arms = arms or VARIANTS
    return arms, None if depth == recommended else depth


def start_depth(opened: OpenRun) -> int:
    """The depth that the form begins at, which pages show; never 0, as full finetuning is a variant of its own."""
    n_layers = opened.run.shape.n_layers
    recommended = _recommended_depth(opened)
    return min(depth_choice.depth_of_link(recommended) or recommended or n_layers // 2, n_layers)


def _recommended_depth(opened: OpenRun) -> int | None:
    return compute.comparison(opened, "semantic", None, None).rules[RULE].freeze_depth


def analyzed_data(opened: OpenRun) -> str:
    """What the run was read on, as one word."""
    data = opened.run.manifest.data
    return with_split(data.source, data.split) or data.source


def eval_sample(data: str) -> tuple[str, str]:
    """What eval examples are chosen from at first, and how the sample beside training data of a sample ends."""
    if not data.startswith("sample:"):
        return "upload", "_eval"
    return "sample", data.removeprefix("sample:").removesuffix("_train") + "_eval"


def with_split(source: str | None, split: str | None) -> str | None:
    """A hub dataset's split as part of its name."""
    return source if source is None or split is None else f"{source}#{split}"


def _number(title: str, low: int, high: int, name: str, start: int) -> int:
    """A whole number; what was typed for data that had more rows is lowered to what there is."""
    key = in_form(name, min(start, high))
    st.session_state[key] = max(low, min(int(st.session_state[key]), high))
    return int(st.number_input(title, low, high, key=key, width=_NARROW, help=TOOLTIPS.get(name)))
