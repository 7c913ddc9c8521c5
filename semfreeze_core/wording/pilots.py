"""Pilots as text: what they decided, round by round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semfreeze_core.wording.numbers import CI, flops, interval, number, percent
from semfreeze_core.wording.tables import Column, Table, table

if TYPE_CHECKING:
    from semfreeze_core.records.pilots import Measurement


def pilots_sentence(measured: Measurement) -> str:
    """What pilots decided, and what share of a finetune they took."""
    share = percent(measured.spent_flop / measured.full_flop)
    took = f"The pilot runs ({share} of the compute of one full finetune of {measured.steps:,} steps)"
    if measured.freeze_depth is None:
        return f"{took} found no significant winner."
    return f"{took} selected freezing {measured.freeze_depth} of {measured.n_layers} layers."


def pilots_table(measured: Measurement) -> Table:
    """One row per pilot, round by round."""
    rows = []
    for n, one in enumerate(measured.rounds, 1):
        for pilot in one.pilots:
            known = pilot.ahead.estimate is not None
            rows.append(
                (
                    str(n),
                    str(pilot.freeze_depth),
                    f"{pilot.steps:,}",
                    number(pilot.loss),
                    interval(pilot.ahead) if known else pilot.reason,
                    flops(pilot.flop),
                    "yes" if pilot.freeze_depth in one.kept else "no",
                )
            )
    titles = ("round", "frozen layers", "steps", "eval loss", f"below the shallowest depth's, {CI}", "compute", "kept")
    return table([Column(title) for title in titles], rows)
