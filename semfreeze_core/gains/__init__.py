"""Layer contributions from deviations: lift over random labels, isotonic curve, coverage, scaling law; no torch."""

from semfreeze_core.gains.coverage import gain_coverage
from semfreeze_core.gains.curve import coverage_of_layers, gain_curve
from semfreeze_core.gains.scaling_law import compare_formulas, fit_scaling_law
from semfreeze_core.gains.score_coverage import score_coverage

__all__ = ["compare_formulas", "coverage_of_layers", "fit_scaling_law", "gain_coverage", "gain_curve", "score_coverage"]
