"""Positions of a display sample as points that move through the latent spaces, in one projection or another."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from semfreeze_core.records.display import DisplaySample, spread
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.wording.numbers import percent

MOST_DRAWN = 4000  # more points than that, and playing them stutters


@dataclass(frozen=True)
class ProjectedPoints:
    """What a projection draws: p positions at S spaces and m target token directions, in D dimensions (2 or 3).

    Attributes:
        positions: which of the display sample's positions they are, rising, int64 (p,).
        coordinates: of each position at each space, float32 (S, p, D).
        target_directions: of each target token's direction, float32 (m, D).
        axes: title of each axis.
        trajectory_opacity: opacity of a position's trajectory; faintly where it leaps between far-apart groups.
        key: what distinguishes it from every other projection of the same run.
    """

    positions: npt.NDArray[np.int64]
    coordinates: npt.NDArray[np.float32]
    target_directions: npt.NDArray[np.float32]
    axes: tuple[str, ...]
    trajectory_opacity: float
    key: tuple[str, int, int]

    @property
    def dimensions(self) -> int:
        return len(self.axes)

    def trajectories(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Coordinates of some of its positions, given as the sample's, at every space, (S, q, D)."""
        chosen: npt.NDArray[np.float32] = self.coordinates[:, np.searchsorted(self.positions, positions)]
        return chosen

    def space_of(self, position: int, x: float, y: float) -> int:
        """The latent space in which a position is drawn at (x, y)."""
        trajectory = self.trajectories(np.array([position]))[:, 0, :2].astype(np.float64)
        return int(np.argmin(((trajectory - (x, y)) ** 2).sum(axis=1)))

    def subset(self, size: int) -> tuple[int, ...]:
        """At most `size` of its positions, spread evenly over it."""
        return tuple(self.positions[spread(len(self.positions), size)].tolist()) if size else ()


def pca_points(display: DisplaySample, dimensions: int) -> ProjectedPoints:
    """The sample's own principal components."""
    positions = spread(len(display.example), MOST_DRAWN)
    return ProjectedPoints(
        positions,
        display.coordinates[:, positions, :dimensions].astype(np.float32),
        display.basis_coordinates[:, :dimensions].astype(np.float32),
        tuple(
            f"component {i + 1}, {percent(float(display.variance_fraction[i]))} of variance" for i in range(dimensions)
        ),
        0.3,
        ("pca", dimensions, 0),
    )


def umap_points(projection: UmapProjection) -> ProjectedPoints:
    """A UMAP of the sample, which is flat."""
    return ProjectedPoints(
        projection.positions,
        projection.coordinates,
        projection.basis_coordinates,
        ("UMAP 1, no unit", "UMAP 2, no unit"),
        0.15,
        ("umap", projection.seed, projection.n_neighbors),
    )
