"""What one training step, and a whole run, costs."""

from dataclasses import dataclass
from typing import Literal

from semfreeze_core.records.training import DepthSwitch

FlopStatus = Literal["exact", "upper bound"]
BytesStatus = Literal[
    "projected", "calibrated"
]  # from formulas, or counted on the user's own model; neither is measured


@dataclass(frozen=True)
class StepFlop:
    """FLOPs of one training step (a multiply-add is two), by what they are spent on."""

    forward: int
    activation_gradient: int
    weight_gradient: int
    recompute: int = 0

    @property
    def total(self) -> int:
        return self.forward + self.activation_gradient + self.weight_gradient + self.recompute


@dataclass(frozen=True)
class TrainingBytes:
    """Device memory in bytes, by part. `activations` is None when the layer's formula is not known."""

    weights: int
    gradients: int
    optimizer: int
    activations: int | None
    logits: int

    @property
    def total(self) -> int | None:
        """Sum of the tensors, not all alive at one moment, without overhead; None when a part is unknown."""
        return None if self.activations is None else self.known

    @property
    def known(self) -> int:
        """Sum of the parts that are known."""
        return self.weights + self.gradients + self.optimizer + (self.activations or 0) + self.logits


@dataclass(frozen=True)
class DepthCost:
    """The cost of one freeze depth.

    Attributes:
        freeze_depth: k.
        step_flop: the first, uncached step.
        flop: the whole run, cache pass included.
        bytes: device memory.
        relative_flop: flop over that of full finetuning with the same head and loss and no cache.
        relative_bytes: bytes.total over that of full finetuning, or None when unknown.
    """

    freeze_depth: int
    step_flop: StepFlop
    flop: int
    bytes: TrainingBytes
    relative_flop: float
    relative_bytes: float | None


Trainer = Literal["semfreeze train", "stock trainer"]


@dataclass(frozen=True)
class AlternativeCosts:
    """What the same finetune costs at every freeze depth in another trainer.

    Attributes:
        trainer: which.
        depths: entry k for freeze depth k.
        full: full finetuning there, which `depths` are relative to.
    """

    trainer: Trainer
    depths: tuple[DepthCost, ...]
    full: DepthCost


@dataclass(frozen=True)
class LookCost:
    """What it adds to decide by short trainings whether a finetune freezes deeper, in FLOPs.

    Attributes:
        lost: of one decision: the steps that are not gone on from, and both evaluations.
        never: of the whole finetune where no decision allows it.
    """

    lost: int
    never: int


@dataclass(frozen=True)
class ProgressiveCost:
    """The cost of a finetune that freezes deeper at a step, relative to full finetuning of as many steps.

    Attributes:
        switch: the two depths, and the step between them.
        whole: all steps; the first step is the wide phase's, the bytes are those of the phase that needs most.
        phases: the wide one, and the deep one with its own cache pass; their FLOPs add up to the whole's.
        steps: of each phase.
        looks: of a switch that short trainings decide; the rest is then the cost where the first one allows it, without
            what deciding adds.
    """

    switch: DepthSwitch
    whole: DepthCost
    phases: tuple[DepthCost, ...]
    steps: tuple[int, ...]
    looks: LookCost | None = None


@dataclass(frozen=True)
class CostTable:
    """The costs of all freeze depths, and those they are compared with.

    Attributes:
        depths: entry k for freeze depth k.
        full: full finetuning.
        lora: adapters on all layers and nothing else, or None when not asked for.
        lora_in_bf16: whether those adapters' base is in bfloat16 although the setup's weights are in float32.
        transformers_5: the same depths under checkpointing as transformers 5 turns it on by itself, or None without
            checkpointing.
        flop_status: whether the FLOPs are exact.
        bytes_status: where the activation bytes come from.
        alternative: the same depths in the other kind of trainer.
        progressive: a finetune that freezes deeper at a step, or None when not asked for.
    """

    depths: tuple[DepthCost, ...]
    full: DepthCost
    lora: DepthCost | None
    transformers_5: tuple[DepthCost, ...] | None
    flop_status: FlopStatus
    bytes_status: BytesStatus
    alternative: AlternativeCosts | None = None
    progressive: ProgressiveCost | None = None
    lora_in_bf16: bool = False
