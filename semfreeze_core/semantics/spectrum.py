"""Spectrum: how much of each weight matrix stands out of what a random matrix of its size would show."""

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.scores import LayerScore, unmeasured
from semfreeze_core.sources.models.placement import parameter_values

_SMALLEST = 8  # rows or columns below which a matrix has no bulk of singular values
_MOST_WORK = 10**11  # multiplications, see `spectrum_work`; some ten seconds on two cores
_LEAST_WORK = 10**9  # below which computing again takes no longer than a file
_GRID = 20_000


@cache
def noise_quartiles(aspect: float) -> tuple[float, float]:
    """Lower and upper quartile of a noise matrix's singular values, as multiples of sigma sqrt(q).

    For p x q independent entries of deviation sigma, p <= q, they follow the Marchenko-Pastur law, in x = s / (sigma
    sqrt(q)): density sqrt((b^2 - x^2)(x^2 - a^2)) / (pi aspect x) between a = 1 - sqrt(aspect) and b = 1 +
    sqrt(aspect). Integrated on a grid; error below 1e-4.

    Args:
        aspect: p / q, in (0, 1].
    """
    low, high = 1 - math.sqrt(aspect), noise_edge(aspect)
    x = low + (high - low) * (np.arange(_GRID) + 0.5) / _GRID
    total = np.cumsum(np.sqrt((high**2 - x**2) * (x**2 - low**2)) / x)
    lower, upper = np.interp([0.25, 0.75], total / total[-1], x)
    return float(lower), float(upper)


def noise_edge(aspect: float) -> float:
    """Largest singular value of a large noise matrix over sigma sqrt(q): 1 + sqrt(p / q) (Marchenko-Pastur)."""
    return 1 + math.sqrt(aspect)


def signal_to_noise(singular: npt.NDArray[np.float64], aspect: float) -> float:
    """Sum of the singular values above the noise edge over the sum of those below, over the largest one.

    The noise's deviation is estimated from the interquartile range of the singular values, as the paper does, because
    signal hardly moves it. The paper divides that range by 1.349, a normal distribution's; singular values of noise
    follow another law, and the edge would then cut their own bulk, so we divide by that law's range. NaN when no value
    lies below the edge: nothing is noise then.

    Args:
        singular: all singular values, (p,).
        aspect: shorter over longer side of the matrix, in (0, 1].

    Source: Hartford et al. 2024 (Spectrum, arXiv 2406.06623), but for the divisor.
    """
    lower, upper = np.percentile(singular, [25, 75])
    noise_lower, noise_upper = noise_quartiles(aspect)
    edge = (upper - lower) / (noise_upper - noise_lower) * noise_edge(aspect)
    below = singular <= edge
    if not singular[below].sum() > 0:
        return float("nan")
    return float(singular[~below].sum() / singular[below].sum() / singular.max())


@torch.no_grad()
def singular_values(matrix: Tensor) -> npt.NDArray[np.float64]:
    """Singular values (p,), ascending, as roots of the eigenvalues of the smaller Gram matrix.

    In float64 on the CPU: the square in the Gram matrix takes half the digits. Much cheaper than a decomposition.

    Args:
        matrix: (m, n); p is the smaller of the two.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide.cpu().double()  # in this order: not every device has float64
    values: npt.NDArray[np.float64] = torch.linalg.eigvalsh(wide @ wide.T).clamp(min=0).sqrt().numpy()
    return values


def layer_matrices(layer: nn.Module) -> Iterator[Tensor]:
    """The layer's weight matrices, a stack of experts' one by one; those with a side below 8 left out."""
    for _, parameter in parameter_values(layer):
        if _has_matrices(parameter):
            yield from parameter.reshape(-1, *parameter.shape[-2:])


def _has_matrices(parameter: Tensor) -> bool:
    return parameter.ndim in (2, 3) and min(parameter.shape[-2:]) >= _SMALLEST


def spectrum_work(layers: nn.ModuleList) -> int:
    """Multiplications that all singular values take, roughly: p^2 (p + q) a matrix of p <= q rows and columns."""
    work = 0
    for parameter in filter(_has_matrices, layers.parameters()):
        p, q = sorted(parameter.shape[-2:])
        work += parameter.shape[:-2].numel() * p * p * (p + q)
    return work


def is_worth_keeping(layers: nn.ModuleList) -> bool:
    """Whether the spectrum takes long enough to compute that a later analysis is to find it in the cache."""
    return spectrum_work(layers) >= _LEAST_WORK


def spectrum_score(layers: nn.ModuleList, *, requested: bool, progress: Progress = silent) -> LayerScore:
    """Mean signal-to-noise ratio of each layer's matrices; weights alone, the data has no part in it.

    The paper ranks the matrices of one kind against each other over the layers, and trains the best of each; one mean
    a layer is ours.

    Args:
        layers: the transformer blocks.
        requested: measure it however long it takes; else only where that is short.
        progress: receives the layers done.
    """
    if not requested and spectrum_work(layers) > _MOST_WORK:
        return unmeasured("spectrum", len(layers), "the weights", "left out, as it takes long: add --scores spectrum")
    values = []
    for i, layer in enumerate(layers):
        progress(ProgressEvent("Computing the weights' spectrum", i, len(layers), "layers"))
        ratios = [
            signal_to_noise(singular_values(matrix), min(matrix.shape) / max(matrix.shape))
            for matrix in layer_matrices(layer)
        ]
        finite_ratios = [ratio for ratio in ratios if math.isfinite(ratio)]
        if not finite_ratios:
            return unmeasured("spectrum", len(layers), "the weights", f"no matrix of layer {i} has noise and signal")
        values.append(sum(finite_ratios) / len(finite_ratios))
    progress(ProgressEvent("Computing the weights' spectrum", len(layers), len(layers), "layers"))
    return LayerScore("spectrum", np.array(values), None, "the weights")
