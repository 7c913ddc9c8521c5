"""Rules that weigh gain coverage against the price of each freeze depth; both are our derivation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from semfreeze_core.cost.hardware import find_gpu
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.rules import Decision, concluded, depth_cap
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.wording.numbers import gib, number, percent, percent_as_given

DATA_MULTIPLES = (1, 10, 100)
_CHOSEN_MULTIPLE = 10
UNKNOWN_MEMORY = (
    "Activation memory of this model family is unknown, so no memory budget can be checked. Use --max-cost-fraction."
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Budget:
    """What a finetune may cost at most; None where that does not matter.

    Attributes:
        max_memory_gib: device memory in GiB.
        gpu: name of a card whose memory must do; the smaller of the two counts.
        max_cost_fraction: training FLOP over those of full finetuning, in (0, 1].
    """

    max_memory_gib: float | None = None
    gpu: str | None = None
    max_cost_fraction: float | None = None

    @property
    def problems(self) -> list[str]:
        """What is wrong with it, in words; empty when nothing is."""
        found = []
        if self.max_memory_gib is not None and not 0 < self.max_memory_gib < math.inf:
            found.append(f"--max-memory-gib must be above 0, found {self.max_memory_gib:g}")
        if self.max_cost_fraction is not None and not 0 < self.max_cost_fraction <= 1:
            found.append(f"--max-cost-fraction must be in (0, 1], found {self.max_cost_fraction:g}")
        if self.gpu is not None:
            try:
                find_gpu(self.gpu)
            except PlanError as error:
                found.append(f"--gpu: {str(error).removesuffix('.')}")
        return found

    @property
    def memory_bytes(self) -> int | None:
        """The smaller of the two memories."""
        limits = [] if self.max_memory_gib is None else [int(self.max_memory_gib * 2**30)]
        if self.gpu is not None:
            limits.append(find_gpu(self.gpu).memory_bytes)
        return min(limits, default=None)

    @property
    def words(self) -> str:
        parts = []
        if self.memory_bytes is not None:
            parts.append(f"{gib(self.memory_bytes, 2)}{f' ({find_gpu(self.gpu).name})' if self.gpu else ''}")
        if self.max_cost_fraction is not None:
            parts.append(f"{percent_as_given(self.max_cost_fraction)} of full finetuning's compute")
        return " and ".join(parts)

    def holds(self, price: DepthCost) -> bool:
        """Whether a price is within the budget.

        Raises:
            PlanError: there is a memory budget, but the price's memory is not known.
        """
        if self.memory_bytes is not None:
            if price.bytes.total is None:
                raise PlanError(UNKNOWN_MEMORY)
            if price.bytes.total > self.memory_bytes:
                return False
        return self.max_cost_fraction is None or price.relative_flop <= self.max_cost_fraction


def decide_by_budget(curve: GainCurve, prices: Sequence[DepthCost], budget: Budget) -> Decision:
    """The smallest k up to the cap whose price is within the budget, with its R(k).

    Arithmetic: it needs no evidence and never abstains for the lack of it, but says so. The smallest, because every
    layer that is affordable to train may help.

    Args:
        curve: the gain curve.
        prices: of every freeze depth, entry k for depth k.
        budget: what the finetune may cost.

    Raises:
        PlanError: no depth up to the cap fits (the message has the cheapest and its price), or memory is not known.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    depth = next((k for k in range(cap + 1) if budget.holds(prices[k])), None)
    if depth is None:
        nearest = min(prices[: cap + 1], key=lambda p: ((p.bytes.total or 0) if budget.memory_bytes else 0, p.flop))
        raise PlanError(
            f"No freeze depth up to {cap} fits in {budget.words}; depth {nearest.freeze_depth} needs "
            f"{cost_words(nearest)}. Reduce batch size or sequence length, or use lower precision or a lighter "
            "optimizer."
        )
    parameters: dict[str, Any] = {
        "cap": cap,
        "max_memory_bytes": budget.memory_bytes,
        "max_cost_fraction": budget.max_cost_fraction,
    }
    reasons = [
        f"{depth} of {n_layers} is the smallest depth that fits in {budget.words}: it needs "
        f"{cost_words(prices[depth])}."
    ]
    if curve.evidence.verdict == "no evidence":
        reasons.append("The budget alone chose this depth: the analysis gives no evidence for any depth.")
    elif np.isfinite(curve.coverage.mean[depth]):
        reasons.append(f"Its coverage R({depth}) = {number(curve.coverage.mean[depth], 2)} did not choose the depth.")
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


def decide_by_compute(curve: GainCurve, prices: Sequence[DepthCost]) -> Decision:
    """The k up to the cap with the largest R(k) ln(1 + M / c(k)), for M = 10; what M = 1 and 100 pick is told beside.

    Abstains as `doubts` says.

    Args:
        curve: the gain curve.
        prices: of every freeze depth, entry k for depth k.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    relative_flop = np.array([price.relative_flop for price in prices[: cap + 1]])
    allowed = slice(0, cap + 1)
    picks = {
        multiple: int(np.argmax(compute_scores(curve.coverage.mean[allowed], relative_flop, multiple)))
        for multiple in DATA_MULTIPLES
    }
    replicates = compute_scores(curve.coverage_replicates[:, allowed], relative_flop, _CHOSEN_MULTIPLE)
    candidate = picks[_CHOSEN_MULTIPLE]
    parameters = {
        "cap": cap,
        "data_multiple": _CHOSEN_MULTIPLE,
        "picks": {str(multiple): pick for multiple, pick in picks.items()},
    }
    others = ", ".join(f"{pick} with M = {multiple}" for multiple, pick in picks.items())
    reason = (
        f"{candidate} of {n_layers} has the best expected result for the same compute: R(k) ln(1 + M / c(k)) is "
        f"largest there for M = {_CHOSEN_MULTIPLE}, with R({candidate}) = {number(curve.coverage.mean[candidate], 2)} "
        f"at {percent(relative_flop[candidate])} of full finetuning's compute (depths: {others})."
    )
    return concluded("compute", parameters, candidate, reason, curve, np.argmax(replicates, axis=1))


def cost_words(cost: DepthCost) -> str:
    """A cost in words: memory where it is known, and compute."""
    compute = f"{percent_as_given(cost.relative_flop)} of full finetuning's compute"
    return compute if cost.bytes.total is None else f"{gib(cost.bytes.total, 2)} and {compute}"
