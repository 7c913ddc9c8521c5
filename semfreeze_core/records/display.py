"""The display sample: enough of the latent spaces for a dashboard to draw without the model. Never feeds a plan."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class DisplaySample:
    """A seeded sample of positions, projected. S = L + 1 spaces, n positions, c components (at most 64).

    States and bases are scaled to unit length before one joint PCA, because the paper's deviation is a cosine.

    Attributes:
        coordinates: of the normalized states, float16 (S, n, c).
        variance_fraction: share of all variance on each component, float32 (c,).
        basis_coordinates: of the semantic basis of each label token, float16 (m, c).
        basis_ids: the label tokens, int64 (m,).
        deviation: per metric, of every position at every space, float16 (M, n, S).
        metrics: names along the first axis of `deviation`.
        example: index of the example in the run's table, int64 (n,).
        order: how manieth of the example's read positions it is, int64 (n,).
        label_ids: token to be predicted, int64 (n,).
        predicted_ids: token the model itself would say, int64 (n,).
        read_top: top-5 tokens read at each space by the head, int64 (r, S, 5), for the first r positions.
        token_text: text of every token id named above.
        n_positions_total: positions of the run the sample was drawn from.
        seed: of the draw.
    """

    coordinates: npt.NDArray[np.float16]
    variance_fraction: npt.NDArray[np.float32]
    basis_coordinates: npt.NDArray[np.float16]
    basis_ids: npt.NDArray[np.int64]
    deviation: npt.NDArray[np.float16]
    metrics: tuple[str, ...]
    example: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    label_ids: npt.NDArray[np.int64]
    predicted_ids: npt.NDArray[np.int64]
    read_top: npt.NDArray[np.int64]
    token_text: dict[int, str]
    n_positions_total: int
    seed: int

    def __post_init__(self) -> None:
        n = self.coordinates.shape[1]
        for name in ("example", "order", "label_ids", "predicted_ids"):
            if getattr(self, name).shape != (n,):
                raise ValueError(f"{name} is {getattr(self, name).shape}, expected ({n},)")
        if self.deviation.shape != (len(self.metrics), n, self.coordinates.shape[0]):
            raise ValueError(f"deviation is {self.deviation.shape}")

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the model, forced along the true text, says the label at each position, (n,)."""
        right: npt.NDArray[np.bool_] = self.predicted_ids == self.label_ids
        return right


def spread(n: int, most: int) -> npt.NDArray[np.int64]:
    """Which of n things are taken: all, or `most` of them spread evenly over all, never the first ones.

    Returns:
        rising indices, int64.
    """
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).astype(np.int64))
