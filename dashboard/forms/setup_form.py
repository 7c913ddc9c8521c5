"""The training setup beside the depth: widgets to the same flags the command line takes, and from there one way on."""

from typing import Any, get_args

import streamlit as st

from semfreeze_core.cost.hardware import GPUS, Gpu, find_gpu
from semfreeze_core.cost.setup import default_precision
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.defaults import BATCH_SIZE, EPOCHS, LORA_RANK, SEQUENCE_LENGTH
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import Checkpointing, LossKind, Optimizer, Precision, TrainingSetup

from ..data.state import in_link, limit_number, refuse_value
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS

_LARGEST_BATCH, _LARGEST_LENGTH, _LARGEST_RANK, _MOST_EPOCHS = 4096, 131072, 1024, 1000
NARROW, LARGEST_MEMORY_GIB = 150, 10_000.0
ANY_GPU = "any"


def gpu_input() -> Gpu | None:
    """The GPU that the finetune is for: one of the table, or another by its memory; None where it is for any."""
    names = [ANY_GPU, *(gpu.name for gpu in GPUS)]
    gpu = st.selectbox("GPU", names, help=TOOLTIPS["gpu"], accept_new_options=True, **in_link("gpu"))
    try:
        return None if gpu in (None, ANY_GPU) else find_gpu(str(gpu))
    except PlanError as error:
        st.error(escaped(str(error)))
        refuse_value("gpu", ANY_GPU)
        return None


def setup_options(shape: ModelShape, run: Run | None, gpu: Gpu | None) -> EstimateOptions:
    """The finetune as the widgets have it.

    Each is in the link. What is at its default stays unset, as in a command.

    A stock trainer settles loss and prefix cache, as the checkpointing of transformers 5 settles the latter: widgets
    without a choice are off, and their values do not count.

    Args:
        shape: of the model.
        run: its analysis; None where it has none.
        gpu: that the finetune is for.
    """
    longest = shape.max_positions or _LARGEST_LENGTH
    usual = min(SEQUENCE_LENGTH, longest)
    with st.container():
        batch = st.number_input("Batch", 1, _LARGEST_BATCH, BATCH_SIZE, help="Examples per step.", **in_link("batch"))
        limit_number("length", longest)
        length = st.number_input(
            "Length", 1, longest, usual, **in_link("length"),
            help=f"Tokens per example, padding included; this model takes {longest:,}.",
        )  # fmt: skip
        epochs = st.number_input("Epochs", 1, _MOST_EPOCHS, EPOCHS, help="Over all training rows.", **in_link("epochs"))
        usual_precision = default_precision(run, gpu)
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
    return EstimateOptions(
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


def _unless_default(name: str, value: Any) -> Any:
    """None for the value that a setup has anyway."""
    return None if value == getattr(TrainingSetup, name) else value


def limit_inputs() -> None:
    """What the finetune may take at most, beside the memory of a GPU; `limits_budget` makes a budget of it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Memory, GiB", 0.0, LARGEST_MEMORY_GIB, 0.0, width=NARROW, help="0: no limit.", **in_link("memory")
        )
        st.number_input("Compute vs. full, %", 1, 100, 100, width=NARROW, help="100: no limit.", **in_link("compute"))


def limits_budget(memory: float, share: float, gpu: Gpu | None) -> Budget | None:
    """Memory in GiB, 0 for no limit, percent of full finetuning's compute, 100 for none, and a GPU's memory."""
    limits = (memory or None, None if gpu is None else gpu.name, share / 100 if share < 100 else None)
    return None if limits == (None, None, None) else Budget(*limits)


def _choice(
    title: str, options: tuple[str, ...], name: str, *, disabled: bool = False, usual: str | None = None
) -> str:
    first = options.index(usual or getattr(TrainingSetup, name))
    look: dict[str, Any] = {"disabled": disabled, "help": TOOLTIPS[name]}
    return str(st.selectbox(title, options, first, **look, **in_link(name)))  # type: ignore[arg-type]  # a link's name
