"""A scaling law drawn through the deviations: d(s) = A s^-alpha + E over latent spaces s."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from semfreeze_core.gains.bootstrap import normal_quantile
from semfreeze_core.gains.coverage import VARIANCE_FLOOR
from semfreeze_core.records.gain import Band

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law and how well it fits; for looking at, never extrapolated.

    Attributes:
        amplitude: A.
        exponent: alpha, within [0.01, 5].
        floor: E, within [0, min d].
        r_squared: weighted R^2 over the spaces fitted.
        fitted: d(s) for s = 1..L, (L,).
        residuals: measured less fitted, (L,).
    """

    amplitude: float
    exponent: float
    floor: float
    r_squared: float
    fitted: Floats
    residuals: Floats


def fit_scaling_law(band: Band) -> ScalingLaw:
    """Fit A, alpha and E to the mean deviations of spaces 1..L by robust least squares, weighted by their intervals.

    Layers take the place of model size in loss = A X^-alpha + E (Zhang et al. 2024, arXiv 2402.17193); the paper
    (SALF) reads the law's contraction by layer. Several starts, soft-L1 loss. Space 0 is left out, where s^-alpha has
    no value. Real curves are flat and then fall, which no such law follows: its R^2 says so.

    Args:
        band: mean deviation of every space with its interval at `CONFIDENCE`, (L + 1,).
    """
    observed = band.mean[1:]
    depth = np.arange(1, len(band.mean), dtype=np.float64)
    standard_errors = (band.high - band.low)[1:] / (2 * normal_quantile())
    scale = np.sqrt(np.maximum(standard_errors**2, VARIANCE_FLOOR))
    highest_floor = max(float(observed.min()), 1e-9)

    def law(parameters: Floats) -> Floats:
        amplitude, exponent, floor = parameters
        values: Floats = amplitude * depth**-exponent + floor
        return values

    def misfit(parameters: Floats) -> Floats:
        return (law(parameters) - observed) / scale

    fits = [
        least_squares(
            misfit,
            x0=[max(observed[0] - share * highest_floor, 1e-3), exponent, share * highest_floor],
            bounds=([0.0, 0.01, 0.0], [np.inf, 5.0, highest_floor]),
            loss="soft_l1",
        )
        for exponent in (0.05, 0.3, 1.0)
        for share in (0.1, 0.9)
    ]
    best = min(fits, key=lambda fit: float(fit.cost))
    fitted = law(best.x)
    weights = 1 / scale**2
    total = float((weights * (observed - np.average(observed, weights=weights)) ** 2).sum())
    residual = float((weights * (observed - fitted) ** 2).sum())
    amplitude, exponent, floor = (float(x) for x in best.x)
    return ScalingLaw(
        amplitude, exponent, floor, 1 - residual / total if total > 0 else float("nan"), fitted, observed - fitted
    )
