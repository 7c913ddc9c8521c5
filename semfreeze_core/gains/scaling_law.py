"""A scaling law through the layers: the advantage as a broken power law of the depth, and what it leaves to each layer.

Layers take the place of model size in a law of scale (the paper's idea); which formula is ours, chosen by what predicts
spaces that the fit has not seen. Every formula here is a shape of the depth s/L that rises; the curve is E + A shape,
where E and A follow from the shape in closed form (variable projection: Golub and Pereyra 1973), so that only the
shape's own parameters are searched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from semfreeze_core.gains.bootstrap import percentile_band
from semfreeze_core.records.defaults import MIN_LAW_R_SQUARED
from semfreeze_core.records.gain import Band, Interval, ScalingLaw

Floats = npt.NDArray[np.float64]

_EXPONENTS = (-5.0, 50.0)  # from a rise that ends at once to one that all lies in the last layer
_TURNS, _STEPS = 150, 40  # searched; between steps of the exponent the optimum is that of a parabola
_NOTHING = 1e-6  # a rise below this is none, as in `gain_coverage`
_LEAST_LEAD = 0.01  # of all gain: a smaller distance between R(k) and equal layers is none
_LEAST_SPACES = 6  # the law has four numbers, which fit four spaces whatever they are; two more can contradict it


def straight_line(depth: Floats) -> Floats:
    """s/L: every layer gains the same."""
    return depth


def power_law(depth: Floats, exponent: float) -> Floats:
    """1 - (s/L)^-alpha, as loss falls with model size (Zhang et al. 2024, arXiv 2402.17193); no value at s = 0."""
    shape: Floats = 1 - depth**-exponent
    return shape


def power_of_depth(depth: Floats, exponent: float) -> Floats:
    """(s/L)^gamma: with gamma > 1 flat first and then ever steeper."""
    shape: Floats = depth**exponent
    return shape


def smoothly_broken_power_law(depth: Floats, turn: float, width: float, exponent: float) -> Floats:
    """((1 + (s/t)^(1/f))^(c f) - 1) / c: flat before the turn t, a power c of the depth after it, over the width f.

    One smooth break of Caballero et al. 2023, arXiv 2210.14891, without a slope before it; no value at s = 0. In
    logarithms, as (s/t)^(1/f) would overflow.
    """
    return _power(width * np.logaddexp(0, np.log(depth / turn) / width), exponent)


def broken_power_law(depth: Floats, turn: float | Floats, exponent: float | Floats) -> Floats:
    """(max(s/t, 1)^c - 1) / c: flat up to the turn t, and from there a power c of the depth; its limit at f = 0.

    With c < 0 the rise from t on is the power law that levels off, with c = 0 a logarithm, with c > 1 ever steeper.
    """
    return _power(np.log(np.maximum(depth / turn, 1.0)), exponent)


def _power(logarithm: Floats, exponent: float | Floats) -> Floats:
    """(e^(c x) - 1) / c, which is x at c = 0."""
    nonzero = np.where(np.abs(exponent) < 1e-9, 1e-9, exponent)
    power: Floats = np.expm1(nonzero * logarithm) / nonzero
    return power


@dataclass(frozen=True)
class Formula:
    """A shape of the depth and where its parameters are searched: from each start, within the bounds."""

    shape: Callable[..., Floats]
    starts: tuple[tuple[float, ...], ...] = ((),)
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


_TURN_STARTS, _EXPONENT_STARTS = (0.1, 0.3, 0.5, 0.7, 0.9), (-1.0, 0.5, 2.0, 6.0)
FORMULAS = {
    "straight line": Formula(straight_line),
    "power law": Formula(power_law, ((0.05,), (0.3,), (1.0,), (3.0,)), (0.01,), (5.0,)),
    "power of depth": Formula(power_of_depth, ((0.3,), (1.0,), (3.0,), (8.0,), (20.0,)), (0.1,), (50.0,)),
    "smoothly broken power law": Formula(
        smoothly_broken_power_law,
        tuple(product(_TURN_STARTS, (0.05, 0.2), _EXPONENT_STARTS)),
        (1e-3, 0.01, _EXPONENTS[0]),
        (1.0, 1.0, _EXPONENTS[1]),
    ),
    "broken power law": Formula(
        broken_power_law,
        tuple(product(_TURN_STARTS, _EXPONENT_STARTS)),
        (1e-3, _EXPONENTS[0]),
        (1.0, _EXPONENTS[1]),
    ),
}


@dataclass(frozen=True)
class FormulaFit:
    """How well a formula fits a curve.

    Attributes:
        r_squared: over the spaces fitted, unweighted; NaN for a flat curve.
        left_out_error: root mean square error of each space's prediction by a fit to the others, as a fraction of the
            curve's range; NaN for a flat curve.
    """

    r_squared: float
    left_out_error: float


def compare_formulas(curve: Floats) -> dict[str, FormulaFit]:
    """Every formula fitted to a curve of progress and judged by the spaces that it has not seen.

    Args:
        curve: mean advantage of spaces 0..L, (L + 1,); space 0 is left out, where two of them have no value.
    """
    depth = np.arange(1, len(curve)) / (len(curve) - 1)
    return {name: _judged(formula, depth, curve[1:]) for name, formula in FORMULAS.items()}


def fit_scaling_law(curve: Floats, replicates: Floats, start: int) -> ScalingLaw:
    """The broken power law through the advantage; ours. Of the formulas it predicts left-out spaces best.

    Least squares without weights: what a law misses is its own misfit, of one size at all spaces, and not the error of
    a mean. Its gain of layer i is a(i+1) - a(i), and R(k) the share of its gains in layers k..L-1. The turning depth is
    where R(k) lies farthest above (L - k)/L: up to it layers gain less than the average layer, and from it on more.
    Intervals refit the law in every replicate; they are about the examples and know nothing of the law's misfit.

    Args:
        curve: mean advantage of spaces 0..L, (L + 1,).
        replicates: the same of every bootstrap replicate, (B, L + 1).
        start: first space that is measured.

    Returns:
        The law; NaN with a reason where R^2 is below MIN_LAW_R_SQUARED.
    """
    n_layers, values = len(curve) - 1, curve[start:]
    if len(values) < _LEAST_SPACES:
        reason = f"{len(values)} hidden states are too few (required: {_LEAST_SPACES})"
        return _without_law(curve.shape, len(replicates), float("nan"), reason)
    depth = np.arange(n_layers + 1) / n_layers
    # The curve is fitted as one more replicate: what estimates it and what its interval comes from are one.
    turns, exponents, rises = _turns_and_exponents(depth[start:], np.vstack([curve, replicates])[:, start:])
    shape = broken_power_law(depth[start:], turns[0], exponents[0])
    floor, slope = _line_through(shape, values)
    fitted = np.full(curve.shape, np.nan)
    fitted[start:] = floor + slope * shape
    r_squared = _r_squared(values, fitted[start:])
    if reason := _no_law(r_squared, rises=bool(rises[0])):
        return _without_law(curve.shape, len(replicates), r_squared, reason)
    turns[~rises], exponents[~rises] = np.nan, np.nan
    coverages = _coverage(depth, start, turns[:, None], exponents[:, None])
    depths = turning_depths(coverages).astype(np.float64)

    def interval(values: Floats) -> Interval:
        return _band(values[:, None]).at(0)

    return ScalingLaw(
        floor=floor,
        amplitude=float(fitted[-1] - floor),
        turn=interval(turns * n_layers),
        exponent=interval(exponents),
        r_squared=r_squared,
        fitted=fitted,
        residuals=curve - fitted,
        gain=np.diff(fitted),
        coverage=_band(coverages),
        coverage_replicates=coverages[1:],
        turning_depth=interval(depths),
    )


def turning_depths(coverage: Floats, cap: int | None = None) -> npt.NDArray[np.int64]:
    """The depth k at which R(k) lies farthest above (L - k)/L, of every row of `coverage` (B, L + 1).

    There a layer's gain passes the average layer's. 0 where R(k) lies nowhere above it by 0.01, and where nothing rises
    (NaN): then no layer is one to freeze.

    Args:
        coverage: R(k) for k = 0..L.
        cap: deepest depth to look at; None for L.
    """
    n_layers = coverage.shape[1] - 1
    above = coverage - (n_layers - np.arange(n_layers + 1)) / n_layers
    searched = np.where(np.isfinite(above), above, -np.inf)[:, : None if cap is None else cap + 1]
    return np.where(searched.max(axis=1) >= _LEAST_LEAD, np.argmax(searched, axis=1), 0)


def _band(values: Floats) -> Band:
    """The first row with the interval of the others; without one where none of them is known."""
    estimate, replicates = values[0], values[1:]
    if np.isfinite(replicates).any():
        return percentile_band(estimate, replicates)
    unknown = np.full(estimate.shape, np.nan)
    return Band(estimate, unknown, unknown)


def _coverage(depth: Floats, start: int, turns: Floats, exponents: Floats) -> Floats:
    """R(k) of a law a row, of which E and A cancel; NaN where its parameters are."""
    shape = broken_power_law(depth, turns, exponents)
    last, first = shape[:, -1:], shape[:, start : start + 1]
    coverage: Floats = np.minimum((last - shape) / (last - first), 1.0)
    return coverage


def _turns_and_exponents(depth: Floats, curves: Floats) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """The turn and the exponent of every curve (n, m) with the least squares, and whether the curve rises at all.

    All curves at once and over all that is possible, so that no start can be a wrong one: what a shape explains of a
    curve is the curve's projection on it. Turns beyond the last space but one make no difference.
    """
    steps = np.linspace(np.arcsinh(_EXPONENTS[0]), np.arcsinh(_EXPONENTS[1]), _STEPS)
    # The first is all but the power of the depth; a smaller one would overflow.
    turns = np.append(2e-3, np.linspace((depth[1] - depth[0]) / 2, depth[-2], _TURNS - 1))
    pairs = [grid.ravel() for grid in np.meshgrid(turns, np.sinh(steps), indexing="ij")]
    shapes = broken_power_law(depth[None], pairs[0][:, None], pairs[1][:, None])
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    turned, raised, explained = (np.empty(len(curves)) for _ in range(3))
    for part in np.array_split(np.arange(len(curves)), -(-len(curves) // 200)):  # tens of MB at a time
        along = (curves[part] @ shapes.T).reshape(len(part), _TURNS, _STEPS)  # shapes sum to 0: means drop out
        inner = along[:, :, 1:-1].argmax(axis=2)[:, :, None] + 1
        left, middle, right = (np.take_along_axis(along, inner + i, axis=2)[:, :, 0] for i in (-1, 0, 1))
        curvature = np.minimum(left - 2 * middle + right, -1e-300)
        shift = (0.5 * (left - right) / curvature).clip(-1, 1)
        peak = middle - 0.5 * (left - right) * shift + 0.5 * curvature * shift**2
        row = np.arange(len(part)), peak.argmax(axis=1)
        turned[part], explained[part] = turns[row[1]], peak[row]
        raised[part] = np.sinh(steps[0] + (steps[1] - steps[0]) * (inner[:, :, 0] + shift)[row])
    return turned, raised, explained > _NOTHING


def _line_through(shape: Floats, values: Floats) -> tuple[float, float]:
    """E and A >= 0 of the least squares of E + A shape."""
    centered = shape - shape.mean()
    spread = float(centered @ centered)
    amplitude = max(float(centered @ (values - values.mean())) / spread, 0.0) if spread > 0 else 0.0
    return float(values.mean() - amplitude * shape.mean()), amplitude


def _parameters(formula: Formula, depth: Floats, values: Floats, starts: tuple[tuple[float, ...], ...] = ()) -> Floats:
    """The shape's parameters with the least squares, from fixed starts within the formula's bounds."""
    scale = float(np.ptp(values)) or 1.0

    def misfit(parameters: Floats) -> Floats:
        shape = formula.shape(depth, *parameters)
        floor, amplitude = _line_through(shape, values)
        return (floor + amplitude * shape - values) / scale

    if not formula.low:
        return np.empty(0)
    fits = [
        least_squares(misfit, x0=start, bounds=(formula.low, formula.high), x_scale=np.maximum(np.abs(start), 0.01))
        for start in starts or formula.starts
    ]
    best: Floats = min(fits, key=lambda fit: float(fit.cost)).x
    return best


def _judged(formula: Formula, depth: Floats, values: Floats) -> FormulaFit:
    extent = float(np.ptp(values))
    if extent <= _NOTHING:
        return FormulaFit(float("nan"), float("nan"))
    parameters = _parameters(formula, depth, values)
    errors = []
    for space in range(len(values)):
        others = np.arange(len(values)) != space
        # From the fit to all spaces: leaving one out moves it a little.
        left = _parameters(formula, depth[others], values[others], (tuple(parameters),))
        shape = formula.shape(depth, *left)
        floor, amplitude = _line_through(shape[others], values[others])
        errors.append(values[space] - floor - amplitude * shape[space])
    shape = formula.shape(depth, *parameters)
    floor, amplitude = _line_through(shape, values)
    fitted = floor + amplitude * shape
    return FormulaFit(_r_squared(values, fitted), float(np.sqrt(np.mean(np.square(errors)))) / extent)


def _r_squared(values: Floats, fitted: Floats) -> float:
    """1 - residual / total squares; NaN for a flat curve."""
    if np.ptp(values) <= _NOTHING:
        return float("nan")
    return 1 - float(((values - fitted) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def _no_law(r_squared: float, *, rises: bool) -> str:
    """Why there is no law, or ""."""
    if not np.isfinite(r_squared) or not rises:
        return "lift over random labels does not rise through the layers"
    if r_squared < MIN_LAW_R_SQUARED:
        return f"a broken power law of the depth reaches R² = {r_squared:.2f} (required: {MIN_LAW_R_SQUARED:g})"
    return ""


def _without_law(shape: tuple[int, ...], n_replicates: int, r_squared: float, reason: str) -> ScalingLaw:
    unknown, spaces = Interval(float("nan"), float("nan"), float("nan")), np.full(shape, np.nan)
    return ScalingLaw(
        floor=float("nan"),
        amplitude=float("nan"),
        turn=unknown,
        exponent=unknown,
        r_squared=r_squared,
        fitted=spaces,
        residuals=spaces,
        gain=spaces[1:],
        coverage=Band(spaces, spaces, spaces),
        coverage_replicates=np.full((n_replicates, *shape), np.nan),
        turning_depth=unknown,
        reason=reason,
    )
