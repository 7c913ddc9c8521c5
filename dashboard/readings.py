"""What the pages ask of a run beyond what the core hands out whole: its rows chosen, its own functions called."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from semfreeze_core.gains import gain_curve
from semfreeze_core.gains.bootstrap import mean_band, resampling_weights
from semfreeze_core.plan.rules import Decision, decide_by_coverage
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.gain import Band, GainCurve, Interval
from semfreeze_core.records.run import Run
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace

SMALLEST_SLICE, MOST_SLICES = 16, 12

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Slice:
    """One group of a run's examples, read by itself.

    Attributes:
        name: the label its examples share.
        curve: from its rows alone.
        decision: what the coverage rule's formula says of it.
    """

    name: str
    curve: GainCurve
    decision: Decision

    @property
    def pick(self) -> tuple[int, int]:
        """5th and 95th percentile of the rule's depth over replicates."""
        return self.decision.pick_interval or (0, 0)

    def contradicts(self, depth: int) -> bool:
        """Whether the rule, over replicates, freezes this group less deep than `depth` nearly always."""
        return self.pick[1] < depth

    def coverage_at(self, depth: int) -> Interval:
        return self.curve.coverage.at(depth)


def task_null(run: Run, metric: str) -> tuple[Band, Band] | None:
    """Deviations of prompts with their own and with swapped completions; None when there are no such pairs."""
    pairs = run.pairs[metric]
    if not len(pairs.own):
        return None
    weights = resampling_weights(len(pairs.own), run.manifest.settings.seed + 1)
    return mean_band(pairs.own, weights), mean_band(pairs.swapped, weights)


def first_and_later(run: Run, metric: str) -> tuple[Band, Band]:
    """Advantage at the first supervised token of an example and at its later ones."""
    trace = run.traces[metric]
    weights = resampling_weights(run.n_examples, run.manifest.settings.seed)
    first = mean_band(trace.first_null - trace.first_deviation, weights)
    return first, mean_band(trace.later_null - trace.later_deviation, weights)


def slices(run: Run, metric: str) -> tuple[list[Slice], int]:
    """The groups of examples that share a label, largest first, and how many groups are too small to read."""
    counts = run.examples["label"].value_counts()
    large = [str(name) for name, count in counts.items() if count >= SMALLEST_SLICE]
    found = []
    for name in large[:MOST_SLICES]:
        rows = np.flatnonzero((run.examples["label"] == name).to_numpy(dtype=bool, na_value=False))
        # Which prompts the task null swapped is not kept by example, so a group is read without it.
        nothing = SwappedPairs(metric, run.pairs[metric].own[:0], run.pairs[metric].own[:0], "not split by group")
        curve = gain_curve(
            _rows_of(run.traces[metric], rows), nothing, tied=run.shape.tied, seed=run.manifest.settings.seed
        )
        found.append(Slice(name, curve, decide_by_coverage(curve)))
    return found, len(counts) - len(found)


def _rows_of(trace: TransitionTrace, rows: Positions) -> TransitionTrace:
    names = ("deviation", "null", "first_deviation", "first_null", "later_deviation", "later_null")
    return replace(trace, **{name: getattr(trace, name)[rows] for name in names})


def selection_bands(display: DisplaySample, metric: str, chosen: Positions) -> tuple[Band, Band | None]:
    """Deviation of the chosen positions, and of all others shown; None when there are no others.

    Positions of one example are not independent, so the bootstrap draws examples: each position weighs what its example
    does.
    """
    rest = np.setdiff1d(np.arange(len(display.example)), chosen)
    return _position_band(display, metric, chosen), _position_band(display, metric, rest) if len(rest) else None


def _position_band(display: DisplaySample, metric: str, positions: Positions) -> Band:
    examples, index = np.unique(display.example[positions], return_inverse=True)
    weights = resampling_weights(len(examples), display.seed)[:, index]
    return mean_band(display.deviation[display.metrics.index(metric)][positions], weights)


def read_positions(display: DisplaySample, example: int) -> Positions:
    """The shown positions of an example whose tokens were read out at every space, in the order of its text."""
    found = np.flatnonzero(display.example[: len(display.read_top)] == example)
    return found[np.argsort(display.order[found])]


def position_rows(run: Run, metric: str, positions: Sequence[int]) -> pd.DataFrame:
    """One row a shown position: its example, the truth, what the model says, and its deviation in the last space."""
    display = run.display
    chosen = np.asarray(positions, dtype=np.int64)
    own = run.examples.iloc[display.example[chosen]].reset_index(drop=True)
    return pd.DataFrame(
        {
            "example": display.example[chosen],
            "data row": own["row"],
            "label": own["label"],
            "token": display.order[chosen] + 1,
            "truth": [display.token_text[int(token)] for token in display.label_ids[chosen]],
            "model says": [display.token_text[int(token)] for token in display.predicted_ids[chosen]],
            "right": display.right[chosen],
            "last deviation": display.deviation[display.metrics.index(metric)][chosen, -1].astype(np.float64),
            "prompt": own["prompt"],
        }
    )
