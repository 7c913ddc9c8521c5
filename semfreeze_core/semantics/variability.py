"""Hidden-state variability: how far apart classes lie in the states, against how wide each of them is."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from semfreeze_core.gains.bootstrap import resampling_weights
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.scores import LayerScore, unmeasured

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]

MAX_EXAMPLES, MAX_STATE_BYTES = 512, 256 * 2**20
REPLICATES = 100
# Drawing one example twice makes its class look narrower than it is; with fewer examples a class than this the
# replicates would be about other classes than the estimate is.
_LEAST_PER_CLASS = 8
_MOST_WORK = 3 * 10**9  # multiplications of all replicates: some seconds
_RANK_TOLERANCE = 1e-10  # eigenvalues below this share of the largest are rounding of the float32 states


def choose_classed(examples: Sequence[TokenizedExample], n_layers: int, width: int, seed: int) -> frozenset[int]:
    """Which examples to keep states of: those in classes of at least two, at most 512 and 256 MiB, a seeded draw."""
    counts = Counter(e.label for e in examples if e.label is not None)
    usable = [i for i, e in enumerate(examples) if e.label is not None and counts[e.label] >= 2]
    limit = min(MAX_EXAMPLES, MAX_STATE_BYTES // (n_layers * width * 4))
    return frozenset(np.random.default_rng((seed, 2)).permutation(usable)[:limit].tolist())


def variability_ratio(products: Floats, classes: Classes, weights: Floats) -> float:
    """trace(S_W S_B^+) / C: within-class over between-class variability; NaN when the class means coincide.

    S_W is the mean over classes of each one's covariance, S_B that of the class means around their mean. Unchanged
    when all states are turned, moved, or scaled by one factor; 0 when each class is one point. Computed from the
    products alone (ours): S_B has rank C - 1 at most, and its eigenvectors are combinations of the states.

    Args:
        products: x_i . x_j of the states, float64 (n, n).
        classes: class of each state, int64 (n,), 0..C-1.
        weights: how often each state counts, float64 (n,); classes without weight are left out.

    Source: Xie et al. 2022 (arXiv 2210.10041), equation 3.
    """
    one_hot = classes == np.unique(classes[weights > 0])[:, None]
    shares = one_hot * weights
    shares /= shares.sum(1, keepdims=True)
    n_classes = len(shares)
    centered = shares - shares.mean(0)
    eigenvalues, vectors = np.linalg.eigh(centered @ products @ centered.T / n_classes)
    nonzero = eigenvalues > max(_RANK_TOLERANCE * eigenvalues[-1], 0.0)
    if not nonzero.any():
        return float("nan")
    # Unit axes, as weights of states.
    axes = centered.T @ vectors[:, nonzero] / np.sqrt(n_classes * eigenvalues[nonzero])
    along = products @ axes
    means = shares @ along
    spread = sum(share @ (along - mean) ** 2 for share, mean in zip(shares, means, strict=True)) / n_classes
    return float((spread / eigenvalues[nonzero]).sum() / n_classes)


def variability_score(
    states: dict[int, npt.NDArray[np.float32]], examples: Sequence[TokenizedExample], n_layers: int, seed: int
) -> LayerScore:
    """The variability of each layer's output states, as that layer's score.

    Xie et al. call a layer well-specialized to a task when its variability is low, and choose by it which layers to
    adapt and where to put a classifier. That the variability itself says how much a layer still has to be trained is
    our interpretation. They average the states of all tokens, which steadies the pseudo-inverse; here it is the state
    that predicts the first supervised token, as that is where a decoder has to know the class.

    Args:
        states: raw states (L, d) of examples, by their index, as a layer leaves them.
        examples: all examples read.
        n_layers: L.
        seed: of the bootstrap.
    """
    counts = Counter(examples[i].label for i in states)
    chosen = [i for i in sorted(states) if counts[examples[i].label] >= 2]
    labels = [examples[i].label for i in chosen]
    names = sorted({label for label in labels if label is not None})
    sample = f"{len(chosen)} examples in {len(names)} classes, at their first supervised token"
    if len(names) < 2:
        reason = "it needs two classes of at least two examples each; name the field of the class with --label-field"
        return unmeasured("variability", n_layers, sample, reason)
    classes = np.array([names.index(str(label)) for label in labels], dtype=np.int64)
    n = len(chosen)
    draws = np.ones((1, n))
    work = REPLICATES * n_layers * n * n * len(names)
    if n >= _LEAST_PER_CLASS * len(names) and work <= _MOST_WORK:
        draws = np.concatenate([draws, resampling_weights(n, seed, REPLICATES)])
    table = np.empty((len(draws), n_layers))
    for layer in range(n_layers):
        block = np.stack([states[i][layer] for i in chosen]).astype(np.float64)
        block -= block.mean(0)
        products = block @ block.T
        table[:, layer] = [variability_ratio(products, classes, weights) for weights in draws]
    if not np.isfinite(table[0]).all():
        layer = int(np.argmin(np.isfinite(table[0])))
        return unmeasured("variability", n_layers, sample, f"all classes have the same mean state after layer {layer}")
    replicates = table[1:][np.isfinite(table[1:]).all(1)]
    return LayerScore("variability", table[0], replicates if len(replicates) else None, sample)
