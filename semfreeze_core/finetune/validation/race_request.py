"""What is raced: variants of one finetune, on its first batches."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.validation.request import ValidationRequest
from semfreeze_core.gains.race_price import race_rows
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.records.defaults import RACE_STEPS
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.race import Objective
from semfreeze_core.records.training import TrainingSetup


@dataclass(frozen=True)
class RaceRequest:
    """What is raced.

    Attributes:
        plan: of the model; its own depth does not matter.
        setup: the whole finetune: its steps, batch, longest example.
        train, evaluation, mapping, add_eos, model: as in ValidationRequest.
        n_train: training examples that the whole finetune draws, so that its first batches are the race's.
        n_rows: training examples that there are.
        variants: names with their freeze depths, as `candidate_variants` gives them; two or more.
        safe: the variant to take where the race cannot tell.
        objective: what the winner is to be good at.
    """

    plan: FreezePlan
    setup: TrainingSetup
    train: str
    evaluation: str
    n_train: int
    n_rows: int
    variants: Mapping[str, int]
    safe: str
    objective: Objective
    mapping: FieldMapping
    add_eos: bool
    model: ModelSource

    @property
    def raced_steps(self) -> int:
        """Steps that each variant makes."""
        return RACE_STEPS

    @property
    def prefix_cache(self) -> bool:
        """Whether the race computes frozen layers once per example.

        A race meets each of its examples once, but for the trials of other rates. Where memory is short, frozen layers
        leave the device only with one.
        """
        return self.setup.prefix_cache and self.objective.kind == "memory"

    @property
    def in_order(self) -> tuple[str, ...]:
        """The variants in the order in which they are trained: the one that trains fewest layers first."""
        return tuple(sorted(self.variants, key=lambda name: -self.variants[name]))

    def validation(self) -> ValidationRequest:
        """The race as a validation."""
        return ValidationRequest(
            plan=self.plan,
            train=self.train,
            evaluation=self.evaluation,
            setup=replace(
                self.setup,
                steps=self.raced_steps,
                train_examples=self.n_train,
                prefix_cache=self.prefix_cache,
                lora=None,
            ),
            mapping=self.mapping,
            add_eos=self.add_eos,
            arms=self.in_order,
            seeds=1,
            match="steps",
            n_eval=race_rows(self.setup.steps, self.setup.batch_size, len(self.variants)),
            n_accuracy=0,
            share_caches=self.prefix_cache,
            n_between=0,
            rate_steps=self.raced_steps,
            chained_search=True,
            keep_checkpoints=True,
            model=self.model,
        )
