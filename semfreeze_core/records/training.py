"""What is trained, and how: the vocabulary that costs, plans, freezing and exporters share."""

from dataclasses import asdict, dataclass, replace
from math import isqrt
from typing import Any, Literal

from semfreeze_core.records.defaults import BATCH_SIZE, EPOCHS, LOOK_STEPS, PRECISION, SEQUENCE_LENGTH, TRAIN_EXAMPLES

Precision = Literal["float32", "bf16-autocast", "bf16"]
DtypeName = Literal["auto", "float32", "bfloat16"]  # what an analysis computes in
Optimizer = Literal["adamw", "adamw8bit", "sgd"]
LossKind = Literal["materialised", "supervised-only", "chunked", "chunked-loop", "fused"]
Checkpointing = Literal["none", "non-reentrant", "reentrant", "transformers-5"]
Batches = Literal["random", "by-length"]
FrozenBits = Literal[8, 4]

CHUNKED_LOSSES: tuple[LossKind, ...] = ("chunked", "chunked-loop")  # equal but for who computes them

# Other names that precisions go by, in lower case; each is printed by its first.
_PRECISION_NAMES: dict[Precision, tuple[str, ...]] = {
    "float32": ("float32", "fp32", "f32", "float", "32"),
    "bf16-autocast": ("bf16-autocast", "bfloat16-autocast", "bf16-mixed", "bf16_autocast", "bfloat16_autocast"),
    "bf16": ("bf16", "bfloat16", "bf16-true"),
}
ALL_LINEAR = "all-linear"
TRANSFORMERS_OPTIMIZERS: dict[Optimizer, str] = {"adamw": "adamw_torch", "adamw8bit": "adamw_bnb_8bit", "sgd": "sgd"}


def precision_named(text: str) -> Precision | None:
    """The precision that goes by a name, as people and other trainers spell it; None where there is none."""
    return next((p for p, names in _PRECISION_NAMES.items() if text.strip().lower() in names), None)


def dtype_named(text: str) -> DtypeName | None:
    """What an analysis computes in by a name, such as "auto" or "bf16"; None where there is no such."""
    if text.strip().lower() == "auto":
        return "auto"
    names: dict[Precision | None, DtypeName] = {"float32": "float32", "bf16": "bfloat16"}
    return names.get(precision_named(text))


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
    def is_suffix(self) -> bool:
        """Whether the trained layers are the last ones, or none: what a freeze depth can say."""
        return all(self.layers[self.freeze_depth :])

    @property
    def any(self) -> bool:
        """Whether anything at all is trained."""
        return any(self.layers) or self.embeddings or self.final_norm or self.head


@dataclass(frozen=True)
class DepthSwitch:
    """A finetune that freezes few layers at first, and more from a step on.

    Attributes:
        wide_depth: layers frozen in the first steps; 0 trains everything.
        deep_depth: layers frozen after them.
        step: after how many steps it freezes deeper.
        measured: whether short trainings decide if it does: after `step` steps, and where it does not, again after as
            many.
        trials: how often they decide at most; None as long as steps are left.
    """

    wide_depth: int
    deep_depth: int
    step: int
    measured: bool = False
    trials: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.wide_depth < self.deep_depth:
            raise ValueError(
                f"a later freeze depth must be greater than the first, found {self.wide_depth} and {self.deep_depth}"
            )
        if self.step < 1:
            raise ValueError(f"the freeze depth changes after at least 1 step, found {self.step}")
        if self.trials is not None and not (self.measured and self.trials >= 1):
            raise ValueError(f"only a measured switch has trials, at least 1, found {self.trials}")

    def looks(self, steps: int) -> tuple[int, ...]:
        """After which steps a measured switch is decided, as long as none is made; others are decided beforehand.

        Args:
            steps: of the whole finetune, some of which must be left after a look.
        """
        if not self.measured:
            return ()
        after = range(self.step, steps - LOOK_STEPS, self.step)[:: max(1, -(-LOOK_STEPS // self.step))]
        return tuple(after[: self.trials])


@dataclass(frozen=True)
class LoraSetup:
    """Low-rank adapters, W + B A with A (rank, inputs) and B (outputs, rank).

    Attributes:
        rank: r.
        targets: ends of the names of the matrices that get one ("q_proj"), or "all-linear" for every plain matrix.
    """

    rank: int
    targets: tuple[str, ...] = (ALL_LINEAR,)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, found {self.rank}")
        if not self.targets or not all(self.targets):
            raise ValueError(f"targets must name at least one matrix, found {self.targets}")


@dataclass(frozen=True)
class TrainingSetup:
    """How to train: the one shape that forms, flags, job files, arms and the cost model share.

    Its defaults are what `semfreeze train` does: the frozen prefix is computed once per example, and logits are
    computed for target tokens alone.

    Attributes:
        batch_size: examples per step.
        micro_batch_size: examples that go through the model at once; a step's gradients add up over its passes. None
            takes the whole batch.
        sequence_length: tokens of the longest example; an estimate takes every example to be that long, padding
            included, a finetune truncates longer ones.
        supervised_fraction: share of tokens with a loss, in (0, 1]; matters only to a loss of
            those tokens alone.
        train_examples: examples in the training set; one epoch is ceil(train_examples / batch_size) steps.
        steps: optimizer steps of the whole run.
        optimizer: "adamw", "adamw8bit" (its two states in 8 bits) or "sgd" (without momentum, so without states).
        precision: "float32"; "bf16-autocast" (float32 weights, matrices multiplied in bfloat16); or "bf16" (weights,
            gradients, states and activations in bfloat16).
        loss: "materialised" keeps the logits of every token, "supervised-only" those of tokens with a loss; "chunked"
            computes the latter a few at a time and keeps none, by a kernel where there is one, "chunked-loop" does so
            without; "fused" computes those of every token, as kernels for other trainers do.
        prefix_cache: whether boundary states are computed once per example and kept.
        prefix_off_device: whether what the cache replaces leaves the device; matters only with a cache.
        frozen_bits: 8 or 4 when the frozen layers' matrices are quantized, None when they keep the precision.
        lora: adapters that are trained in place of the trained layers' own weights, or None.
        checkpointing: "none"; "non-reentrant" or "reentrant" (torch's two ways of computing a layer again on the way
            back); or "transformers-5", non-reentrant with the embedding's output made to require a gradient.
        batches: "random"; or "by-length", of examples of like length, which need less padding. An estimate takes every
            example to be `sequence_length` long, so it matters only to a finetune.
    """

    batch_size: int = BATCH_SIZE
    sequence_length: int = SEQUENCE_LENGTH
    supervised_fraction: float = 1.0
    train_examples: int = TRAIN_EXAMPLES
    steps: int = EPOCHS * -(-TRAIN_EXAMPLES // BATCH_SIZE)
    optimizer: Optimizer = "adamw"
    precision: Precision = PRECISION
    loss: LossKind = "supervised-only"
    prefix_cache: bool = True
    prefix_off_device: bool = True
    frozen_bits: FrozenBits | None = None
    lora: LoraSetup | None = None
    checkpointing: Checkpointing = "none"
    batches: Batches = "random"
    micro_batch_size: int | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least 1, found {getattr(self, name)}"
            for name in ("batch_size", "sequence_length", "train_examples", "steps")
            if getattr(self, name) < 1
        ]
        if not problems and (wrong := micro_batch_problem(self.batch_size, self.micro_batch_size)) is not None:
            problems.append(f"micro_batch_size {wrong}")
        if not 0 < self.supervised_fraction <= 1:
            problems.append(f"supervised_fraction must be in (0, 1], found {self.supervised_fraction}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def examples_per_pass(self) -> int:
        """Examples that go through the model at once."""
        return self.micro_batch_size or self.batch_size

    @property
    def passes_per_step(self) -> int:
        """Forward and backward passes whose gradients one step adds up."""
        return self.batch_size // self.examples_per_pass

    def of_pass(self, examples: int | None = None) -> "TrainingSetup":
        """The setup with the examples of one pass as its batch.

        Args:
            examples: of the pass; None takes as many as its own passes have.
        """
        return replace(self, batch_size=examples or self.examples_per_pass, micro_batch_size=None)

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.sequence_length

    @property
    def head_tokens_per_step(self) -> int:
        """Tokens whose logits are computed in a step."""
        if self.loss not in ("supervised-only", *CHUNKED_LOSSES):
            return self.tokens_per_step
        return max(1, round(self.tokens_per_step * self.supervised_fraction))

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.train_examples // self.batch_size)

    def document(self) -> dict[str, Any]:
        """Its fields as digests and settings of finetunes keep them: without those that came later and are unset."""
        return without_unset(asdict(self))


# Fields that came after setups were first written, and what they are where nobody sets them.
_CAME_LATER: dict[str, Any] = {"batches": TrainingSetup.batches, "micro_batch_size": TrainingSetup.micro_batch_size}


def without_unset(setup: dict[str, Any]) -> dict[str, Any]:
    """A written setup without the fields that came later and are unset, as it was written before."""
    return {name: value for name, value in setup.items() if name not in _CAME_LATER or value != _CAME_LATER[name]}


def micro_batch_problem(batch_size: int, micro_batch_size: int | None) -> str | None:
    """What is wrong with a micro-batch size, as the rest of a sentence that begins with its name; None where it fits.

    Args:
        batch_size: examples per step.
        micro_batch_size: examples that go through the model at once; None is the whole batch.
    """
    if micro_batch_size is None:
        return None
    if not 1 <= micro_batch_size <= batch_size:
        return f"must be in 1..{batch_size} (the batch size), found {micro_batch_size}"
    if batch_size % micro_batch_size:
        smaller = largest_divisor(batch_size, micro_batch_size)
        return f"must divide the batch size of {batch_size}, found {micro_batch_size}: try {smaller}"
    return None


def largest_divisor(batch_size: int, limit: int) -> int:
    """The largest number up to a limit that divides a batch; 0 where the limit is below 1."""
    pairs = ((n, batch_size // n) for n in range(1, isqrt(batch_size) + 1) if batch_size % n == 0)
    return max((size for pair in pairs for size in pair if size <= limit), default=0)


def micro_batch_sizes(batch_size: int) -> tuple[int, ...]:
    """Micro-batch sizes that a batch can be divided into by itself: all of it, then powers of two, largest first."""
    powers = (1 << n for n in reversed(range(batch_size.bit_length())))
    return (batch_size, *(size for size in powers if size < batch_size and batch_size % size == 0))
