"""What a reading of a model on examples gives: transition traces, reduced to one row an example."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TransitionTrace:
    """One deviation's way through the latent spaces, averaged over each example's supervised positions.

    Every matrix is float32 (n_examples, L + 1); the unit is that of the metric (none for cosines, nats for lens_loss).

    Attributes:
        metric: "semantic", "logit_z" or "lens_loss".
        deviation: from the label.
        null: its exact expectation when labels are permuted over all supervised positions.
        first_deviation: at the first supervised token alone.
        first_null: the null at the first supervised token.
        later_deviation: at the other supervised tokens; NaN for examples with a single one.
        later_null: the null at the other supervised tokens.
    """

    metric: str
    deviation: Matrix
    null: Matrix
    first_deviation: Matrix
    first_null: Matrix
    later_deviation: Matrix
    later_null: Matrix

    def __post_init__(self) -> None:
        for name in ("null", "first_deviation", "first_null", "later_deviation", "later_null"):
            if getattr(self, name).shape != self.deviation.shape:
                raise ValueError(f"{name} is {getattr(self, name).shape}, deviation {self.deviation.shape}")
        if self.deviation.ndim != 2 or not np.isfinite(self.deviation).all():
            raise ValueError("deviation must be a finite matrix (n_examples, n_layers + 1)")

    @property
    def unit(self) -> str:
        return "nat" if self.metric == "lens_loss" else "1 - cosine"

    @property
    def advantage(self) -> Matrix:
        """null - deviation: how much nearer a state is to its own label than to a random one."""
        return self.null - self.deviation


@dataclass(frozen=True)
class SwappedPairs:
    """Deviations of the same prompts with their own and with another example's completion, at every space.

    Attributes:
        metric: as in TransitionTrace.
        own: float32 (n_pairs, L + 1).
        swapped: float32 (n_pairs, L + 1).
        reason: why there are too few pairs to say anything, or "".
    """

    metric: str
    own: Matrix
    swapped: Matrix
    reason: str = ""

    def __post_init__(self) -> None:
        if self.own.shape != self.swapped.shape:
            raise ValueError(f"own is {self.own.shape}, swapped {self.swapped.shape}")
