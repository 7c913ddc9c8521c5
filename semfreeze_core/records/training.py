"""What is trained, and how: the vocabulary that costs, plans, freezing and exporters share."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bfloat16"]
Optimizer = Literal["adamw"]
LossKind = Literal["materialised", "supervised-only"]


@dataclass(frozen=True)
class TrainableParts:
    """Which parts of a model are trained.

    Attributes:
        layers: one flag a layer, input side first.
        embeddings: token and position embeddings.
        final_norm: the norm between the last layer and the head.
        head: the output matrix.
    """

    layers: tuple[bool, ...]
    embeddings: bool
    final_norm: bool
    head: bool

    @property
    def freeze_depth(self) -> int:
        """Number of layers frozen from the input side on, up to the first trained one (L when none is trained)."""
        return next((i for i, trained in enumerate(self.layers) if trained), len(self.layers))

    @property
    def any(self) -> bool:
        """Whether anything at all is trained."""
        return any(self.layers) or self.embeddings or self.final_norm or self.head


@dataclass(frozen=True)
class TrainingSetup:
    """The finetune whose price is asked for.

    Attributes:
        batch_size: examples a step.
        sequence_length: tokens an example, padding included.
        supervised_fraction: share of tokens with a loss, in (0, 1]; matters only to a supervised-only loss.
        train_examples: examples in the training set; one epoch is ceil(train_examples / batch_size) steps.
        steps: optimiser steps of the whole run.
        optimizer: "adamw".
        precision: type of weights, gradients, optimiser states and activations.
        loss: "materialised" keeps the logits of every token, "supervised-only" those with a loss.
        prefix_cache: whether boundary states are computed once an example and kept.
    """

    batch_size: int = 8
    sequence_length: int = 512
    supervised_fraction: float = 1.0
    train_examples: int = 1000
    steps: int = 375
    optimizer: Optimizer = "adamw"
    precision: Precision = "float32"
    loss: LossKind = "materialised"
    prefix_cache: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least 1, found {getattr(self, name)}"
            for name in ("batch_size", "sequence_length", "train_examples", "steps")
            if getattr(self, name) < 1
        ]
        if not 0 < self.supervised_fraction <= 1:
            problems.append(f"supervised_fraction must be in (0, 1], found {self.supervised_fraction}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.sequence_length

    @property
    def head_tokens_per_step(self) -> int:
        """Tokens whose logits are computed in a step."""
        if self.loss == "materialised":
            return self.tokens_per_step
        return max(1, round(self.tokens_per_step * self.supervised_fraction))

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.train_examples // self.batch_size)
