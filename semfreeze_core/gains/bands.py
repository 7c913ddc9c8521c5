"""Means with bootstrap bands of parts of an analysis: its controls, its first tokens, selected positions."""

import numpy as np
import numpy.typing as npt

from semfreeze_core.gains.bootstrap import mean_band, resampling_weights
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.gain import Band
from semfreeze_core.records.run import Run

Positions = npt.NDArray[np.int64]


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
