"""The cost table for the terminal."""

from rich.console import Console
from rich.table import Table

from semfreeze_core.cost import run_seconds
from semfreeze_core.cost.hardware import Gpu, least_fitting_depth
from semfreeze_core.plan.speed import Speed
from semfreeze_core.records.cost import CostTable, DepthCost
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.wording.numbers import duration, flop, gib, percent, setup_words

_TEXT_WIDTH, _TABLE_WIDTH = 116, 180  # cells would break in a narrower terminal
_PARTS = ("weights", "gradients", "optimizer", "activations", "logits")


def print_costs(table: CostTable, setup: TrainingSetup, speed: Speed, gpu: Gpu | None) -> None:
    """One line a freeze depth: FLOP of the first step and the run, memory by part; then what they are compared with."""
    out = Console(highlight=False, width=max(Console().width, _TEXT_WIDTH))
    out.print(f"{table.bytes_status.capitalize()} price by freeze depth: {setup_words(setup)}")
    Console(highlight=False, width=max(Console().width, _TABLE_WIDTH)).print(_rows(table, speed))
    for note in _notes(table, speed, gpu):
        out.print(note)


def _rows(table: CostTable, speed: Speed) -> Table:
    stock = table.transformers_5
    headings = ["depth", "first step", "whole run", "of full", "memory", "of full", *_PARTS]
    headings += ["transformers 5"] * (stock is not None) + ["seconds"] * (speed.flop_per_second is not None)
    rows = Table(box=None, padding=(0, 1))
    for heading in headings:
        rows.add_column(heading, justify="right")
    largest = max([*table.depths, table.full], key=lambda row: row.flop)
    named = [(str(row.freeze_depth), row) for row in table.depths]
    for i, (name, row) in enumerate([*named, *([("lora", table.lora)] if table.lora else [])]):
        cells = [
            name,
            flop(row.step_flop.total, largest.step_flop.total),
            flop(row.flop, largest.flop),
            percent(row.relative_flop),
            gib(row.bytes.total),
            percent(row.relative_bytes),
            *[gib(getattr(row.bytes, part)) for part in _PARTS],
        ]
        if stock is not None:
            cells.append(_of_full(stock[i]) if i < len(stock) else "")
        if speed.flop_per_second is not None:
            cells.append(duration(run_seconds(row.flop, speed.flop_per_second)))
        rows.add_row(*cells)
    return rows


def _of_full(row: DepthCost) -> str:
    return f"{percent(row.relative_flop)}, {percent(row.relative_bytes)}"


def _notes(table: CostTable, speed: Speed, gpu: Gpu | None) -> list[str]:
    notes = [
        "Memory is the sum of its parts, an upper projection; of full: against full finetuning, same head and loss."
    ]
    if table.full.bytes.activations is None:
        known = "FLOP are exact" if table.flop_status == "exact" else "FLOP are an upper bound"
        notes.insert(
            0,
            f"Activation bytes of this family are not known yet, so memory totals are unknown; {known}. "
            "With --model, --calibrate counts them.",
        )
    if table.flop_status == "upper bound":
        notes.append(
            "FLOP are an upper bound: it is not known how much of this family's layers is computed again on the way "
            "back."
        )
    if table.lora is not None:
        notes.append(
            "lora: adapters on all layers and nothing else, the other way to save; same setup, no prefix cache."
        )
    if table.transformers_5 is not None:
        notes.append(
            "transformers 5: FLOP and memory of full when gradient_checkpointing_enable() is left as it is: it makes "
            "the embedding's output require a gradient, so frozen layers are computed again and carry gradients."
        )
    notes.append(f"Seconds: at {flop(round(speed.flop_per_second))}/s, {speed.source}." if speed.flop_per_second else
                 f"Seconds are unknown: {speed.reason}.")  # fmt: skip
    if gpu is not None:
        notes.append(_fit(table, gpu))
    return notes


def _fit(table: CostTable, gpu: Gpu) -> str:
    """From which freeze depth on the setup fits a card."""
    if table.full.bytes.total is None:
        return f"{gpu.name}, {gib(gpu.memory_bytes)}: whether it fits is unknown, as memory totals are."
    depth = least_fitting_depth(table.depths, gpu)
    fits = "no freeze depth fits" if depth is None else f"fits from freeze depth {depth} on"
    return f"{gpu.name}, {gib(gpu.memory_bytes)}: {fits}."
