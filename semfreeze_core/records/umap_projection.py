"""A UMAP of a run's display sample: all its spaces and bases in one flat layout. Never feeds a plan."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class UmapProjection:
    """Some positions of a display sample, at all their spaces, laid out together with the bases.

    Neither axis has a unit or a meaning, and only who is near whom was laid out: distances between far-apart groups
    tell little. S = L + 1 spaces, p positions, m bases.

    Attributes:
        coordinates: of each position at each space, float32 (S, p, 2), finite.
        positions: which of the display sample's positions they are, rising, int64 (p,).
        basis_coordinates: of the semantic basis of each label token, float32 (m, 2), finite.
        seed: of the layout.
        n_neighbors: how many nearest points each point was held together with, itself counted.
        n_components: principal components that distances were taken in.
        seconds: wall time that it took.
    """

    coordinates: npt.NDArray[np.float32]
    positions: npt.NDArray[np.int64]
    basis_coordinates: npt.NDArray[np.float32]
    seed: int
    n_neighbors: int
    n_components: int
    seconds: float

    def __post_init__(self) -> None:
        if self.coordinates.ndim != 3 or self.coordinates.shape[1:] != (len(self.positions), 2):
            raise ValueError(f"coordinates are {self.coordinates.shape}, expected (S, {len(self.positions)}, 2)")
        if self.basis_coordinates.ndim != 2 or self.basis_coordinates.shape[1] != 2:
            raise ValueError(f"basis_coordinates are {self.basis_coordinates.shape}, expected (m, 2)")
        if self.positions.ndim != 1 or (np.diff(self.positions) <= 0).any() or (self.positions < 0).any():
            raise ValueError("positions are no rising indices")
        if not (np.isfinite(self.coordinates).all() and np.isfinite(self.basis_coordinates).all()):
            raise ValueError("coordinates are not all finite")

    @property
    def n_points(self) -> int:
        """Points laid out: every position at every space, and every basis."""
        spaces, positions, _ = self.coordinates.shape
        return int(spaces * positions) + len(self.basis_coordinates)
