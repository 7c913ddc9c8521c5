"""Other readings of how much each layer matters, to hold beside the gains."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

ScoreName = Literal["block_influence", "variability", "spectrum", "gradient_norm", "depth_prior"]
SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)
# Measured after all others: they take long, and no depth is decided by them.
SLOW_SCORES: tuple[ScoreName, ...] = ("spectrum", "gradient_norm")


@dataclass(frozen=True)
class LayerScore:
    """One score a layer: the larger, the more the layer is held to matter to finetuning.

    Attributes:
        name: which score.
        values: float64 (L,), none negative; NaN throughout where it could not be measured.
        replicates: float64 (B, L), the same over bootstrap replicates of the examples; None when the score is read off
            the weights alone, or off one pass that cannot be drawn again.
        sample: what it was measured on, in words ("256 examples", "the weights").
        reason: why it could not be measured, or "".
    """

    name: ScoreName
    values: npt.NDArray[np.float64]
    replicates: npt.NDArray[np.float64] | None
    sample: str
    reason: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or (self.values < 0).any():
            raise ValueError(f"values must be a vector without negative entries, found {self.values}")
        if self.replicates is not None and self.replicates.shape[1:] != self.values.shape:
            raise ValueError(f"replicates are {self.replicates.shape}, values {self.values.shape}")
        if not self.reason and not np.isfinite(self.values).all():
            raise ValueError(f"{self.name} is not finite and says no reason why")


def unmeasured(name: ScoreName, n_layers: int, sample: str, reason: str) -> LayerScore:
    """A score that could not be measured: NaN in every layer, and the reason."""
    return LayerScore(name, np.full(n_layers, np.nan), None, sample, reason)
