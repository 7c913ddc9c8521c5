"""The JSON documents that commands print: a run's curves, a comparison. Keys are a promise to scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from semfreeze_core.gains import score_coverage
from semfreeze_core.gains.bootstrap import mean_band, resampling_weights
from semfreeze_core.plan.compare import SideBySide
from semfreeze_core.plan.depth_spread import DepthSpread, depth_spread
from semfreeze_core.plan.make import curve_of
from semfreeze_core.plan.opinions import Comparison, Opinion
from semfreeze_core.plan.slices import Slice
from semfreeze_core.records.gain import Band, GainCurve, Interval
from semfreeze_core.records.run import Run
from semfreeze_core.records.scores import LayerScore
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.wording.rules import depth_spread_sentence, repeatability_reason

_TIED_REASON = "tied head: space 0 predicts its own input token, so layer 0's gain is not measured"


def show_document(run: Run, folder: Path, metric: str) -> dict[str, Any]:
    """Everything that `show` reports of a run; gains, coverage, evidence and the task null are those of `metric`."""
    curve = curve_of(run, metric)
    manifest = run.manifest
    weights = resampling_weights(run.n_examples, manifest.settings.seed)
    traces = run.traces
    return {
        "run": str(folder),
        "n_layers": run.shape.n_layers,
        "n_examples": run.n_examples,
        "n_supervised_tokens": manifest.data.n_supervised_tokens,
        "n_positions_read": manifest.data.n_positions_read,
        "metric": metric,
        "deviation": {m: _band(mean_band(t.deviation, weights)) for m, t in traces.items()},
        "null": {m: _band(mean_band(t.null, weights)) for m, t in traces.items()},
        "advantage": {m: _band(mean_band(t.advantage, weights)) for m, t in traces.items()},
        "first_token": {m: _apart(t.first_deviation, t.first_null, weights) for m, t in traces.items()},
        "later_tokens": {m: _apart(t.later_deviation, t.later_null, weights) for m, t in traces.items()},
        "task_null": {
            **_interval(curve.evidence.task_null),
            "n_pairs": curve.evidence.n_pairs,
            "reason": manifest.task_null_reason or None,
        },
        "gain": {**_band(curve.gain), "reason": _TIED_REASON if run.shape.tied else None},
        "raw_gain": _band(curve.raw_gain),
        "gain_coverage": {**_band(curve.coverage), "status": "predicted, unvalidated", "reason": _no_coverage(curve)},
        "isotonic": {
            "fitted": curve.isotonic.tolist(),
            "r_squared": curve.isotonic_r_squared,
            "reason": _why_unmeasured(curve),
        },
        "scaling_law": _law(curve),
        "example_picks": _depth_spread_entry(depth_spread(run, metric)),
        "scores": {name: _score(score) for name, score in run.scores.items()},
        "scores_to_come": list(manifest.scores_to_come),
        "projection_to_come": manifest.projection_to_come,
        "evidence": {
            "verdict": curve.evidence.verdict,
            "reasons": list(curve.evidence.reasons),
            "advantage": _interval(curve.evidence.advantage),
        },
        "extraction": manifest.extraction.model_dump(),
        "model": manifest.model.model_dump(mode="json"),
        "data": manifest.data.model_dump(),
        "settings": manifest.settings.model_dump(),
        "notes": manifest.notes,
        "warnings": manifest.warnings,
        "provenance": manifest.provenance.model_dump(),
        "validations": {
            name: report.model_dump(mode="json", exclude={"runs"}) for name, report in list_validations(folder).items()
        },
    }


def compare_document(comparison: Comparison, folder: Path) -> dict[str, Any]:
    """Everything that `plan --compare` reports; R(k) and bounds that are not known are null, with their reasons."""
    agreement = comparison.agreement
    return {
        "run": str(folder),
        "n_layers": comparison.n_layers,
        "setup": asdict(comparison.setup),
        "rules": {name: _opinion(opinion) for name, opinion in comparison.rules.items()},
        "scores": {
            name: {**_opinion(opinion), "sample": opinion.sample} for name, opinion in comparison.scores.items()
        },
        "agreement": {"low": agreement.low, "high": agreement.high, "words": agreement.summary},
    }


def side_by_side_document(
    compared: SideBySide, folders: Mapping[str, Path], proofs: Mapping[str, Mapping[str, ValidationReport]]
) -> dict[str, Any]:
    """Everything that `compare` reports: each run's curves and plan, and the differences from the first run."""
    return {
        "metric": compared.metric,
        "warnings": list(compared.warnings),
        "runs": {
            column.name: {
                "run": str(folders[column.name]),
                "model": column.run.manifest.model.identity.source,
                "data": column.run.manifest.data.source,
                "n_examples": column.curve.n_examples,
                "n_layers": column.curve.n_layers,
                "evidence": column.curve.evidence.verdict,
                "advantage": _band(column.curve.advantage),
                "gain_coverage": _band(column.curve.coverage),
                "plan": {**_opinion(column.opinion), "relative_depth": column.relative_depth},
                "validations": {
                    name: {"freeze_depth": report.freeze_depth, "verdict": report.verdict, "reason": report.reason}
                    for name, report in proofs[column.name].items()
                },
            }
            for column in compared.columns
        },
        "differences": {
            name: {
                quantity: {
                    "relative_depth": difference.depth.tolist(),
                    **_band(difference.band),
                    "paired": difference.paired,
                    "differs_for_sure": difference.surely,
                }
                for quantity, difference in quantities.items()
            }
            for name, quantities in compared.differences.items()
        },
    }


def _opinion(opinion: Opinion) -> dict[str, Any]:
    cost = opinion.cost
    return {
        "freeze_depth": opinion.freeze_depth,
        "candidate_depth": opinion.candidate_depth,
        "gain_coverage": _interval(opinion.gain_coverage),
        "relative_flop": None if cost is None else cost.relative_flop,
        "relative_bytes": None if cost is None else cost.relative_bytes,
        "recommendation": opinion.recommendation,
        "reasons": list(opinion.reasons),
    }


def _score(score: LayerScore) -> dict[str, Any]:
    single = None if score.replicates is not None else "measured once, so R(k) has no interval"
    return {
        "gain_coverage": _band(score_coverage(score)),
        "values": score.values.tolist(),
        "sample": score.sample,
        "reason": score.reason or single,
    }


def _band(band: Band) -> dict[str, Any]:
    return {"mean": band.mean.tolist(), "low": band.low.tolist(), "high": band.high.tolist()}


def slices_document(groups: Sequence[Slice], left_out: int, by: str) -> dict[str, Any]:
    """The coverage rule's depth for each group by itself."""
    return {
        "by": by,
        "left_out": left_out,
        "groups": [
            {
                "name": group.name,
                "n_examples": group.curve.n_examples,
                "candidate_depth": group.decision.candidate_depth,
                "pick_interval": list(group.pick),
                "gain_coverage": _band(group.curve.coverage),
            }
            for group in groups
        ],
    }


def _depth_spread_entry(spread: DepthSpread | None) -> dict[str, Any]:
    """Each example's depth by the paper rule; every number null where no layer is left to search."""
    sentence = depth_spread_sentence(spread)
    if spread is None:
        return {"rule": "paper", "depths": None, "range": None, "share": None, "verdict": None, "words": sentence}
    return {
        "rule": "paper",
        "depths": spread.depths.tolist(),
        "range": [spread.low, spread.high],
        "share": spread.share,
        "repeatability": {
            **_interval(spread.repeatability),
            "n_examples": spread.n_pairs,
            "reason": repeatability_reason(spread),
        },
        "verdict": spread.verdict,
        "words": sentence,
    }


def _apart(deviation: Any, null: Any, weights: Any) -> dict[str, Any]:
    known = int(np.isfinite(deviation[:, 0]).sum())
    return {
        "n_examples": known,
        "deviation": _band(mean_band(deviation, weights)),
        "advantage": _band(mean_band(null - deviation, weights)),
        "reason": None if known else "no example has such a token",
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}


def _why_unmeasured(curve: GainCurve) -> str | None:
    """Why the isotonic curve has a null in it."""
    reasons = ["tied head: the curve begins at space 1"] if curve.start else []
    if not np.isfinite(curve.isotonic_r_squared):
        reasons.append("the advantage is the same at every space, so no share of its variance can be explained")
    return "; ".join(reasons) or None


def _no_coverage(curve: GainCurve) -> str | None:
    return None if np.isfinite(curve.coverage.mean[0]) else "the advantage rises nowhere, so no share of it exists"


def _law(curve: GainCurve) -> dict[str, Any]:
    law = curve.law
    return {
        "form": "E + A ((s/t)^c - 1) / ((L/t)^c - 1) for s > t, else E",
        "quantity": "advantage",
        "floor": law.floor,
        "amplitude": law.amplitude,
        "exponent": law.exponent.estimate,
        "exponent_interval": _interval(law.exponent),
        "turn": _interval(law.turn),
        "turning_depth": _interval(law.turning_depth),
        "r_squared": law.r_squared,
        "fitted": law.fitted[1:].tolist(),
        "residuals": law.residuals[1:].tolist(),
        "gain": law.gain.tolist(),
        "gain_coverage": _band(law.coverage),
        "reason": law.reason or (_TIED_REASON if curve.start else None),
    }
