"""Decision rules: from a gain curve to a freeze depth, or to the reasons why there is none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from semfreeze_core.gains.scaling_law import turning_depths
from semfreeze_core.plan.abstention import abstention_reasons, evidence_reasons, pick_range
from semfreeze_core.records.defaults import COVERAGE_WEIGHT, SCORE_PERCENTILE, TAU
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.interval import ci_label
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.wording.layers import layer_ranges

AutomaticRule = Literal["coverage", "paper", "compute", "turning"]  # which take no more than the run and its costs
RuleName = Literal["auto", AutomaticRule, "measured", "budget", "manual"]

Depths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Decision:
    """The result of one rule.

    Attributes:
        rule: its name.
        parameters: what it was run with.
        candidate_depth: the depth its formula gives, or None when the formula has none.
        freeze_depth: the depth recommended; None on abstention.
        reasons: sentences that explain it; never empty.
        pick_interval: PICK_PERCENTILES of the selected depth over bootstrap replicates; None where a rule has none.
    """

    rule: RuleName
    parameters: dict[str, Any]
    candidate_depth: int | None
    freeze_depth: int | None
    reasons: tuple[str, ...]
    pick_interval: tuple[int, int] | None = None

    @property
    def recommendation(self) -> Literal["freeze", "abstain"]:
        return "abstain" if self.freeze_depth is None else "freeze"


def depth_cap(n_layers: int) -> int:
    """Deepest depth an automatic rule may pick, L - ceil(L/4): a quarter of the layers stays trainable."""
    return n_layers - math.ceil(n_layers / 4)


def reachable_depth(n_layers: int, tau: float, weight: float) -> float:
    """Depth the coverage rule reaches when all gain lies in the last layer, L (1 - tau) / (1 - w)."""
    return n_layers * (1 - tau) / (1 - weight)


def coverage_scores(coverage: npt.NDArray[np.float64], weight: float) -> npt.NDArray[np.float64]:
    """w R(k) + (1 - w)(L - k)/L for k = 0..L, over the last axis of `coverage`.

    (L - k)/L is what R(k) would be if layers were exchangeable. A replicate in which nothing rises has no R(k); it
    scores -inf, so that it can only argue for freezing less.
    """
    n_layers = coverage.shape[-1] - 1
    exchangeable = (n_layers - np.arange(n_layers + 1)) / n_layers
    return np.where(np.isfinite(coverage), weight * coverage + (1 - weight) * exchangeable, -np.inf)


def score_formula(weight: float) -> str:
    """The score of `coverage_scores` in words."""
    if weight == 0.5:
        return "the average of coverage and the share of trained layers"
    return f"{weight:g} x coverage + {1 - weight:g} x the share of trained layers"


def _deepest(reached: npt.NDArray[np.bool_], cap: int) -> Depths:
    """Largest k <= cap where `reached` (..., L + 1) holds; 0 where it never does, as full finetuning always may."""
    allowed = reached[..., : cap + 1]
    deepest = cap - np.argmax(allowed[..., ::-1], axis=-1)
    return np.where(allowed.any(axis=-1), deepest, 0)


def selected_depths(replicates: npt.NDArray[np.float64], tau: float, weight: float) -> tuple[int, Depths]:
    """The deepest k up to the cap at which the score's SCORE_PERCENTILE is at least tau, and each replicate's own k.

    Args:
        replicates: R(k) of bootstrap replicates, (B, L + 1); a single one when there are none.
        tau: what the score must reach.
        weight: w.
    """
    cap = depth_cap(replicates.shape[1] - 1)
    scores = coverage_scores(replicates, weight)
    lower = np.percentile(scores, SCORE_PERCENTILE, axis=0, method="lower")
    return int(_deepest(lower >= tau, cap)), _deepest(scores >= tau, cap)


def decide_by_coverage(curve: GainCurve, *, tau: float = TAU, weight: float = COVERAGE_WEIGHT) -> Decision:
    """The deepest k up to the cap whose score's SCORE_PERCENTILE is at least tau; our rule, the default.

    score(k) = w R(k) + (1 - w)(L - k)/L. Abstains for `abstention_reasons`.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    candidate, depths = selected_depths(curve.coverage_replicates, tau, weight)
    parameters = {"tau": tau, "weight": weight, "cap": cap, "reachable_depth": reachable_depth(n_layers, tau, weight)}
    reason = (
        f"{candidate} of {n_layers} is the deepest allowed depth (maximum {cap}) whose score is at least {tau:g} in "
        f"{100 - SCORE_PERCENTILE}% of bootstrap samples. The score is {score_formula(weight)}. "
        f"Coverage R({candidate}) is {curve.coverage.mean[candidate]:.2f}."
    )
    return decision_or_abstain("coverage", parameters, candidate, reason, curve, depths)


def largest_fall(raw_gain: npt.NDArray[np.float64], start: int) -> Depths:
    """The paper's depth k = 1 + argmax g_i over i in start..cap - 1, along the last axis of `raw_gain` (..., L).

    Args:
        raw_gain: fall of the deviation over each layer.
        start: first layer that is searched; less than the cap.
    """
    depths: Depths = 1 + start + np.argmax(raw_gain[..., start : depth_cap(raw_gain.shape[-1])], axis=-1)
    return depths


def decide_by_paper(curve: GainCurve) -> Decision:
    """The layer after the one with the largest raw gain, k = 1 + argmax g_i, searched below our cap.

    The layer where freezing ends is itself frozen. Source: Gu et al. 2025 (SALF), section on the end-of-freezing
    layer; the cap, and leaving out layer 0 of a tied model, are ours.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    parameters = {"cap": cap}
    if curve.start >= cap:
        reason = f"With {n_layers} layers and a maximum depth of {cap}, no layer is left to search."
        return Decision("paper", parameters, None, None, (reason,))
    best = int(largest_fall(curve.raw_gain.mean, curve.start)) - 1
    depths = largest_fall(curve.raw_gain_replicates, curve.start)
    gain = curve.raw_gain.at(best)
    reason = (
        f"Among layers {curve.start}–{cap - 1}, layer {best} reduces the distance to the target most: by "
        f"{gain.estimate:.4f} ({ci_label()} {gain.low:.4f} to {gain.high:.4f}). Freezing ends with that layer."
    )
    return decision_or_abstain("paper", parameters, best + 1, reason, curve, depths)


def decide_by_turning(curve: GainCurve) -> Decision:
    """The scaling law's turning depth, searched up to the cap: freeze the layers that gain less than the average; ours.

    Abstains for `abstention_reasons`, and where no law fits.
    """
    n_layers, cap, law = curve.n_layers, depth_cap(curve.n_layers), curve.law
    parameters = {"cap": cap}
    if law.reason:
        reason = f"No scaling law fits, so there is no turning depth: {law.reason}."
        return Decision("turning", parameters, None, None, (*evidence_reasons(curve), reason))
    candidate = int(turning_depths(law.coverage.mean[None], cap)[0])
    turning = law.turning_depth
    reason = (
        f"By the scaling law (R² = {law.r_squared:.2f}), the turning depth is {turning.estimate:.0f} of {n_layers} "
        f"({ci_label()} {turning.low:.0f} to {turning.high:.0f}). Every layer before it contributes less than the "
        "average layer."
    )
    if candidate < turning.estimate:
        reason += f" The maximum depth is {cap}."
    return decision_or_abstain(
        "turning", parameters, candidate, reason, curve, turning_depths(law.coverage_replicates, cap)
    )


def manual_decision(curve: GainCurve, depth: int) -> Decision:
    """The user's own depth, with what the analysis shows about it.

    Raises:
        ValueError: the depth is outside 0..L.
    """
    if not 0 <= depth <= curve.n_layers:
        raise ValueError(f"depth {depth} is outside 0..{curve.n_layers}")
    reasons = [f"You chose depth {depth} of {curve.n_layers}."]
    if curve.evidence.verdict == "no evidence":
        reasons.append("The analysis gives no evidence for any depth.")
    return Decision("manual", {"depth": depth}, depth, depth, tuple(reasons))


def layers_decision(curve: GainCurve, layers: Sequence[int]) -> Decision:
    """The user's own set of trained layers, with what the analysis shows about it; its depth is the lowest of them."""
    shown = layer_ranges([i in layers for i in range(curve.n_layers)])
    reasons = [f"You chose layers {shown} of {curve.n_layers}."]
    if curve.evidence.verdict == "no evidence":
        reasons.append("The analysis gives no evidence for any layers.")
    return Decision("manual", {"layers": shown}, layers[0], layers[0], tuple(reasons))


def decide_by_pilots(measurement: Measurement) -> Decision:
    """The pilots' winner, or an abstention where no pilot reduced the loss significantly."""
    full, allowed = measurement.full_flop, measurement.budget_flop / measurement.full_flop
    tried = ", ".join(str(pilot.freeze_depth) for pilot in measurement.rounds[0].pilots)
    spent = (
        f"The pilots at depths {tried} took {100 * measurement.spent_flop / full:.1f}% of the compute of full "
        f"finetuning ({measurement.steps:,} steps of {measurement.batch_size} examples); the limit was "
        f"{100 * allowed:.3g}%."
    )
    parameters = {"aim": measurement.aim, "pilot_budget": allowed}
    if measurement.aim == "cheapest":
        parameters["margin"] = measurement.margin
    return Decision(
        "measured",
        parameters,
        measurement.candidate_depth,
        measurement.freeze_depth,
        (*measurement.reasons, spent),
    )


def decision_or_abstain(
    rule: RuleName, parameters: dict[str, Any], candidate: int, reason: str, curve: GainCurve, replicate_depths: Depths
) -> Decision:
    """The candidate as a recommendation, or an abstention for its reasons, by the depth of each replicate."""
    low, high = pick_range(replicate_depths)
    against = abstention_reasons(curve, low, high)
    return Decision(
        rule=rule,
        parameters=parameters,
        candidate_depth=candidate,
        freeze_depth=None if against else candidate,
        reasons=against or (reason,),
        pick_interval=(low, high),
    )
