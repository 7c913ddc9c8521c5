"""Rows of a run that pages show."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.run import Run

Positions = npt.NDArray[np.int64]


def read_out_positions(display: DisplaySample, example: int) -> Positions:
    """The shown positions of an example whose tokens were read out at every space, in the order of its text."""
    rows = np.flatnonzero(display.example[: len(display.read_top)] == example)
    return rows[np.argsort(display.order[rows])]


def position_rows(run: Run, metric: str, positions: Sequence[int]) -> pd.DataFrame:
    """One row a shown position: its example, the truth, what the model says, and its deviation in the last space."""
    display = run.require_display()
    chosen = np.asarray(positions, dtype=np.int64)
    examples = run.examples.iloc[display.example[chosen]].reset_index(drop=True)
    return pd.DataFrame(
        {
            "example": display.example[chosen],
            "data row": examples["row"],
            "label": examples["label"],
            "token": display.order[chosen] + 1,
            "truth": [display.token_text[int(token)] for token in display.label_ids[chosen]],
            "model predicts": [display.token_text[int(token)] for token in display.predicted_ids[chosen]],
            "right": display.right[chosen],
            "last distance": display.deviation[display.metrics.index(metric)][chosen, -1].astype(np.float64),
            "prompt": examples["prompt"],
        }
    )
