"""A display sample made by hand: two clusters of positions that drift from space to space."""

import numpy as np

from semfreeze_core.records.display import DisplaySample

SPACES, COMPONENTS = 4, 6


def two_clusters(n: int = 60, spaces: int = SPACES, seed: int = 0) -> DisplaySample:
    """Even positions in one cluster and odd ones in another, ten times as far away as either is wide.

    Two bases stand among the last space's states, one in each cluster.
    """
    rng = np.random.default_rng(seed)
    side = np.arange(n) % 2
    center = np.zeros((spaces, n, COMPONENTS))
    center[:, :, 0] = 10 * side
    center[:, :, 1] = 2 * np.arange(spaces)[:, None]
    coordinates = (center + rng.normal(size=center.shape)).astype(np.float16)
    return DisplaySample(
        coordinates=coordinates,
        variance_fraction=np.full(COMPONENTS, 1 / COMPONENTS, dtype=np.float32),
        basis_coordinates=coordinates[-1, :2],
        basis_ids=np.arange(2),
        deviation=np.zeros((1, n, spaces), dtype=np.float16),
        metrics=("semantic",),
        example=np.arange(n),
        order=np.zeros(n, dtype=np.int64),
        label_ids=side,
        predicted_ids=side,
        read_top=np.zeros((0, spaces, 5), dtype=np.int64),
        token_text={0: "a", 1: "b"},
        n_positions_total=n,
        seed=seed,
    )
