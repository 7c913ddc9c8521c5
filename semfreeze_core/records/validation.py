"""A validation: what short real finetunes of several arms gave, and the verdict on the planned one."""

from typing import Any, Literal

from pydantic import Field, computed_field, model_validator

from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.model import ModelIdentity
from semfreeze_core.records.provenance import Document, Measured, Provenance
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.training import DepthSwitch, LoraSetup, TrainableParts, TrainingSetup

VALIDATION_SCHEMA_VERSION = 1
REPORT, LIVE = "report.json", ".live"
VALIDATION_SOURCES = ("model", "train", "eval")  # fields of ValidationSettings that may name files, which may be moved

# Fields of ValidationSettings.setup that documents have beside it too.
_BESIDE_SETUP = ("steps", "batch_size", "max_length", "precision", "checkpointing", "prefix_cache", "all_logits")

Budget = Literal["steps", "compute"]
Mark = Literal["start", "between", "checkpoint", "steps", "compute"]
FailureCause = Literal["resources", "refused", "diverged", "unlearned"]
PeakKind = Literal["cuda allocator", "process resident, less its baseline after import"]


class EvalPoint(Document):
    """One reading of an arm on the eval items.

    `seconds` is training time up to here, cache pass included, evaluation left out. Losses are means over items of
    their mean supervised loss, nats: `item_losses` by item and `curve_loss` over the first of them at every reading;
    `loss` over all of them at the marks alone, and there too `answers`, what was generated for the baseline's `shown`
    items. Between the marks only the first items are read; null in reports from before they were kept.
    """

    step: int
    seconds: float
    flop: int
    curve_loss: Measured
    loss: float | None
    marks: list[Mark]
    item_losses: list[Measured] | None
    accuracy: float | None
    answers: list[str] | None = None


class PeakEntry(Document):
    """Peak memory of training, in bytes; `predicted` is the cost model's sum of parts, null where it is unknown."""

    measured: int
    predicted: int | None
    kind: PeakKind
    saved_tensors: int
    saved_tensors_predicted: int | None


class FlopEntry(Document):
    """FLOP of the whole run: `counted` on the batches as they were (torch's counter on the first, then by its shapes),
    `predicted` from mean lengths before the start."""

    counted: int
    predicted: int


class ArmRun(Document):
    """One arm with one seed.

    `reason` describes a failure, `cause` is its kind: "resources" (memory or disk), "refused" (it cannot be trained
    like this), "diverged" (its loss was not a number) or "unlearned" (no learning rate lowered its loss). `rate_search`
    is null where the rate was given. With a `switch`, `trained` and `trainable_parameters` are those before it, and
    `switch_cache_seconds` the time of the pass that fills the cache after it, of which `cache_seconds` has no part.
    `example_depths` are the freeze depths of the training examples in their order, where batches froze their own;
    `trained` is then what a batch of the least trains, and FLOPs hold the pass that chose them. Documents of 0.1.0 have
    none of `cause`, `rate_search`, `switch` and `example_depths`.
    """

    arm: str
    seed: int
    status: Literal["done", "failed"]
    reason: str
    cause: FailureCause | None = None
    trained: TrainableParts
    lora: LoraSetup | None
    learning_rate: float
    trainable_parameters: int
    steps: int
    micro_batch_size: int
    accumulation: int
    prefix_cache: bool
    notes: list[str]
    train_losses: list[Measured]
    step_seconds: list[float]
    cache_seconds: float
    cache_bytes: int
    points: list[EvalPoint]
    flop: FlopEntry
    peak_bytes: PeakEntry
    rate_search: RateSearch | None = None
    switch: DepthSwitch | None = None
    switch_cache_seconds: float = 0.0
    example_depths: tuple[int, ...] | None = None

    @property
    def retried(self) -> bool:
        """Whether it failed and the same command trains it again: all but an arm that its own losses ended.

        More memory or disk, or another try, may give it a result; the losses would be the same.
        """
        if self.status == "done" or self.cause in ("diverged", "unlearned"):
            return False
        return self.cause is not None or self.steps == 0  # 0.1.0 wrote no cause, and steps only of diverged arms


class LiveArm(Document):
    """An arm while it trains: its readings so far, and how far it is.

    `seconds` is training time so far, cache passes included, evaluation left out; `cache_seconds` that of the pass
    before the first step, `switch_cache_seconds` that of the one where it freezes deeper; `train_loss` the last step's;
    `peak_bytes` the most memory so far.
    """

    arm: str
    seed: int
    step: int
    total_steps: int
    seconds: float
    cache_seconds: float
    train_loss: float | None
    peak_bytes: int
    points: list[EvalPoint]
    switch_cache_seconds: float = 0.0


class ShownItem(Document):
    """An eval item as text, with the answer before training."""

    prompt: str
    reference: str
    answer: str


class Baseline(Document):
    """The model before any training, on the eval items; `shown` are the first of those answered by generation.

    `seconds` is the wall time of the losses, null in a document that has none.
    """

    loss: Measured
    item_losses: list[Measured]
    accuracy: float | None
    n_items: int
    n_accuracy_items: int
    shown: tuple[ShownItem, ...] = ()
    seconds: float | None = None


class ArmSummary(Document):
    """One arm over its seeds: means, read at equal steps, and at equal compute where the arm went so far.

    `improvement_kept_stopped` has each of its runs, and full finetuning's, where its own loss was lowest on the way, by
    other items than are read; null where readings between the marks were not kept. `failed_seeds` are those that gave
    no result; `reason` says why. `median_step_seconds` is null for an arm that made no step. With a `switch`,
    `freeze_depth` is the one before it; `cache_seconds` are of all cache passes. Where batches froze their own depths,
    `freeze_depth` is the least of these, and `deepest_batch` the greatest.
    """

    freeze_depth: int
    switch: DepthSwitch | None = None
    deepest_batch: int | None = None
    learning_rate: float
    trainable_parameters: int
    seeds: list[int]
    failed_seeds: list[int]
    reason: str
    eval_loss_before: Measured
    eval_loss_after: float | None
    eval_loss_after_compute: float | None
    eval_accuracy_before: float | None
    eval_accuracy_after: float | None
    eval_accuracy_after_compute: float | None
    improvement: IntervalEntry
    improvement_compute: IntervalEntry
    improvement_kept: IntervalEntry
    improvement_kept_compute: IntervalEntry
    improvement_kept_stopped: IntervalEntry = IntervalEntry(estimate=None, low=None, high=None)
    steps: int
    steps_compute: int | None
    train_seconds: float
    cache_seconds: float
    median_step_seconds: float | None
    rate_search: RateSearch | None = None
    relative_flop: float
    flop: FlopEntry
    peak_bytes: PeakEntry
    notes: list[str]


class ValidationSettings(Document):
    """What was asked for; two validations of equal settings are the same one.

    `setup` is how every variant trains, its own adapters aside. `learning_rates` are those of the variants, of the ones
    in `searched` only where a search began; `rate_steps` is where rates are compared if not where they usually are.
    On disk `model`, `train` and `eval` are as `kept_source` writes them.
    Documents of 0.1.0 have no `setup` but some of its
    fields beside the others; they are read into it, and written beside it for whoever reads them there.
    """

    plan_digest: str
    freeze_depth: int | None
    model: str
    train: str
    eval: str
    train_digest: str
    eval_digest: str
    n_train: int
    n_eval: int
    n_accuracy: int
    setup: TrainingSetup
    arms: list[str]
    learning_rates: dict[str, float]
    searched: list[str] = Field(default_factory=list)
    lora: LoraSetup
    arm_steps: dict[str, int] | None = None
    seeds: list[int]
    warmup_steps: int
    budget: Budget
    margin: float
    device: str
    n_between: int
    rate_steps: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather_setup(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        beside = {name: document[name] for name in _BESIDE_SETUP if name in document}
        rest = {name: value for name, value in document.items() if name not in _BESIDE_SETUP}
        if "setup" in rest or not beside:
            return rest
        taken = {name: beside[name] for name in ("steps", "batch_size", "precision", "checkpointing", "prefix_cache")}
        taken |= {"sequence_length": beside["max_length"], "train_examples": rest["n_train"]}
        return {**rest, "setup": {**taken, "loss": "materialised" if beside["all_logits"] else "supervised-only"}}

    @computed_field  # type: ignore[prop-decorator]  # as pydantic's documentation has it
    @property
    def steps(self) -> int:
        """Where all variants are evaluated."""
        return self.setup.steps

    @computed_field  # type: ignore[prop-decorator]
    @property
    def batch_size(self) -> int:
        """Examples per step."""
        return self.setup.batch_size

    @computed_field  # type: ignore[prop-decorator]
    @property
    def max_length(self) -> int:
        """Longest example in tokens."""
        return self.setup.sequence_length

    @computed_field  # type: ignore[prop-decorator]
    @property
    def precision(self) -> str:
        """As in TrainingSetup."""
        return self.setup.precision

    @computed_field  # type: ignore[prop-decorator]
    @property
    def checkpointing(self) -> str:
        """As in TrainingSetup."""
        return self.setup.checkpointing

    @computed_field  # type: ignore[prop-decorator]
    @property
    def prefix_cache(self) -> bool:
        """As in TrainingSetup."""
        return self.setup.prefix_cache

    @computed_field  # type: ignore[prop-decorator]
    @property
    def all_logits(self) -> bool:
        """Whether logits of every token are computed, as stock trainers do."""
        return self.setup.loss == "materialised"


class ValidationReport(Document):
    """The verdict on a plan, and everything it rests on.

    `verdict` is read at equal steps or at equal compute, as `settings.budget` says; both are in `verdicts`. `layers`
    are the plan's trained ones as ranges where a freeze depth does not say them; with a `switch`, which is the plan's,
    `freeze_depth` is the one after it.
    """

    schema_version: int = VALIDATION_SCHEMA_VERSION
    kind: Literal["semfreeze validation"] = "semfreeze validation"
    model: ModelIdentity
    freeze_depth: int | None
    layers: str | None = None
    switch: DepthSwitch | None = None
    n_layers: int
    predicted_gain_coverage: float | None
    settings: ValidationSettings
    baseline: Baseline
    arms: dict[str, ArmSummary]
    improvement_kept: IntervalEntry
    verdict: Literal["holds", "fails", "undecided"]
    reason: str
    verdicts: dict[Budget, str]
    reasons: dict[Budget, str]
    warnings: list[str]
    finished: bool
    runs: list[ArmRun]
    provenance: Provenance
