"""How one arm is trained: the setup that all arms of a comparison share, and what belongs to this arm alone."""

from dataclasses import dataclass
from importlib.util import find_spec

from semfreeze_core.errors import InputError
from semfreeze_core.records.rates import ComparedOn
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.validation import Mark


@dataclass(frozen=True)
class ArmSettings:
    """How an arm is trained and when it is evaluated.

    Attributes:
        setup: how to train; all arms are evaluated after its `steps`.
        seed: of the order of examples and of new adapters.
        processes: that train together, each on its own part of every step.
        parts: of the data that take turns in a step, equally many examples of each; with 1 the order is that of
            one process.
        compute_steps: steps for the FLOPs of full finetuning's `steps`; None when the arm is not evaluated there.
        warmup_steps: steps of the linear warm-up; the rate is constant after it.
        n_accuracy: eval examples answered by generation at the marks; 0 for none.
        n_between: evaluations before the end: at half of the steps, a quarter, and so on, as the loss falls fastest
            early.
        rate_steps: steps after which learning rates are compared in a search that starts from the arm's; None trains
            at the arm's rate.
        rates_on: what the search compares rates on.
        lower_rates_first, too_high_rate: as in next_rate.
        sharded: spread what trains over the processes.
        rate_known: train at the arm's rate, which an equal arm's search chose, and evaluate as that does.
    """

    setup: TrainingSetup
    seed: int
    warmup_steps: int
    processes: int = 1
    parts: int = 1
    compute_steps: int | None = None
    n_accuracy: int = 0
    n_between: int = 4
    rate_steps: int | None = None
    rates_on: ComparedOn = "eval examples"
    lower_rates_first: bool = False
    too_high_rate: float | None = None
    rate_known: bool = False
    sharded: bool = False

    @property
    def micro_batch_size(self) -> int:
        """Examples per forward pass of a process: no more than its share of a step."""
        return min(self.setup.examples_per_pass, self.setup.batch_size // self.processes)

    @property
    def accumulation(self) -> int:
        """Passes per step of a process."""
        return self.setup.batch_size // (self.micro_batch_size * self.processes)

    @property
    def total_steps(self) -> int:
        """Steps made in all: to the further of the two marks."""
        return max(self.setup.steps, self.compute_steps or 0)

    def marks(self) -> dict[int, list[Mark]]:
        """What is evaluated after which step."""
        marks: dict[int, list[Mark]] = {self.setup.steps: ["steps"]}
        if self.compute_steps is not None:
            marks.setdefault(self.compute_steps, []).append("compute")
        for halvings in range(1, self.n_between + 1):
            if (step := round(self.total_steps / 2**halvings)) >= 1:
                marks.setdefault(step, ["between"])
        if self.rate_steps is None:
            return marks
        # The search's winner goes on from here; what it would have read before is left out for every arm.
        later = {step: kinds for step, kinds in marks.items() if step >= self.rate_steps}
        return {self.rate_steps: ["between"], **later}


def refuse_untrainable(setup: TrainingSetup) -> None:
    """Refuse a setup that the cost model knows and semfreeze's own training does not offer.

    Raises:
        InputError: all problems in one message, each with the flag that helps.
    """
    problems = []
    if setup.loss == "fused":
        problems.append(
            "--loss fused is other trainers': semfreeze trains with chunked, supervised-only or materialised"
        )
    if setup.optimizer == "adamw8bit" and find_spec("bitsandbytes") is None:
        problems.append("--optimizer adamw8bit needs bitsandbytes: pip install 'semfreeze[bitsandbytes]'")
    if setup.checkpointing == "transformers-5":
        problems.append(
            "--checkpointing transformers-5 loses the saving of frozen layers: choose none, non-reentrant or reentrant"
        )
    if problems:
        raise InputError("; ".join(problems) + ".")
