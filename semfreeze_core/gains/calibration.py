"""How far predictions were off: bias and spread over finetunes."""

from collections import defaultdict
from collections.abc import Sequence
from typing import get_args

import numpy as np
from scipy import stats

from semfreeze_core.gains.bootstrap import tail_fraction
from semfreeze_core.records.defaults import MIN_FINETUNES
from semfreeze_core.records.interval import Interval, IntervalEntry
from semfreeze_core.records.prediction_error import Calibration, PredictedMeasured, Quantity


def calibrate(pairs: Sequence[PredictedMeasured]) -> list[Calibration]:
    """Mean error of every quantity with its two-sided t interval at `CONFIDENCE` over finetunes.

    Arms of one finetune share its data and machine, so each finetune counts once, with the mean of its arms.
    """
    calibrations = []
    for quantity in get_args(Quantity):
        errors: dict[str, list[float]] = defaultdict(list)
        for pair in pairs:
            if pair.quantity == quantity:
                errors[pair.finetune].append(error_of(pair))
        if errors:
            calibrations.append(
                _calibration(quantity, [float(np.mean(e)) for e in errors.values()], sum(map(len, errors.values())))
            )
    return calibrations


def error_of(pair: PredictedMeasured) -> float:
    """Predicted minus measured for a share, their ratio minus 1 for what has a unit."""
    if pair.quantity.startswith("coverage"):
        return pair.predicted - pair.measured
    return pair.predicted / pair.measured - 1


def corrected(predicted: float, calibration: Calibration) -> IntervalEntry | None:
    """A predicted share minus its mean error, with the prediction interval of the next finetune at `CONFIDENCE`.

    None with fewer than MIN_FINETUNES finetunes.
    """
    n, mean, spread = calibration.n_finetunes, calibration.error.estimate, calibration.spread
    if n < MIN_FINETUNES or mean is None or spread is None:
        return None
    half = float(stats.t.ppf(1 - tail_fraction(), n - 1)) * spread * float(np.sqrt(1 + 1 / n))
    middle = predicted - mean
    return IntervalEntry.of(Interval(middle, middle - half, middle + half))


def _calibration(quantity: Quantity, errors: list[float], n_arms: int) -> Calibration:
    n, mean = len(errors), float(np.mean(errors))
    if n < 2:
        return Calibration(
            quantity=quantity,
            n_finetunes=n,
            n_arms=n_arms,
            error=IntervalEntry(estimate=mean, low=None, high=None),
            spread=None,
        )
    spread = float(np.std(errors, ddof=1))
    half = float(stats.t.ppf(1 - tail_fraction(), n - 1)) * spread / float(np.sqrt(n))
    interval = IntervalEntry.of(Interval(mean, mean - half, mean + half))
    return Calibration(quantity=quantity, n_finetunes=n, n_arms=n_arms, error=interval, spread=spread)
