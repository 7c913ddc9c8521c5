"""Decision rules: from a gain curve to a freeze depth, or to the words why there is none."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from semfreeze_core.records.gain import GainCurve
from semfreeze_core.wording.numbers import interval_with_ci, number

RuleName = Literal["coverage", "paper", "compute", "measured", "budget", "manual"]

DEFAULT_TAU, DEFAULT_WEIGHT = 0.65, 0.5
MIN_R_SQUARED = 0.85
_LOWER_PERCENTILE = 10

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
        pick_interval: 5th and 95th percentile of the pick over bootstrap replicates, or None where the rule has none.
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


def coverage_picks(replicates: npt.NDArray[np.float64], tau: float, weight: float) -> tuple[int, Depths]:
    """The deepest k up to the cap at which the score's 10th percentile is at least tau, and each replicate's own k.

    Args:
        replicates: R(k) of bootstrap replicates, (B, L + 1); a single one when there are none.
        tau: what the score must reach.
        weight: w.
    """
    cap = depth_cap(replicates.shape[1] - 1)
    scores = coverage_scores(replicates, weight)
    lower = np.percentile(scores, _LOWER_PERCENTILE, axis=0, method="lower")
    return int(_deepest(lower >= tau, cap)), _deepest(scores >= tau, cap)


def score_words(weight: float) -> str:
    """The coverage rule's score in words."""
    if weight == DEFAULT_WEIGHT:
        return "the average of coverage and the share of trained layers"
    return f"{weight:g} x coverage + {1 - weight:g} x the share of trained layers"


def decide_by_coverage(curve: GainCurve, *, tau: float = DEFAULT_TAU, weight: float = DEFAULT_WEIGHT) -> Decision:
    """The deepest k up to the cap whose score's 10th percentile is at least tau; our rule, the default.

    score(k) = w R(k) + (1 - w)(L - k)/L. Abstains as `doubts` says.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    candidate, picks = coverage_picks(curve.coverage_replicates, tau, weight)
    parameters = {"tau": tau, "weight": weight, "cap": cap, "reachable_depth": reachable_depth(n_layers, tau, weight)}
    reason = (
        f"{candidate} is the deepest depth up to {cap} whose score, {score_words(weight)}, is at least {tau:g} in "
        f"{100 - _LOWER_PERCENTILE}% of bootstrap samples."
    )
    return concluded("coverage", parameters, candidate, reason, curve, picks)


def decide_by_paper(curve: GainCurve) -> Decision:
    """The layer after the one with the largest raw gain, k = 1 + argmax g_i, searched below our cap.

    The layer where freezing ends is itself frozen. Source: Gu et al. 2025 (SALF), section on the end-of-freezing
    layer; the cap, and leaving out layer 0 of a tied model, are ours.
    """
    n_layers, cap = curve.n_layers, depth_cap(curve.n_layers)
    parameters = {"cap": cap}
    searched = slice(curve.start, cap)
    if curve.start >= cap:
        reason = (
            f"With {n_layers} layers and a maximum depth of {cap}, no layer is left to search for the largest drop."
        )
        return Decision("paper", parameters, None, None, (reason,))
    best = curve.start + int(np.argmax(curve.raw_gain.mean[searched]))
    picks = 1 + curve.start + np.argmax(curve.raw_gain_replicates[:, searched], axis=1)
    gain = curve.raw_gain.at(best)
    reason = (
        f"Layer {best} lowers the distance to the target most of layers {curve.start} to {cap - 1}, by "
        f"{interval_with_ci(gain, 4)}; it is the last frozen layer."
    )
    return concluded("paper", parameters, best + 1, reason, curve, picks)


def decide_by_hand(curve: GainCurve, depth: int) -> Decision:
    """The user's own depth, with what the reading says about it.

    Raises:
        ValueError: the depth is outside 0..L.
    """
    if not 0 <= depth <= curve.n_layers:
        raise ValueError(f"depth {depth} is outside 0..{curve.n_layers}")
    said = f"You chose depth {depth} of {curve.n_layers}."
    if curve.evidence.verdict == "no evidence":
        return Decision(
            "manual", {"depth": depth}, depth, depth, (said, "The analysis gives no evidence for any depth.")
        )
    return Decision("manual", {"depth": depth}, depth, depth, (said,))


def concluded(
    rule: RuleName, parameters: dict[str, Any], candidate: int, reason: str, curve: GainCurve, picks: Depths
) -> Decision:
    """The candidate as a recommendation, or an abstention when there are doubts; `picks` are those of replicates."""
    low, high = pick_range(picks)
    against = doubts(curve, low, high)
    return Decision(
        rule=rule,
        parameters=parameters,
        candidate_depth=candidate,
        freeze_depth=None if against else candidate,
        reasons=against or (reason,),
        pick_interval=(low, high),
    )


def doubts(curve: GainCurve, low: int, high: int) -> tuple[str, ...]:
    """Reasons to abstain when the pick ranges from `low` to `high` over replicates; empty when there are none."""
    found = list(curve.evidence.reasons) if curve.evidence.verdict == "no evidence" else []
    if not math.isfinite(curve.coverage.mean[0]):
        found.append("Lift over random labels rises in no layer, so there is no coverage to measure.")
    elif not curve.isotonic_r_squared >= MIN_R_SQUARED:
        found.append(
            f"Lift over random labels does not rise steadily through the layers: a rising curve explains "
            f"R^2 = {number(curve.isotonic_r_squared, 2)} of it; {MIN_R_SQUARED:g} is required."
        )
    return (*found, *instability(low, high, curve.n_layers))


def instability(low: int, high: int, n_layers: int) -> tuple[str, ...]:
    """The reason to abstain when picks from `low` to `high` are more than max(1, L/4) apart; empty when not."""
    if high - low <= widest_range(n_layers):
        return ()
    return (
        f"The selected depth is unstable: over bootstrap samples it ranges from {low} to {high} (5th to 95th "
        f"percentile), more than {widest_range(n_layers):g} layers. More examples would narrow it.",
    )


def pick_range(picks: Depths) -> tuple[int, int]:
    """5th and 95th percentile of the picks of bootstrap replicates."""
    low, high = (int(p) for p in np.percentile(picks, [5, 95], method="nearest"))
    return low, high


def widest_range(n_layers: int) -> float:
    """Layers that picks may lie apart and still say the same, max(1, L/4)."""
    return max(1.0, n_layers / 4)
