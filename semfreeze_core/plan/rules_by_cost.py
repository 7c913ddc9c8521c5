"""Rules that weigh coverage against the estimated cost of each freeze depth; both are our derivation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from semfreeze_core.cost.hardware import Gpu, find_gpu
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.rules import Decision, decision_or_abstain, depth_cap
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.defaults import DATA_MULTIPLE, DATA_MULTIPLES
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.wording.numbers import gib

UNKNOWN_MEMORY = (
    "Activation memory is unknown for this model family, so a memory limit cannot be checked. "
    "Use --max-cost-fraction instead."
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Budget:
    """Limits of a finetune; None where there is no limit.

    Attributes:
        max_memory_gib: device memory in GiB.
        gpu: name of a GPU whose memory must suffice; the smaller of the two limits counts.
        max_cost_fraction: training FLOPs over those of full finetuning, in (0, 1].
    """

    max_memory_gib: float | None = None
    gpu: str | None = None
    max_cost_fraction: float | None = None

    @property
    def card(self) -> Gpu | None:
        """The GPU that is named; None too where its name is unknown, which is among the problems."""
        try:
            return None if self.gpu is None else find_gpu(self.gpu)
        except PlanError:
            return None

    @property
    def problems(self) -> list[str]:
        """Messages about values out of range; empty when there are none."""
        messages = []
        if self.max_memory_gib is not None and not 0 < self.max_memory_gib < math.inf:
            messages.append(f"--max-memory-gib must be above 0, found {self.max_memory_gib:g}")
        if self.max_cost_fraction is not None and not 0 < self.max_cost_fraction <= 1:
            messages.append(f"--max-cost-fraction must be in (0, 1], found {self.max_cost_fraction:g}")
        if self.gpu is not None:
            try:
                find_gpu(self.gpu)
            except PlanError as error:
                messages.append(f"--gpu: {str(error).removesuffix('.')}")
        return messages

    @property
    def memory_bytes(self) -> int | None:
        """The smaller of the two memories."""
        limits = [] if self.max_memory_gib is None else [int(self.max_memory_gib * 2**30)]
        if self.gpu is not None:
            limits.append(find_gpu(self.gpu).memory_bytes)
        return min(limits, default=None)

    @property
    def summary(self) -> str:
        """The limits in words."""
        parts = []
        if self.memory_bytes is not None:
            parts.append(f"{gib(self.memory_bytes)}{f' ({find_gpu(self.gpu).name})' if self.gpu else ''}")
        if self.max_cost_fraction is not None:
            parts.append(f"{100 * self.max_cost_fraction:.3g}% of full finetuning's compute")
        return " and ".join(parts)

    def holds(self, cost: DepthCost) -> bool:
        """Whether a cost is within the budget.

        Raises:
            PlanError: there is a memory budget, but the cost's memory is unknown.
        """
        if self.memory_bytes is not None:
            if cost.bytes.total is None:
                raise PlanError(UNKNOWN_MEMORY)
            if cost.bytes.total > self.memory_bytes:
                return False
        return self.max_cost_fraction is None or cost.relative_flop <= self.max_cost_fraction


def decide_by_budget(curve: GainCurve, costs: Sequence[DepthCost], budget: Budget) -> Decision:
    """The smallest k up to the cap whose estimated cost is within the budget, with its R(k).

    Arithmetic: it needs no evidence and never abstains for the lack of it, but reports it. The smallest, because every
    layer that is affordable to train may help.

    Args:
        curve: the gain curve.
        costs: of every freeze depth, entry k for depth k.
        budget: what the finetune may cost.

    Raises:
        PlanError: no depth up to the cap fits (the message has the cheapest and its cost), or memory is unknown.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    depth = next((k for k in range(cap + 1) if budget.holds(costs[k])), None)
    if depth is None:
        nearest = min(costs[: cap + 1], key=lambda p: ((p.bytes.total or 0) if budget.memory_bytes else 0, p.flop))
        raise PlanError(
            f"No freeze depth up to {cap} fits within {budget.summary}. Depth {nearest.freeze_depth} comes closest and "
            f"needs {format_cost(nearest)}. Use fewer examples at a time (--micro-batch-size), shorter examples, lower "
            "precision or a lighter optimizer."
        )
    parameters: dict[str, Any] = {
        "cap": cap,
        "max_memory_bytes": budget.memory_bytes,
        "max_cost_fraction": budget.max_cost_fraction,
    }
    reasons = [
        f"{depth} of {n_layers} is the smallest freeze depth within {budget.summary}. "
        f"Estimated cost: {format_cost(costs[depth])}."
    ]
    if curve.evidence.verdict == "no evidence":
        reasons.append("The analysis gives no evidence for any depth; only the budget chose this one.")
    elif np.isfinite(curve.coverage.mean[depth]):
        reasons.append(f"Coverage R({depth}) is {curve.coverage.mean[depth]:.2f}; it did not influence this choice.")
    return Decision("budget", parameters, depth, depth, tuple(reasons))


def compute_scores(coverage: Floats, relative_flop: Floats, multiple: float) -> Floats:
    """R(k) ln(1 + M / c(k)), over the last axis of `coverage`: what depth k has gained when equal compute is spent.

    The exponent of the benefit B_c(k) = 1 - (1 + M / c(k))^(-beta R(k)); beta scales its height alone, so the best k
    does not depend on it. Our derivation, from the form that a scaling law of transfer has (Hernandez et al. 2021,
    arXiv 2102.01293), and true only if resources multiply as assumed. A replicate in which nothing rises scores -inf,
    so that it can only argue for freezing less.

    Args:
        coverage: R(k), (..., m).
        relative_flop: c(k), training FLOP at k over those of full finetuning, cache pass included, (m,).
        multiple: M, finetuning data over what pretraining is worth to the task, counted in such data.
    """
    return np.where(np.isfinite(coverage), coverage * np.log1p(multiple / relative_flop), -np.inf)


def decide_by_compute(curve: GainCurve, costs: Sequence[DepthCost]) -> Decision:
    """The k up to the cap with the largest R(k) ln(1 + M / c(k)) for M = DATA_MULTIPLE; reports DATA_MULTIPLES too.

    Abstains for `abstention_reasons`.

    Args:
        curve: the gain curve.
        costs: of every freeze depth, entry k for depth k.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    relative_flop = np.array([cost.relative_flop for cost in costs[: cap + 1]])
    allowed = slice(0, cap + 1)
    depth_by_multiple = {
        multiple: int(np.argmax(compute_scores(curve.coverage.mean[allowed], relative_flop, multiple)))
        for multiple in DATA_MULTIPLES
    }
    replicates = compute_scores(curve.coverage_replicates[:, allowed], relative_flop, DATA_MULTIPLE)
    candidate = depth_by_multiple[DATA_MULTIPLE]
    parameters = {
        "cap": cap,
        "data_multiple": DATA_MULTIPLE,
        "picks": {str(multiple): pick for multiple, pick in depth_by_multiple.items()},
    }
    others = ", ".join(f"{pick} for M = {multiple}" for multiple, pick in depth_by_multiple.items())
    reason = (
        f"{candidate} of {n_layers} gives the best expected result for the same compute, with a data multiple of "
        f"M = {DATA_MULTIPLE}. Coverage R({candidate}) is {curve.coverage.mean[candidate]:.2f}, and training takes "
        f"{100 * relative_flop[candidate]:.0f}% of full finetuning's compute. Depths by data multiple: {others}."
    )
    return decision_or_abstain("compute", parameters, candidate, reason, curve, np.argmax(replicates, axis=1))


def format_cost(cost: DepthCost) -> str:
    """A cost in words: memory where it is known, and compute."""
    compute = f"{100 * cost.relative_flop:.3g}% of full finetuning's compute"
    return compute if cost.bytes.total is None else f"{gib(cost.bytes.total)} and {compute}"
