"""What is validated, and everything about it that can be checked before a model is loaded."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from semfreeze_core.cost import run_flop
from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.finetune.arm.arguments import setup_at_lengths
from semfreeze_core.finetune.arm.arms import DEFAULT_LORA, Arm, make_arms, steps_at_equal_compute
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.arm.settings import ArmSettings, refuse_untrainable
from semfreeze_core.finetune.model.task_data import TaskData, read_task_data
from semfreeze_core.gains.rates import compared_steps, starting_rate
from semfreeze_core.plan.document import FreezePlan, plan_digests, require_recommendation
from semfreeze_core.processes import refuse_launcher
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.defaults import (
    ACCURACY_ROWS,
    DYNAMIC,
    EVAL_ROWS,
    MANY_EPOCHS,
    MARGIN,
    MAX_LENGTH,
    MIN_RATE_STEPS,
    PROGRESSIVE,
    SEEDS,
    STEPS,
    TRAIN_ROWS,
    VARIANTS,
    WARMUP_FRACTION,
)
from semfreeze_core.records.example_depths import ExampleDepths
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.options import flag_of
from semfreeze_core.records.rates import ComparedOn
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from semfreeze_core.records.validation import VALIDATION_SOURCES, Budget, ValidationSettings
from semfreeze_core.sources.models.causal_lm import measure_empty, require_rows_of
from semfreeze_core.sources.models.loading import load_tokenizer
from semfreeze_core.storage import kept_source

UNQUANTIZED_WARNING = (
    "The plan's estimate has frozen layers in {bits} bits; the variants here keep their precision. `semfreeze train` "
    "quantizes them when the plan has LoRA."
)
VALIDATION_SETUP = TrainingSetup(sequence_length=MAX_LENGTH, train_examples=TRAIN_ROWS, steps=STEPS)


@dataclass(frozen=True)
class ValidationRequest:
    """What to validate, and how.

    Attributes:
        plan: the plan.
        train, evaluation: task files, "hf:owner/name", or "sample:NAME".
        setup: how every variant trains: `steps` is where all are evaluated, `train_examples` are drawn, longer examples
            than `sequence_length` are truncated; its adapters do not matter.
        mapping: which fields hold what.
        add_eos: end completions with the tokenizer's EOS.
        arms: names of the variants, as in Arm.
        arm_steps: steps of each variant by name, evaluated at its end alone; None leaves that to `setup` and `match`.
        seeds: how many; a verdict needs MIN_SEEDS.
        match: what the verdict compares at: "steps" ends every variant there, "compute" trains on until a variant has
            taken full finetuning's FLOPs.
        rates: learning rates by variant or kind.
        search_rates: search a rate for every variant that `rates` does not give one; else it is its kind's default.
        lora: adapters of the LoRA variants.
        n_eval: eval examples drawn.
        n_accuracy: eval examples answered by generation.
        share_caches: leave boundary states on disk, where a deeper variant continues from a nearer one's and other
            seeds find them. A variant's seconds then no longer hold all of its own cache pass; its FLOPs always do.
        n_between: evaluations before the end, as in ArmSettings.
        rate_steps: steps after which learning rates are compared, at most `setup.steps`; None takes `compared_steps`.
        chained_search: search rates at little cost, one variant after the other: rates are compared on the training's
            own batches, and each variant's search begins at the rate of the one before it.
        keep_checkpoints: leave each variant's last step beside its result, so that a training can go on from it.
        model: where the model comes from; None is the plan's source.
        example_depths: of the training examples, where the variant `dynamic` is named.
    """

    plan: FreezePlan
    train: str
    evaluation: str
    setup: TrainingSetup = VALIDATION_SETUP
    mapping: FieldMapping = field(default_factory=FieldMapping)
    add_eos: bool = True
    arms: tuple[str, ...] = VARIANTS
    arm_steps: dict[str, int] | None = None
    seeds: int = SEEDS
    match: Budget = "compute"
    rates: dict[str, float] | None = None
    search_rates: bool = True
    lora: LoraSetup = DEFAULT_LORA
    n_eval: int = EVAL_ROWS
    n_accuracy: int = ACCURACY_ROWS
    share_caches: bool = False
    n_between: int = 4
    rate_steps: int | None = None
    chained_search: bool = False
    keep_checkpoints: bool = False
    model: ModelSource | None = None
    example_depths: ExampleDepths | None = None

    def __post_init__(self) -> None:
        least = {"seeds": 1, "n_eval": 2, "n_accuracy": 0, "n_between": 0}
        problems = [
            f"{flag_of(name)} must be at least {lowest}, found {getattr(self, name)}"
            for name, lowest in least.items()
            if getattr(self, name) < lowest
        ]
        if problems:
            raise InputError("; ".join(problems) + ".")
        refuse_launcher("comparing variants")
        refuse_untrainable(self.setup)


@dataclass(frozen=True)
class Prepared:
    """A validation before its first step: everything that can be checked without a model has been checked.

    Attributes:
        request: as given.
        source: where the model comes from.
        shape: the counted model.
        data: both sets.
        arms: what is trained.
        settings: how, by arm; seed 0's.
        setups: for the cost model, by arm, at the same steps.
        document: the settings as they are saved.
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
        """FLOPs of the arm at the same steps, cache pass included, divided by full finetuning's."""
        return arm.flop(self.shape, self.setups[arm.name]) / self.full_flop()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The data's; that variants are not quantized; and which repeat the examples so often that they may overfit."""
        n = len(self.data.train.tokenized)
        passes = {name: how.total_steps * how.setup.batch_size / n for name, how in self.settings.items()}
        many = ", ".join(f"{name} {times:.1f}" for name, times in passes.items() if times > MANY_EPOCHS)
        bits = self.request.plan.cost.setup.frozen_bits
        warnings = (*self.data.warnings, *([UNQUANTIZED_WARNING.format(bits=bits)] if bits else []))
        if not many:
            return warnings
        return (
            *warnings,
            f"Some variants repeat the {n} training examples many times (epochs: {many}) and may overfit, cheap "
            "variants most at the same compute. Check the loss curves, add examples, or compare at the same steps.",
        )

    def full_flop(self) -> int:
        """FLOPs of full finetuning at the same steps, with the same head."""
        full = make_arms(("full",), self.shape, None)[0]
        any_setup = next(iter(self.setups.values()))
        return run_flop(self.shape, replace(any_setup, prefix_cache=False, lora=None), full.parts)


def prepare(request: ValidationRequest, progress: Progress = silent) -> Prepared:
    """Check everything that a validation needs, without loading weights.

    Raises:
        InputError: the model, the data, the arms or the settings cannot be used.
    """
    plan = request.plan
    if any(name.startswith("planned") or name == PROGRESSIVE for name in request.arms):
        require_recommendation(plan, or_else="or compare other variants, such as --arms full,depth:K")
    source = request.model or ModelSource.of(plan.model)
    checkpoint = source.open(progress)
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
        planned_switch=plan.switch,
        rates=request.rates,
        steps=request.setup.steps,
        example_depths=None if request.example_depths is None else request.example_depths.depths,
    )
    searched = {arm.name for arm in arms if request.search_rates and not arm.has_rate(request.rates or {})}
    arms = tuple(
        replace(arm, learning_rate=starting_rate(shape.d_model, arm.kind)) if arm.name in searched else arm
        for arm in arms
    )
    longest = min(request.setup.sequence_length, shape.max_positions or request.setup.sequence_length)
    setup = replace(request.setup, sequence_length=longest, lora=None, frozen_bits=None)
    tokenizer = load_tokenizer(checkpoint)
    require_rows_of(checkpoint, tokenizer, shape)
    data = read_task_data(
        request.train,
        request.evaluation,
        tokenizer,
        mapping=request.mapping,
        n_train=setup.train_examples,
        n_eval=request.n_eval,
        max_length=longest,
        add_eos=request.add_eos,
        progress=progress,
    )
    if DYNAMIC in request.arms and request.example_depths is not None:
        _require_own_depths(request.example_depths, data, plan)
    settings = {
        arm.name: ArmSettings(
            setup=replace(setup, lora=arm.lora),
            seed=0,
            warmup_steps=_warmup_steps(request, setup, [arm for arm in arms if arm.name in searched]),
            n_accuracy=request.n_accuracy,
            n_between=request.n_between,
        )
        for arm in arms
    }
    setups = {
        arm.name: setup_at_lengths(
            settings[arm.name],
            data.train.tokenized,
            cached=setup.prefix_cache and (arm.freeze_depth > 0 or arm.switch is not None),
        )
        for arm in arms
    }
    document = _document(request, setup, source, data, arms, [arm for arm in arms if arm.name in searched])
    prepared = Prepared(request, source, shape, data, arms, settings, setups, document)
    prepared = replace(prepared, settings={arm.name: _to_its_end(prepared, arm) for arm in arms})
    return replace(prepared, settings={arm.name: _searching(prepared, arm) for arm in arms})


def _require_own_depths(chosen: ExampleDepths, data: TaskData, plan: FreezePlan) -> None:
    """Refuse depths that are of other examples, or of another model.

    Raises:
        InputError: they are.
    """
    theirs = (chosen.train_digest, len(chosen.depths), chosen.structure_digest, chosen.weights_digest)
    ours = (data.train.digest, len(data.train.tokenized), plan.model.structure_digest, plan.model.weights_digest)
    if theirs != ours:
        raise InputError(
            f"variant {DYNAMIC}: the freeze depths are of other training examples or of another model. Measure "
            "them for this validation, with semfreeze_core.example_depths.with_example_depths."
        )


def is_same_validation(written: ValidationSettings, prepared: Prepared) -> bool:
    """Whether a folder's settings are those of a validation, wherever its plan, model and data are now.

    The model is checked against the plan by its weights, the data by its digests.
    """
    ours = prepared.document
    places = {name: getattr(ours, name) for name in VALIDATION_SOURCES}
    if written.plan_digest in plan_digests(prepared.request.plan):
        places["plan_digest"] = ours.plan_digest
    return written.model_copy(update=places) == ours


def with_kept_sources(settings: ValidationSettings, folder: Path) -> ValidationSettings:
    """The settings as documents in `folder` hold them: what may be moved with it by paths from there."""
    return settings.model_copy(
        update={name: kept_source(getattr(settings, name), folder) for name in VALIDATION_SOURCES}
    )


def _warmup_steps(request: ValidationRequest, setup: TrainingSetup, searched: Collection[Arm]) -> int:
    """The same for all variants; over by the first comparison of a search, which is not to compare warm-ups."""
    share = round(WARMUP_FRACTION * setup.steps)
    compared = (request.rate_steps or compared_steps(setup.steps)) if searched else None
    if compared is None:
        return max(1, share)
    first = min([compared, *(arm.switch.step for arm in searched if arm.switch is not None)])
    return max(1, min(share, first // 4))


def _to_its_end(prepared: Prepared, arm: Arm) -> ArmSettings:
    """The arm's settings with the steps it makes: its own, or those for the same compute where that is compared."""
    settings, arm_steps = prepared.settings[arm.name], prepared.request.arm_steps or {}
    if arm.name in arm_steps:
        return replace(settings, setup=replace(settings.setup, steps=arm_steps[arm.name]))
    return replace(settings, compute_steps=_compute_steps(prepared, arm))


def _searching(prepared: Prepared, arm: Arm) -> ArmSettings:
    """The arm's settings with the search of its rate, where it has one.

    Raises:
        InputError: it trains for too few steps to compare rates.
    """
    settings = prepared.settings[arm.name]
    if arm.name not in prepared.document.searched:
        return settings
    fewest = min(settings.setup.steps, settings.compute_steps or settings.setup.steps)
    compared = prepared.request.rate_steps or compared_steps(fewest)
    if compared is None:
        raise InputError(
            f"{arm.name} trains for {fewest} steps, too few to compare learning rates: make --steps at least "
            f"{3 * MIN_RATE_STEPS}, or give its rate, as in --lr {arm.name}=1e-4."
        )
    if arm.switch is not None:
        compared = min(compared, arm.switch.step)  # a trial that froze deeper could not be gone on from
    if arm.switch is not None and compared < MIN_RATE_STEPS:
        raise InputError(
            f"{arm.name} freezes deeper after step {compared}, too early to compare learning rates: let it freeze "
            f"deeper after step {MIN_RATE_STEPS} or later, or give its rate, as in --lr {arm.name}=1e-4."
        )
    on: ComparedOn = "training batches" if prepared.request.chained_search else "eval examples"
    return replace(settings, rate_steps=compared, rates_on=on)


def _compute_steps(prepared: Prepared, arm: Arm) -> int | None:
    if prepared.request.match == "steps":
        return None
    steps = steps_at_equal_compute(prepared.shape, arm, prepared.setups[arm.name], prepared.full_flop())
    return max(1, steps)


def _document(
    request: ValidationRequest,
    setup: TrainingSetup,
    source: ModelSource,
    data: TaskData,
    arms: tuple[Arm, ...],
    searched: list[Arm],
) -> ValidationSettings:
    return ValidationSettings(
        plan_digest=plan_digests(request.plan)[0],
        freeze_depth=request.plan.freeze_depth,
        model=source.source,
        train=request.train,
        eval=request.evaluation,
        train_digest=data.train.digest,
        eval_digest=data.evaluation.digest,
        n_train=len(data.train.tokenized),
        n_eval=len(data.evaluation.tokenized),
        n_accuracy=request.n_accuracy,
        setup=setup,
        arms=[arm.name for arm in arms],
        learning_rates={arm.name: arm.learning_rate for arm in arms},
        searched=[arm.name for arm in searched],
        lora=request.lora,
        arm_steps=request.arm_steps,
        seeds=list(range(request.seeds)),
        warmup_steps=_warmup_steps(request, setup, searched),
        budget=request.match,
        margin=MARGIN,
        device=source.device,
        n_between=request.n_between,
        rate_steps=request.rate_steps,
    )
