"""Why a run supports no freeze depth: no evidence, no steady progress, or a depth that moves between replicates.

A reason that holds whatever rule or score selects the depth belongs to `evidence_reasons`; `abstention_reasons` has
those of the rules as well.
"""

import math

import numpy as np
import numpy.typing as npt

from semfreeze_core.records.defaults import MIN_R_SQUARED, PICK_PERCENTILES
from semfreeze_core.records.gain import GainCurve


def evidence_reasons(curve: GainCurve) -> tuple[str, ...]:
    """Why the analysis is no evidence for any depth, whatever rule or score selects it; empty when it is evidence."""
    return tuple(curve.evidence.reasons) if curve.evidence.verdict == "no evidence" else ()


def abstention_reasons(curve: GainCurve, low: int, high: int) -> tuple[str, ...]:
    """Reasons to abstain when the pick ranges from `low` to `high` over replicates; empty when there are none."""
    reasons = list(evidence_reasons(curve))
    if not math.isfinite(curve.coverage.mean[0]):
        reasons.append("Lift over random labels does not rise at any layer, so no layer contributes.")
    elif not curve.isotonic_r_squared >= MIN_R_SQUARED:
        reasons.append(
            "Lift over random labels does not rise steadily through the layers: a rising curve fits it with "
            f"R² = {curve.isotonic_r_squared:.2f} (required: {MIN_R_SQUARED:g})."
        )
    return (*reasons, *instability(low, high, curve.n_layers))


def instability(low: int, high: int, n_layers: int) -> tuple[str, ...]:
    """The reason to abstain when picks from `low` to `high` are more than max(1, L/4) apart; empty when not."""
    if high - low <= widest_range(n_layers):
        return ()
    first, last = PICK_PERCENTILES
    return (
        f"The selected depth is unstable: over bootstrap samples it ranges from {low} to {high} ({first}th to "
        f"{last}th percentile), more than {widest_range(n_layers):g} layers. Analyze more examples to narrow it.",
    )


def pick_range(depths: npt.NDArray[np.int64]) -> tuple[int, int]:
    """PICK_PERCENTILES of the selected depths of bootstrap replicates."""
    low, high = (int(p) for p in np.percentile(depths, PICK_PERCENTILES, method="nearest"))
    return low, high


def widest_range(n_layers: int) -> float:
    """Layers that selected depths may lie apart and still agree, max(1, L/4)."""
    return max(1.0, n_layers / 4)
