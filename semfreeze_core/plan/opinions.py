"""What every rule and every score says of one run, side by side, and whether they agree."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from semfreeze_core.cost import cost_table
from semfreeze_core.errors import PlanError
from semfreeze_core.gains import score_coverage
from semfreeze_core.gains.score_coverage import replicate_coverage
from semfreeze_core.plan.decide import refuse_contradictions
from semfreeze_core.plan.make import TrainFlags, curve_of, default_setup, new_tokens_reason
from semfreeze_core.plan.rules import (
    DEFAULT_TAU,
    DEFAULT_WEIGHT,
    Decision,
    coverage_picks,
    decide_by_coverage,
    decide_by_hand,
    decide_by_paper,
    depth_cap,
    instability,
    pick_range,
    score_words,
    widest_range,
)
from semfreeze_core.plan.rules_by_cost import Budget, decide_by_budget, decide_by_compute
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.gain import GainCurve, Interval
from semfreeze_core.records.run import Run
from semfreeze_core.records.scores import LayerScore
from semfreeze_core.records.training import TrainingSetup

_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Opinion:
    """What one rule or score says.

    Attributes:
        candidate_depth: the depth its formula gives, or None when it has none.
        freeze_depth: the depth it recommends; None when it abstains.
        gain_coverage: R(k) of the candidate, of the rule's metric or the score's own; NaN where it is not measured.
        price: of the candidate, or None.
        reasons: why, in words.
        sample: what a score was measured on; "" for a rule.
    """

    candidate_depth: int | None
    freeze_depth: int | None
    gain_coverage: Interval
    price: DepthCost | None
    reasons: tuple[str, ...]
    sample: str = ""

    @property
    def recommendation(self) -> Literal["freeze", "abstain"]:
        return "abstain" if self.freeze_depth is None else "freeze"

    def without_freezing(self, reason: str) -> "Opinion":
        """The same, but that it abstains if it would freeze anything."""
        return replace(self, freeze_depth=None, reasons=(reason, *self.reasons)) if self.freeze_depth else self


@dataclass(frozen=True)
class Agreement:
    """How far apart the candidate depths lie, and what that means; None when there is none at all."""

    low: int | None
    high: int | None
    words: str


@dataclass(frozen=True)
class Comparison:
    """Every rule and every score of one run, under one setup."""

    n_layers: int
    setup: TrainingSetup
    rules: dict[str, Opinion]
    scores: dict[str, Opinion]

    @cached_property
    def agreement(self) -> Agreement:
        """Over the rules and scores that read something: budget, manual and the depth prior do not."""
        opinions = {name: o for name, o in self.rules.items() if name not in ("budget", "manual")}
        opinions |= {name: o for name, o in self.scores.items() if name != "depth_prior"}
        depths = {name: o.candidate_depth for name, o in opinions.items() if o.candidate_depth is not None}
        return judge_agreement(depths, self.n_layers)


def judge_agreement(depths: dict[str, int], n_layers: int) -> Agreement:
    """Whether candidate depths lie within max(1, L/4) layers, the range a pick may have and still be called stable."""
    if len(depths) < 2:
        known = next(iter(depths.values()), None)
        return Agreement(
            known, known, "Fewer than two rules and scores select a depth, so there is nothing to compare."
        )
    low, high, widest = min(depths.values()), max(depths.values()), widest_range(n_layers)
    ends = [", ".join(name for name, depth in depths.items() if depth == end) for end in (low, high)]
    span = f"Selected depths range from {low} ({ends[0]}) to {high} ({ends[1]}) of {n_layers}."
    if high - low <= widest:
        summary = f"{span} They agree within {widest:g} layers; only finetuning shows whether they are right."
    else:
        summary = (
            f"{span} The methods measure different things and disagree; only finetuning shows which depth is best."
        )
    return Agreement(low, high, summary)


def compare(
    run: Run,
    *,
    metric: str = "semantic",
    depth: int | None = None,
    tau: float = DEFAULT_TAU,
    weight: float = DEFAULT_WEIGHT,
    budget: Budget | None = None,
    setup: TrainingSetup | None = None,
    train: TrainFlags | None = None,
    allow_new_tokens: bool = False,
) -> Comparison:
    """Ask every rule and every score of a run.

    Args:
        run: a finished reading.
        metric: deviation the rules' gains come from.
        depth: the user's own depth, to be shown beside.
        tau, weight: of the coverage rule, and of its formula on the scores.
        budget: to be shown beside, when there is one.
        setup: finetune the prices are for; default `default_setup(run)`.
        train: wishes about embeddings, final norm and head.
        allow_new_tokens: freeze although the data uses tokens whose embeddings look untrained.

    Raises:
        PlanError: wishes out of range, or flags that contradict the model.
    """
    curve = curve_of(run, metric)
    refuse_contradictions(curve.n_layers, None, depth=depth, tau=tau, weight=weight, budget=budget)
    setup, flags = setup or default_setup(run), train or TrainFlags()
    prices = cost_table(run.shape, setup, flags.embeddings, flags.final_norm, flags.head)
    decisions = [
        decide_by_coverage(curve, tau=tau, weight=weight),
        decide_by_paper(curve),
        decide_by_compute(curve, prices),
    ]
    if budget is not None:
        decisions.append(_budget_or_why_not(curve, prices, budget))
    if depth is not None:
        decisions.append(decide_by_hand(curve, depth))
    opinions: dict[str, Opinion] = {d.rule: _opinion_of_rule(d, curve, prices) for d in decisions}
    scores = {
        name: opinion_of_score(score, curve, prices, tau=tau, weight=weight) for name, score in run.scores.items()
    }
    if reason := None if allow_new_tokens else new_tokens_reason(run):
        opinions = {name: o.without_freezing(reason) for name, o in opinions.items()}
        scores = {name: o.without_freezing(reason) for name, o in scores.items()}
    return Comparison(curve.n_layers, setup, opinions, scores)


def opinion_of_score(
    score: LayerScore, curve: GainCurve, prices: Sequence[DepthCost], *, tau: float, weight: float
) -> Opinion:
    """The coverage rule's formula on a score's R(k); our derivation.

    With replicates it goes by their 10th percentile and abstains when their picks range too far, as the rule does. A
    score has no control of its own, so it recommends nothing where the run gives no evidence.
    """
    coverage = score_coverage(score)
    if not np.isfinite(coverage.mean[0]):
        why = score.reason or "it is 0 in every layer"
        return Opinion(None, None, _UNKNOWN, None, (f"Not measured: {why}.",), score.sample)
    replicates = coverage.mean[None] if score.replicates is None else replicate_coverage(score.replicates)
    candidate, picks = coverage_picks(replicates, tau, weight)
    against = instability(*pick_range(picks), curve.n_layers)
    if curve.evidence.verdict == "no evidence":
        against = (
            "The analysis gives no evidence that the layers do this task, so no score recommends a depth.",
            *against,
        )
    certain = "" if score.replicates is None else " in 90% of bootstrap samples"
    reason = (
        f"{candidate} is the deepest depth up to {depth_cap(curve.n_layers)} whose score, {score_words(weight)}, is at "
        f"least {tau:g}{certain}."
    )
    return Opinion(
        candidate,
        None if against else candidate,
        coverage.at(candidate),
        _price_at(prices, candidate),
        against or (reason,),
        score.sample,
    )


def _opinion_of_rule(decision: Decision, curve: GainCurve, prices: Sequence[DepthCost]) -> Opinion:
    candidate = decision.candidate_depth
    return Opinion(
        candidate,
        decision.freeze_depth,
        _UNKNOWN if candidate is None else curve.coverage.at(candidate),
        None if candidate is None else _price_at(prices, candidate),
        decision.reasons,
    )


def _budget_or_why_not(curve: GainCurve, prices: Sequence[DepthCost], budget: Budget) -> Decision:
    """A budget that no depth fits is an answer here, beside the others'."""
    try:
        return decide_by_budget(curve, prices, budget)
    except PlanError as error:
        return Decision("budget", {}, None, None, (str(error),))


def _price_at(prices: Sequence[DepthCost], depth: int) -> DepthCost | None:
    """None at depth L when nothing is left to train there."""
    return prices[depth] if depth < len(prices) else None
