"""What is put to the test, and everything about it that can be looked at before a model is loaded."""

from dataclasses import dataclass, field, replace

from semfreeze_core.cost import run_flop
from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.finetune.arm.arms import (
    DEFAULT_ARMS,
    DEFAULT_LORA,
    Arm,
    make_arms,
    steps_at_equal_compute,
)
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.arm.settings import ArmSettings, training_setup
from semfreeze_core.finetune.model.task_data import TaskData, read_task_data
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.defaults import MARGIN
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import Checkpointing, LoraSetup, Precision, TrainingSetup
from semfreeze_core.records.validation import Budget, ValidationSettings
from semfreeze_core.sources.data.fields import FieldMapping
from semfreeze_core.sources.models.causal_lm import measure_empty
from semfreeze_core.sources.models.checkpoint import load_tokenizer, open_checkpoint
from semfreeze_core.storage import digest

DEFAULT_STEPS, DEFAULT_TRAIN, DEFAULT_EVAL, DEFAULT_ACCURACY = 60, 480, 200, 100
WARMUP_FRACTION = 0.1
KEPT_PRECISION = (
    "The plan counts on frozen layers in {bits} bits; the arms here keep their precision. The finetune itself "
    "(semfreeze train) quantises them when the plan has LoRA."
)
MANY_PASSES = 4  # over the training examples; in a sweep on 82 of them losses rose again well before


@dataclass(frozen=True)
class ValidationRequest:
    """What to put to the test, and how.

    Attributes:
        plan: the plan.
        train, evaluation: task files, "hf:owner/name", or "sample:NAME".
        mapping: which fields hold what.
        max_length: longest example in tokens.
        add_eos: end completions with the tokenizer's EOS.
        arms: their names, as in Arm.
        steps: where all arms are read.
        arm_steps: steps of each arm by name, read at their ends alone; None leaves that to `steps` and `budget`.
        seeds: how many; a verdict needs 3.
        batch_size: examples a step.
        budget: what the verdict compares at; "steps" ends every arm there, "compute" goes on to full finetuning's FLOP.
        rates: learning rates by arm name or kind.
        lora: adapters of the LoRA arms.
        n_train, n_eval: examples drawn of each set.
        n_accuracy: eval items answered by generation.
        precision, checkpointing: as in TrainingSetup.
        prefix_cache: compute frozen layers once where that is possible.
        all_logits: compute the logits of every token, as stock trainers do.
        share_caches: leave boundary states on disk, where a deeper arm goes on from a nearer one's and other seeds find
            them. An arm's seconds then no longer hold all of its own cache pass; its FLOP always do.
        n_between: readings before the end, as in ArmSettings.
        model: where the model comes from; None is where the plan has it from.
    """

    plan: FreezePlan
    train: str
    evaluation: str
    mapping: FieldMapping = field(default_factory=FieldMapping)
    max_length: int = 2048
    add_eos: bool = True
    arms: tuple[str, ...] = DEFAULT_ARMS
    steps: int = DEFAULT_STEPS
    arm_steps: dict[str, int] | None = None
    seeds: int = 1
    batch_size: int = 8
    budget: Budget = "compute"
    rates: dict[str, float] | None = None
    lora: LoraSetup = DEFAULT_LORA
    n_train: int = DEFAULT_TRAIN
    n_eval: int = DEFAULT_EVAL
    n_accuracy: int = DEFAULT_ACCURACY
    precision: Precision = "float32"
    checkpointing: Checkpointing = "none"
    prefix_cache: bool = True
    all_logits: bool = False
    share_caches: bool = False
    n_between: int = 4
    model: ModelSource | None = None

    def __post_init__(self) -> None:
        least = {"steps": 1, "seeds": 1, "batch_size": 1, "n_train": 1, "n_eval": 2, "n_accuracy": 0, "n_between": 0}
        problems = [
            f"{name} must be at least {lowest}, found {getattr(self, name)}"
            for name, lowest in least.items()
            if getattr(self, name) < lowest
        ]
        if problems:
            raise InputError("; ".join(problems) + ".")


@dataclass(frozen=True)
class Prepared:
    """A validation before its first step: everything that can be wrong without a model has been looked at.

    Attributes:
        request: as asked.
        source: where the model comes from.
        shape: the counted model.
        data: both sets.
        arms: what is trained.
        settings: how, by arm; seed 0's.
        setups: what the cost model is asked, by arm, at equal steps.
        document: the settings as they are written down.
    """

    request: ValidationRequest
    source: ModelSource
    shape: ModelShape
    data: TaskData
    arms: tuple[Arm, ...]
    settings: dict[str, ArmSettings]
    setups: dict[str, TrainingSetup]
    document: ValidationSettings

    def relative_flop(self, arm: Arm) -> float:
        """FLOP of the arm at equal steps, cache pass included, over full finetuning's."""
        return run_flop(self.shape, self.setups[arm.name], arm.parts) / self.full_flop()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The data's, that arms are not quantised, and which meet examples so often as to learn them by heart."""
        n = len(self.data.train.tokenised)
        passes = {name: how.total_steps * how.batch_size / n for name, how in self.settings.items()}
        told = ", ".join(f"{name} {times:.1f}" for name, times in passes.items() if times > MANY_PASSES)
        bits = self.request.plan.cost.setup.frozen_bits
        warnings = (*self.data.warnings, *([KEPT_PRECISION.format(bits=bits)] if bits else []))
        if not told:
            return warnings
        return (
            *warnings,
            f"Arms that pass over the {n} training examples often: {told} times. They may learn them by heart, and at "
            "equal compute the cheaper an arm is, the more: look at the loss on its way, give more examples, or "
            "compare at equal steps.",
        )

    def full_flop(self) -> int:
        """FLOP of full finetuning at equal steps, with the same head."""
        full = make_arms(("full",), self.shape, None)[0]
        any_setup = next(iter(self.setups.values()))
        return run_flop(self.shape, replace(any_setup, prefix_cache=False, lora=None), full.parts)


def prepare(request: ValidationRequest, progress: Progress = silent) -> Prepared:
    """Look at everything that a validation needs, without loading weights.

    Raises:
        InputError: the model, the data, the arms or the settings cannot be used.
    """
    plan = request.plan
    source = request.model or ModelSource(source=plan.model.source, revision=plan.model.revision)
    checkpoint = open_checkpoint(
        source.source,
        revision=source.revision,
        trust_remote_code=source.trust_remote_code,
        allow_pickle=source.allow_pickle,
        progress=progress,
    )
    shape = measure_empty(checkpoint)
    if shape.n_layers != plan.n_layers:
        raise PlanError(f"The plan is for {plan.n_layers} layers, {source.source} has {shape.n_layers}.")
    if plan.trainable is not None and not plan.trainable.any:
        raise PlanError("The plan trains nothing: there is nothing to validate.")
    arms = make_arms(
        request.arms,
        shape,
        plan.trainable,
        lora=request.lora,
        planned_lora=plan.cost.setup.lora,
        rates=request.rates,
    )
    limit = min(request.max_length, shape.max_positions or request.max_length)
    data = read_task_data(
        request.train,
        request.evaluation,
        load_tokenizer(checkpoint),
        mapping=request.mapping,
        n_train=request.n_train,
        n_eval=request.n_eval,
        max_length=limit,
        add_eos=request.add_eos,
        progress=progress,
    )
    common = ArmSettings(
        seed=0,
        batch_size=request.batch_size,
        accumulation=1,
        steps=request.steps,
        compute_steps=None,
        warmup_steps=max(1, round(WARMUP_FRACTION * request.steps)),
        precision=request.precision,
        checkpointing=request.checkpointing,
        prefix_cache=request.prefix_cache,
        all_logits=request.all_logits,
        n_accuracy=request.n_accuracy,
        n_between=request.n_between,
    )
    setups = {
        arm.name: training_setup(
            arm, common, data.train.tokenised, cached=request.prefix_cache and arm.freeze_depth > 0
        )
        for arm in arms
    }
    prepared = Prepared(request, source, shape, data, arms, {}, setups, _document(request, source, data, arms, limit))
    own = request.arm_steps or {}
    settings = {
        arm.name: replace(common, steps=own[arm.name])
        if arm.name in own
        else replace(common, compute_steps=_compute_steps(prepared, arm))
        for arm in arms
    }
    return replace(prepared, settings=settings)


def _compute_steps(prepared: Prepared, arm: Arm) -> int | None:
    if prepared.request.budget == "steps":
        return None
    steps = steps_at_equal_compute(prepared.shape, arm, prepared.setups[arm.name], prepared.full_flop())
    return max(1, steps)


def _document(
    request: ValidationRequest, source: ModelSource, data: TaskData, arms: tuple[Arm, ...], limit: int
) -> ValidationSettings:
    return ValidationSettings(
        plan_digest=digest(request.plan.model_dump(mode="json", exclude={"provenance"})),
        freeze_depth=request.plan.freeze_depth,
        model=source.source,
        train=request.train,
        eval=request.evaluation,
        train_digest=data.train.digest,
        eval_digest=data.evaluation.digest,
        n_train=len(data.train.tokenised),
        n_eval=len(data.evaluation.tokenised),
        n_accuracy=request.n_accuracy,
        max_length=limit,
        arms=[arm.name for arm in arms],
        learning_rates={arm.name: arm.learning_rate for arm in arms},
        lora=request.lora,
        steps=request.steps,
        arm_steps=request.arm_steps,
        seeds=list(range(request.seeds)),
        batch_size=request.batch_size,
        warmup_steps=max(1, round(WARMUP_FRACTION * request.steps)),
        budget=request.budget,
        precision=request.precision,
        checkpointing=request.checkpointing,
        margin=MARGIN,
        device=source.device,
        all_logits=request.all_logits,
        prefix_cache=request.prefix_cache,
        n_between=request.n_between,
    )
