"""The training setup beside the depth: widgets to the same flags the command line takes, and from there one way on."""

from collections.abc import Sequence
from typing import Any, get_args

import streamlit as st

from semfreeze_core.cost.hardware import GPUS, Gpu, find_gpu
from semfreeze_core.cost.presets import SetupPreset, offered_presets
from semfreeze_core.cost.setup import default_precision
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.defaults import BATCH_SIZE, EPOCHS, LORA_RANK, SEQUENCE_LENGTH
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import (
    Batches,
    Checkpointing,
    FrozenBits,
    LossKind,
    Optimizer,
    Precision,
    TrainingSetup,
)

from ..data.link import follow_default, in_link, limit_choice, limit_number, refuse_value
from ..data.setup_fields import apply_setup, chosen, setup_shows, show_chosen
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS

_LARGEST_BATCH, _LARGEST_LENGTH, _LARGEST_RANK, _MOST_EPOCHS = 4096, 131072, 1024, 1000
NARROW, LARGEST_MEMORY_GIB = 150, 10_000.0
ANY_GPU = "any"
PRESET = "preset"  # key of the named setups
_UNQUANTIZED, _WHOLE_BATCH = "none", "all"
_BITS = (_UNQUANTIZED, *map(str, get_args(FrozenBits)))


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
    presets = st.container()  # filled once the widgets say which of them they amount to
    left, right = st.columns(2)  # all of it in one window
    with left:
        batch = st.number_input("Batch", 1, _LARGEST_BATCH, BATCH_SIZE, help="Examples per step.", **in_link("batch"))
        micro = _micro_batch_choice(batch)
        epochs = st.number_input("Epochs", 1, _MOST_EPOCHS, EPOCHS, help="Over all training rows.", **in_link("epochs"))
        optimizer = _choice("Optimizer", get_args(Optimizer), "optimizer")
        checkpointing = _choice("Checkpointing", get_args(Checkpointing), "checkpointing")
        rank = st.number_input("LoRA rank", 1, _LARGEST_RANK, LORA_RANK, help=TOOLTIPS["rank"], **in_link("rank"))
        lora = st.toggle("Train adapters", help=TOOLTIPS["adapters"], **in_link("adapters"))
        stock = st.toggle("Stock trainer", help=TOOLTIPS["stock"], **in_link("stock"))
    with right:
        limit_number("length", longest)
        length = st.number_input(
            "Length", 1, longest, usual, **in_link("length"),
            help=f"Tokens per example, padding included; this model takes {longest:,}.",
        )  # fmt: skip
        usual_precision = default_precision(run, gpu)
        follow_default("precision", usual_precision)  # which another GPU or run has changed
        precision = _choice("Precision", get_args(Precision), "precision", usual=usual_precision)
        loss = _choice("Loss", get_args(LossKind), "loss", disabled=stock)
        batches = _choice("Batches", get_args(Batches), "batches")
        bits = st.selectbox("Quantize frozen layers, bits", _BITS, help=TOOLTIPS["bits"], **in_link("bits"))
        no_cache = stock or checkpointing == "transformers-5"  # which recomputes the frozen layers
        cache = st.toggle(
            "Prefix cache", TrainingSetup.prefix_cache, disabled=no_cache, help=TOOLTIPS["prefix cache"],
            **in_link("cache"),
        )  # fmt: skip
    with presets:
        preset_choice(tuple(offered_presets(shape, gpu)), usual_precision)
    return EstimateOptions(
        batch_size=_unless_default("batch_size", batch),
        micro_batch_size=micro,
        precision=None if precision == usual_precision else precision,
        optimizer=_unless_default("optimizer", optimizer),
        loss=None if stock else _unless_default("loss", loss),
        checkpointing=_unless_default("checkpointing", checkpointing),
        batches=_unless_default("batches", batches),
        prefix_cache=None if no_cache else _unless_default("prefix_cache", cache),
        sequence_length=None if length == usual else length,
        epochs=None if epochs == EPOCHS else epochs,
        lora=lora,
        lora_rank=rank,
        frozen_bits=None if bits in (None, _UNQUANTIZED) else int(bits),
        stock=stock,
    )


def _micro_batch_choice(batch: int) -> int | None:
    """How many examples go through the model at a time: all of a batch, or a smaller number that divides it."""
    sizes = [_WHOLE_BATCH, *(str(size) for size in range(batch // 2, 0, -1) if batch % size == 0)]
    limit_choice("micro", sizes)
    chosen_size = st.selectbox("Examples at a time", sizes, help=TOOLTIPS["micro batch"], **in_link("micro"))
    return None if chosen_size in (None, _WHOLE_BATCH) else int(chosen_size)


def preset_choice(presets: Sequence[SetupPreset], usual_precision: Precision) -> None:
    """The named setups in a row; one click sets the widgets, which say which of them is lit.

    Args:
        presets: that are offered.
        usual_precision: of a preset that names none.
    """
    values = {preset.name: _widget_values(preset.options, usual_precision) for preset in presets}
    lit = max((name for name in values if setup_shows(values[name])), key=lambda name: len(values[name]), default=None)

    def apply() -> None:
        if (name := chosen(PRESET)) is not None:  # None: the lit one was clicked
            apply_setup(values[name])

    described = "\n".join(f"- {preset.name}: {preset.description}" for preset in presets)
    st.pills(
        "Preset", list(values), key=show_chosen(PRESET, lit), on_change=apply,
        help=f"{TOOLTIPS['preset']}\n\n{described}",
    )  # fmt: skip


def _widget_values(options: EstimateOptions, usual_precision: Precision) -> dict[str, object]:
    """What the widgets stand at with these options, by field; sizes that are unset are left out."""
    values: dict[str, object] = {
        name: getattr(options, name) or getattr(TrainingSetup, name) for name in ("optimizer", "loss", "checkpointing")
    }
    values["precision"] = options.precision or usual_precision
    values["prefix_cache"] = TrainingSetup.prefix_cache if options.prefix_cache is None else options.prefix_cache
    values["lora"] = options.lora
    values["frozen_bits"] = _UNQUANTIZED if options.frozen_bits is None else str(options.frozen_bits)
    values["stock"] = options.stock
    sizes = {name: getattr(options, name) for name in ("batch_size", "sequence_length", "epochs", "lora_rank")}
    return values | {name: size for name, size in sizes.items() if size is not None}


def _unless_default(name: str, value: Any) -> Any:
    """None for the value that a setup has anyway."""
    return None if value == getattr(TrainingSetup, name) else value


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
