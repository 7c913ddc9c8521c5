"""The rule that estimates a depth for what a finetune is to be good at, before any finetune is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.rules import RuleName
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.race import ObjectiveKind

_SMALLEST_SHARE = 0.001


@dataclass(frozen=True)
class Limits:
    """What a finetune may take; None where there is no limit.

    Attributes:
        memory_gib: device memory, GiB.
        gpu: name of a GPU whose memory must suffice.
        hours: of training.
    """

    memory_gib: float | None = None
    gpu: str | None = None
    hours: float | None = None


def rule_of_objective(
    objective: ObjectiveKind, rule: RuleName, limits: Limits, full: DepthCost, rates: Sequence[float]
) -> tuple[RuleName, Budget | None]:
    """The rule to ask for an objective, and its budget, which is None where no limit is set.

    Balanced asks `rule`. Quality asks the rule auto, which without a race freezes a quarter of the layers unless
    completions repeat one another. Memory and time ask for the smallest depth within the limit, since every layer that
    is affordable to train may help.

    Args:
        objective: what the finetune is to be good at.
        rule: that balanced asks.
        limits: memory and GPU count for the objective memory, hours for time.
        full: what full finetuning costs.
        rates: FLOPs per second, slowest first; none where no rate is known.

    Raises:
        PlanError: time is limited and no rate is known.
    """
    if objective == "quality":
        return "auto", None
    if objective == "memory":
        limited = limits.memory_gib is not None or limits.gpu is not None
        return "budget", Budget(limits.memory_gib, limits.gpu) if limited else None
    if objective == "time":
        if limits.hours is None:
            return "budget", None
        return "budget", Budget(max_cost_fraction=compute_share(limits.hours, full, rates))
    return rule, None


def compute_share(hours: float, full: DepthCost, rates: Sequence[float]) -> float:
    """The share of full finetuning's compute that is done within some hours, in (0, 1].

    hours * 3600 * slowest rate / FLOPs of full finetuning, rounded down to 0.001, so that a command can name it.

    Raises:
        PlanError: no rate is known.
    """
    if not rates:
        raise PlanError("A time limit needs a rate. Choose a GPU whose peak rate is known, or run a finetune first.")
    share = hours * 3600 * min(rates) / full.flop
    return min(1.0, max(_SMALLEST_SHARE, floor(share / _SMALLEST_SHARE) * _SMALLEST_SHARE))
