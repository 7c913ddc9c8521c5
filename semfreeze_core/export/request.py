"""Input and output of every exporter."""

from dataclasses import dataclass

from semfreeze_core.cost.document import CostEntry
from semfreeze_core.export.data import TaskFile
from semfreeze_core.export.parts import NamedParts
from semfreeze_core.export.tokenizer import TokenizerFacts
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.defaults import LEARNING_RATES, TRAINING_WARMUP_FRACTION
from semfreeze_core.records.rates import KnownRate
from semfreeze_core.records.training import TRANSFORMERS_OPTIMIZERS, TrainingSetup

SCHEDULE = "constant_with_warmup"
OPTIMIZERS = TRANSFORMERS_OPTIMIZERS


@dataclass(frozen=True)
class Exported:
    """A plan as a trainer's own file.

    Attributes:
        target: the trainer.
        text: the whole file.
        filename: suggested.
        notes: what differs from the plan, and how to keep the saving; the file has them as comments.
    """

    target: str
    text: str
    filename: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ExportRequest:
    """One export.

    Attributes:
        plan: does not abstain.
        plan_path: where the plan's file is, for scripts that read it.
        parts: what it trains, by name.
        model: the folder or hub id that the trainer loads.
        data: the training data.
        target: the trainer's name.
        able: the targets that can train these parts, as a sentence lists them, for what this one refuses.
        tokenizer: what the files of the model's tokenizer say; None where they are not here.
        known_rate: a learning rate that is known for what the plan trains; None writes a default.
    """

    plan: FreezePlan
    plan_path: str
    parts: NamedParts
    model: str
    data: TaskFile
    target: str
    able: str
    tokenizer: TokenizerFacts | None = None
    known_rate: KnownRate | None = None

    @property
    def setup(self) -> TrainingSetup:
        """The finetune whose cost the plan estimates."""
        return self.plan.cost.setup

    @property
    def cost(self) -> CostEntry | None:
        """What the plan costs in a stock trainer, which the targets are; None in plans of 0.1.0 that do not say."""
        other = self.plan.cost.alternative
        if other is None:
            return None if self.setup.prefix_cache or self.setup.loss != "materialised" else self.plan.cost.planned
        return other.planned if other.trainer == "stock trainer" else self.plan.cost.planned

    @property
    def revision(self) -> str | None:
        """The analyzed commit of the plan's model; another folder or id has its own."""
        return self.plan.model.revision if self.model == self.plan.model.source else None

    @property
    def learning_rate(self) -> float:
        """The known one, else the default of what trains: a plan has none."""
        if self.known_rate is not None:
            return self.known_rate.rate
        return LEARNING_RATES["frozen" if self.setup.lora is None else "lora"]

    @property
    def warmup_steps(self) -> int:
        """Steps of the linear warm-up, the same share of all as in `semfreeze train`."""
        return max(1, int(TRAINING_WARMUP_FRACTION * self.setup.steps))

    @property
    def epochs(self) -> int:
        """Passes over the data that the steps take, rounded up."""
        return -(-self.setup.steps // self.setup.steps_per_epoch)

    @property
    def reentrant(self) -> bool:
        """Whether layers are checkpointed in torch's reentrant way."""
        return self.setup.checkpointing == "reentrant"
