"""Decision rules: from a gain curve to a freeze depth, or to the words why there is none."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from semfreeze_core.records.defaults import COVERAGE_WEIGHT, MIN_R_SQUARED, PICK_PERCENTILES, SCORE_PERCENTILE, TAU
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.pilots import Measurement

RuleName = Literal["coverage", "paper", "compute", "measured", "budget", "manual"]

Depths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Decision:
    """What a rule says.

    Attributes:
        rule: its name.
        parameters: what it was run with.
        candidate_depth: the depth its formula gives, or None when the formula has none.
        freeze_depth: the depth recommended; None on abstention.
        reasons: why, in words; never empty.
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

    score(k) = w R(k) + (1 - w)(L - k)/L. Abstains as `abstention_reasons` says.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    candidate, picks = selected_depths(curve.coverage_replicates, tau, weight)
    parameters = {"tau": tau, "weight": weight, "cap": cap, "reachable_depth": reachable_depth(n_layers, tau, weight)}
    reason = (
        f"{candidate} of {n_layers} is the deepest depth up to the cap of {cap} whose score {weight:g} R(k) + "
        f"{1 - weight:g} (L-k)/L is at least {tau:g} in 9 of 10 bootstrap replicates; R({candidate}) = "
        f"{curve.coverage.mean[candidate]:.2f}."
    )
    return decision_or_abstain("coverage", parameters, candidate, reason, curve, picks)


def decide_by_paper(curve: GainCurve) -> Decision:
    """The layer after the one with the largest raw gain, k = 1 + argmax g_i, searched below our cap.

    The layer where freezing ends is itself frozen. Source: Gu et al. 2025 (SALF), section on the end-of-freezing
    layer; the cap, and leaving out layer 0 of a tied model, are ours.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    parameters = {"cap": cap}
    searched = slice(curve.start, cap)
    if curve.start >= cap:
        reason = f"With {n_layers} layers and a cap of {cap} no layer is left to search for the largest gain."
        return Decision("paper", parameters, None, None, (reason,))
    best = curve.start + int(np.argmax(curve.raw_gain.mean[searched]))
    picks = 1 + curve.start + np.argmax(curve.raw_gain_replicates[:, searched], axis=1)
    gain = curve.raw_gain.at(best)
    reason = (
        f"Layer {best} lowers the deviation most among layers {curve.start} to {cap - 1}: by {gain.estimate:.4f} "
        f"[{gain.low:.4f}, {gain.high:.4f}]; freezing ends with it."
    )
    return decision_or_abstain("paper", parameters, best + 1, reason, curve, picks)


def manual_decision(curve: GainCurve, depth: int) -> Decision:
    """The user's own depth, with what the reading says about it.

    Raises:
        ValueError: the depth is outside 0..L.
    """
    if not 0 <= depth <= curve.n_layers:
        raise ValueError(f"depth {depth} is outside 0..{curve.n_layers}")
    said = f"Depth {depth} of {curve.n_layers} was chosen by hand."
    if curve.evidence.verdict == "no evidence":
        return Decision(
            "manual", {"depth": depth}, depth, depth, (said, "The reading gives no evidence for any depth.")
        )
    return Decision("manual", {"depth": depth}, depth, depth, (said,))


def decide_by_pilots(measurement: Measurement) -> Decision:
    """The pilots' winner, or an abstention where no pilot improved for sure."""
    full, allowed = measurement.full_flop, measurement.budget_flop / measurement.full_flop
    tried = ", ".join(str(pilot.freeze_depth) for pilot in measurement.rounds[0].pilots)
    price = (
        f"Pilots of {tried} took {100 * measurement.spent_flop / full:.1f} % of one full finetune of "
        f"{measurement.steps} steps of {measurement.batch_size}; {100 * allowed:.3g} % was allowed."
    )
    parameters = {"aim": measurement.aim, "pilot_budget": allowed}
    if measurement.aim == "cheapest":
        parameters["margin"] = measurement.margin
    return Decision(
        "measured",
        parameters,
        measurement.candidate_depth,
        measurement.freeze_depth,
        (*measurement.reasons, price),
    )


def decision_or_abstain(
    rule: RuleName, parameters: dict[str, Any], candidate: int, reason: str, curve: GainCurve, picks: Depths
) -> Decision:
    """The candidate as a recommendation, or an abstention when there are doubts; `picks` are those of replicates."""
    low, high = pick_range(picks)
    against = abstention_reasons(curve, low, high)
    return Decision(
        rule=rule,
        parameters=parameters,
        candidate_depth=candidate,
        freeze_depth=None if against else candidate,
        reasons=against or (reason,),
        pick_interval=(low, high),
    )


def abstention_reasons(curve: GainCurve, low: int, high: int) -> tuple[str, ...]:
    """Reasons to abstain when the pick ranges from `low` to `high` over replicates; empty when there are none."""
    found = list(curve.evidence.reasons) if curve.evidence.verdict == "no evidence" else []
    if not math.isfinite(curve.coverage.mean[0]):
        found.append("The advantage does not rise anywhere, so no share of it lies in any layer.")
    elif not curve.isotonic_r_squared >= MIN_R_SQUARED:
        found.append(
            f"The advantage is no steady progress through the layers: a rising curve explains "
            f"R^2 = {curve.isotonic_r_squared:.2f} of it, {MIN_R_SQUARED:g} is asked."
        )
    return (*found, *instability(low, high, curve.n_layers))


def instability(low: int, high: int, n_layers: int) -> tuple[str, ...]:
    """The reason to abstain when picks from `low` to `high` are more than max(1, L/4) apart; empty when not."""
    if high - low <= widest_range(n_layers):
        return ()
    return (
        f"The pick is unstable: over bootstrap replicates it ranges from {low} to {high} (5th to 95th percentile), "
        f"more than {widest_range(n_layers):g} layers. More examples would narrow it.",
    )


def pick_range(picks: Depths) -> tuple[int, int]:
    """PICK_PERCENTILES of the selected depths of bootstrap replicates."""
    low, high = (int(p) for p in np.percentile(picks, PICK_PERCENTILES, method="nearest"))
    return low, high


def widest_range(n_layers: int) -> float:
    """Layers that picks may lie apart and still say the same, max(1, L/4)."""
    return max(1.0, n_layers / 4)
