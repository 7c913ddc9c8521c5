"""What every rule and every layer score selects for one run, and whether they agree."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from semfreeze_core.cost import cost_table
from semfreeze_core.errors import PlanError
from semfreeze_core.gains import score_coverage
from semfreeze_core.gains.score_coverage import replicate_coverage
from semfreeze_core.plan.abstention import evidence_reasons, instability, pick_range, widest_range
from semfreeze_core.plan.auto import AutoBasis, decide_by_auto
from semfreeze_core.plan.decide import AUTOMATIC_RULES, decide_automatically, refuse_contradictions
from semfreeze_core.plan.make import TrainFlags, curve_of, default_setup, new_tokens_reason
from semfreeze_core.plan.rules import (
    Decision,
    manual_decision,
    score_formula,
    selected_depths,
)
from semfreeze_core.plan.rules_by_cost import Budget, decide_by_budget
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.defaults import COVERAGE_WEIGHT, SCORE_PERCENTILE, TAU
from semfreeze_core.records.gain import GainCurve, Interval
from semfreeze_core.records.run import Run
from semfreeze_core.records.scores import LayerScore
from semfreeze_core.records.training import TrainingSetup

# Rules whose depth is no result of the analysis: of auto it is coverage's or a share of the layers.
UNMEASURED_RULES = ("auto", "budget", "manual")
_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Opinion:
    """The result of one rule or score.

    Attributes:
        candidate_depth: the depth its formula gives, or None when it has none.
        freeze_depth: the depth it recommends; None when it abstains.
        gain_coverage: R(k) of the candidate, of the rule's metric or the score's own; NaN where it is not measured.
        cost: estimated for the candidate, or None.
        reasons: sentences that explain it.
        sample: what a score was measured on; "" for a rule.
    """

    candidate_depth: int | None
    freeze_depth: int | None
    gain_coverage: Interval
    cost: DepthCost | None
    reasons: tuple[str, ...]
    sample: str = ""

    @property
    def recommendation(self) -> Literal["freeze", "abstain"]:
        return "abstain" if self.freeze_depth is None else "freeze"

    def without_freezing(self, reason: str) -> "Opinion":
        """The same result, but with an abstention if it would freeze anything."""
        return replace(self, freeze_depth=None, reasons=(reason, *self.reasons)) if self.freeze_depth else self


NOT_YET = Opinion(None, None, _UNKNOWN, None, ("Not computed yet.",))


@dataclass(frozen=True)
class Agreement:
    """How far apart the candidate depths lie, and what that means; None when there are none."""

    low: int | None
    high: int | None
    summary: str


@dataclass(frozen=True)
class Comparison:
    """Every rule and every score of one run, under one setup."""

    n_layers: int
    setup: TrainingSetup
    rules: dict[str, Opinion]
    scores: dict[str, Opinion]

    @cached_property
    def agreement(self) -> Agreement:
        """Over the rules and scores that measure something of their own; the depth prior does not."""
        opinions = {name: o for name, o in self.rules.items() if name not in UNMEASURED_RULES}
        opinions |= {name: o for name, o in self.scores.items() if name != "depth_prior"}
        depths = {name: o.candidate_depth for name, o in opinions.items() if o.candidate_depth is not None}
        return judge_agreement(depths, self.n_layers)


def judge_agreement(depths: dict[str, int], n_layers: int) -> Agreement:
    """Whether candidate depths lie within max(1, L/4) layers, the range of a stable depth."""
    if len(depths) < 2:
        known = next(iter(depths.values()), None)
        return Agreement(known, known, "Fewer than two methods select a depth, so nothing can be compared.")
    low, high, widest = min(depths.values()), max(depths.values()), widest_range(n_layers)
    ends = [", ".join(name for name, depth in depths.items() if depth == end) for end in (low, high)]
    depth_range = f"Selected depths range from {low} ({ends[0]}) to {high} ({ends[1]}) of {n_layers} layers"
    if high - low <= widest:
        summary = (
            f"{depth_range}. The methods agree within {widest:g} layers; only finetuning shows whether they are right."
        )
    else:
        summary = (
            f"{depth_range}, more than {widest:g} layers apart. The methods measure different things and disagree; "
            "only finetuning shows which depth is best."
        )
    return Agreement(low, high, summary)


def gather_opinions(
    run: Run,
    *,
    metric: str = "semantic",
    depth: int | None = None,
    tau: float = TAU,
    weight: float = COVERAGE_WEIGHT,
    budget: Budget | None = None,
    setup: TrainingSetup | None = None,
    train: TrainFlags | None = None,
    allow_new_tokens: bool = False,
) -> Comparison:
    """Every rule's and every score's result for a run.

    Args:
        run: a finished analysis.
        metric: deviation the rules' gains come from.
        depth: the user's own depth, to be shown too.
        tau, weight: of the coverage rule, and of its formula on the scores.
        budget: to be shown too, when there is one.
        setup: the finetune whose cost is estimated; default `default_setup(run)`.
        train: whether embeddings, final norm and head are trained.
        allow_new_tokens: freeze although the data uses tokens whose embeddings look untrained.

    Raises:
        PlanError: options out of range, or flags that contradict the model.
    """
    curve = curve_of(run, metric)
    refuse_contradictions(curve.n_layers, None, depth=depth, tau=tau, weight=weight, budget=budget)
    flags = train or TrainFlags()
    setup = setup or default_setup(run, flags)
    costs = cost_table(run.shape, setup, flags.embeddings, flags.final_norm, flags.head)
    decisions = [decide_automatically(curve, rule, lambda: costs, tau=tau, weight=weight) for rule in AUTOMATIC_RULES]
    pick = next(decision.freeze_depth for decision in decisions if decision.rule == "coverage")
    decisions.append(decide_by_auto(curve, AutoBasis(run.manifest.data.checks, setup.steps, pick)))
    if budget is not None:
        decisions.append(_budget_or_why_not(curve, costs, budget))
    if depth is not None:
        decisions.append(manual_decision(curve, depth))
    opinions: dict[str, Opinion] = {d.rule: _opinion_of_rule(d, curve, costs) for d in decisions}
    scores = {name: score_opinion(score, curve, costs, tau=tau, weight=weight) for name, score in run.scores.items()}
    scores |= {name: NOT_YET for name in run.manifest.scores_to_come}
    if reason := None if allow_new_tokens else new_tokens_reason(run.manifest):
        opinions = {name: o.without_freezing(reason) for name, o in opinions.items()}
        scores = {name: o.without_freezing(reason) for name, o in scores.items()}
    return Comparison(curve.n_layers, setup, opinions, scores)


def score_opinion(
    score: LayerScore, curve: GainCurve, costs: Sequence[DepthCost], *, tau: float, weight: float
) -> Opinion:
    """The coverage rule's formula on a score's R(k); our derivation.

    With replicates it goes by their SCORE_PERCENTILE and abstains when their picks range too far, as the rule does. A
    score has no control of its own, so it recommends nothing where the run gives no evidence.
    """
    coverage = score_coverage(score)
    if not np.isfinite(coverage.mean[0]):
        why = score.reason or "it is 0 in every layer"
        return Opinion(None, None, _UNKNOWN, None, (f"Not measured: {why}.",), score.sample)
    replicates = replicate_coverage(score)
    candidate, depths = selected_depths(coverage.mean[None] if replicates is None else replicates, tau, weight)
    against = instability(*pick_range(depths), curve.n_layers)
    if evidence_reasons(curve):
        against = (
            "The analysis gives no evidence that the layers do this task, so scores recommend nothing.",
            *against,
        )
    samples = "" if score.replicates is None else f" in {100 - SCORE_PERCENTILE}% of bootstrap samples"
    reason = (
        f"{candidate} is the deepest allowed depth at which {score_formula(weight)} is at least {tau:g}{samples}. "
        "Coverage is computed from this score."
    )
    return Opinion(
        candidate,
        None if against else candidate,
        coverage.at(candidate),
        _cost_at(costs, candidate),
        against or (reason,),
        score.sample,
    )


def _opinion_of_rule(decision: Decision, curve: GainCurve, costs: Sequence[DepthCost]) -> Opinion:
    candidate = decision.candidate_depth
    return Opinion(
        candidate,
        decision.freeze_depth,
        _UNKNOWN if candidate is None else curve.coverage.at(candidate),
        None if candidate is None else _cost_at(costs, candidate),
        decision.reasons,
    )


def _budget_or_why_not(curve: GainCurve, costs: Sequence[DepthCost], budget: Budget) -> Decision:
    """A budget that no depth fits is a result here, next to the others."""
    try:
        return decide_by_budget(curve, costs, budget)
    except PlanError as error:
        return Decision("budget", {}, None, None, (str(error),))


def _cost_at(costs: Sequence[DepthCost], depth: int) -> DepthCost | None:
    """None at depth L when nothing is left to train there."""
    return costs[depth] if depth < len(costs) else None
