"""What a model's layers were counted to keep for the backward pass, when no formula for them is needed."""

from dataclasses import dataclass
from typing import Literal

from semfreeze_core.records.training import Precision

LayerRole = Literal["trained", "traversed"]


@dataclass(frozen=True)
class TokenBytes:
    """Bytes kept for a sequence of s tokens: linear * s + quadratic * s^2 (eager attention's scores, masks)."""

    linear: float
    quadratic: float

    def of(self, batch_size: int, sequence_length: int) -> int:
        """Bytes of a batch."""
        return round(batch_size * sequence_length * (self.linear + self.quadratic * sequence_length))


@dataclass(frozen=True)
class CalibratedBytes:
    """Bytes each layer keeps, counted on the user's own model at two sequence lengths.

    Attributes:
        precision: of the passes that were counted; holds for no other.
        padding_mask: whether a padding mask was given.
        attention: transformers' name of the attention implementation.
        sequence_lengths: the two lengths in tokens, shorter first; between and beyond them is interpolation.
        trained: of each layer with its parameters and its input requiring gradients, length L.
        traversed: of each layer frozen, its input requiring a gradient, length L.
    """

    precision: Precision
    padding_mask: bool
    attention: str
    sequence_lengths: tuple[int, int]
    trained: tuple[TokenBytes, ...]
    traversed: tuple[TokenBytes, ...]

    def __post_init__(self) -> None:
        if len(self.trained) != len(self.traversed) or not self.trained:
            raise ValueError(f"expected both roles of each layer, found {len(self.trained)} and {len(self.traversed)}")
        if not 0 < self.sequence_lengths[0] < self.sequence_lengths[1]:
            raise ValueError(f"expected two rising sequence lengths, found {self.sequence_lengths}")

    def layer_bytes(self, layer: int, role: LayerRole, batch_size: int, sequence_length: int) -> int:
        """Bytes one layer keeps for a batch in one role."""
        counted = self.trained if role == "trained" else self.traversed
        return counted[layer].of(batch_size, sequence_length)
