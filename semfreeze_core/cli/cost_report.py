"""The cost table for the terminal."""

from rich.console import Console
from rich.table import Table

from semfreeze_core.cli.words import flop, gib, percent, setup_words
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.training import TrainingSetup


def print_costs(rows: tuple[DepthCost, ...], setup: TrainingSetup, out: Console) -> None:
    """One line a freeze depth: FLOP of the first step and the run, memory by part."""
    out.print(f"Projected price by freeze depth: {setup_words(setup)}")
    table = Table(box=None, padding=(0, 1))
    headings = ("depth", "first step", "whole run", "of full", "memory", "of full")
    parts = ("weights", "gradients", "optimizer", "activations", "logits")
    for heading in (*headings, *parts):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.freeze_depth),
            flop(row.step_flop.total, rows[0].step_flop.total),
            flop(row.flop, rows[0].flop),
            percent(row.relative_flop),
            gib(row.bytes.total),
            percent(row.relative_bytes),
            *[gib(getattr(row.bytes, part)) for part in parts],
        )
    out.print(table)
    if rows[0].bytes.activations is None:
        out.print("Activation bytes of this family are not known yet, so memory totals are unknown; FLOP are exact.")
    out.print(
        "Memory is the sum of its parts, an upper projection; of full: against full finetuning, same head and loss."
    )
