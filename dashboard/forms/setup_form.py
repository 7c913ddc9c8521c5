"""The training setup beside the depth: widgets to the same flags the command line takes, and from there one way on."""

from typing import Any, get_args

import streamlit as st

from semfreeze_core.cost.hardware import GPUS, find_gpu
from semfreeze_core.cost.setup import default_precision
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.defaults import BATCH_SIZE, EPOCHS, LORA_RANK, SEQUENCE_LENGTH
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import Checkpointing, LossKind, Optimizer, Precision, TrainingSetup

from ..data.state import in_link
from ..text.tooltips import TOOLTIPS

_LARGEST_BATCH, _LARGEST_LENGTH, _LARGEST_RANK, _MOST_EPOCHS = 4096, 131072, 1024, 1000
NARROW, LARGEST_MEMORY_GIB = 150, 10_000.0
_ANY_GPU = "any"


def setup_options(run: Run) -> tuple[EstimateOptions, str | None]:
    """The finetune as the widgets have it, and the GPU it is for, or None.

    Each is in the link. What is at its default stays unset, as in a command.

    A stock trainer settles loss and prefix cache, as the checkpointing of transformers 5 settles the latter: widgets
    without a choice are off, and their values do not count.
    """
    longest = run.shape.max_positions or _LARGEST_LENGTH
    usual = min(SEQUENCE_LENGTH, longest)
    with st.container():
        names = [_ANY_GPU, *(gpu.name for gpu in GPUS)]
        gpu = st.selectbox("GPU", names, help=TOOLTIPS["gpu"], **in_link("gpu"))
        named = None if gpu in (None, _ANY_GPU) else gpu
        batch = st.number_input("Batch", 1, _LARGEST_BATCH, BATCH_SIZE, help="Examples per step.", **in_link("batch"))
        length = st.number_input(
            "Length", 1, longest, usual, **in_link("length"),
            help=f"Tokens per example, padding included; this model takes {longest:,}.",
        )  # fmt: skip
        epochs = st.number_input(
            "Epochs", 1, _MOST_EPOCHS, EPOCHS, help="Over the run's usable rows.", **in_link("epochs")
        )
        usual_precision = default_precision(run, None if named is None else find_gpu(named))
        precision = _choice("Precision", get_args(Precision), "precision", usual=usual_precision)
        optimizer = _choice("Optimizer", get_args(Optimizer), "optimizer")
        stock = st.toggle("Stock trainer", help=TOOLTIPS["stock"], **in_link("stock"))
        loss = _choice("Loss", get_args(LossKind), "loss", disabled=stock)
        checkpointing = _choice("Checkpointing", get_args(Checkpointing), "checkpointing")
        rank = st.number_input("LoRA rank", 1, _LARGEST_RANK, LORA_RANK, help=TOOLTIPS["rank"], **in_link("rank"))
        lora = st.toggle("Train adapters", help=TOOLTIPS["adapters"], **in_link("adapters"))
        no_cache = stock or checkpointing == "transformers-5"  # which recomputes the frozen layers
        cache = st.toggle(
            "Prefix cache", TrainingSetup.prefix_cache, disabled=no_cache, help=TOOLTIPS["prefix cache"],
            **in_link("cache"),
        )  # fmt: skip
    options = EstimateOptions(
        batch_size=_unless_default("batch_size", batch),
        precision=None if precision == usual_precision else precision,
        optimizer=_unless_default("optimizer", optimizer),
        loss=None if stock else _unless_default("loss", loss),
        checkpointing=_unless_default("checkpointing", checkpointing),
        prefix_cache=None if no_cache else _unless_default("prefix_cache", cache),
        sequence_length=None if length == usual else length,
        epochs=None if epochs == EPOCHS else epochs,
        lora=lora,
        lora_rank=rank,
        stock=stock,
    )
    return options, named


def _unless_default(name: str, value: Any) -> Any:
    """None for the value that a setup has anyway."""
    return None if value == getattr(TrainingSetup, name) else value


def budget_input(gpu: str | None) -> Budget | None:
    """What the finetune may take at most, beside the memory of a GPU; None while nothing is limited."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        memory = st.number_input(
            "Memory, GiB", 0.0, LARGEST_MEMORY_GIB, 0.0, width=NARROW, help="0: no limit.", **in_link("memory")
        )
        share = st.number_input(
            "Compute vs. full, %", 1, 100, 100, width=NARROW, help="100: no limit.", **in_link("compute")
        )
    limits = (memory or None, gpu, share / 100 if share < 100 else None)
    return None if limits == (None, None, None) else Budget(*limits)


def _choice(
    title: str, options: tuple[str, ...], name: str, *, disabled: bool = False, usual: str | None = None
) -> str:
    first = options.index(usual or getattr(TrainingSetup, name))
    look: dict[str, Any] = {"disabled": disabled, "help": TOOLTIPS[name]}
    return str(st.selectbox(title, options, first, **look, **in_link(name)))  # type: ignore[arg-type]  # a link's name
