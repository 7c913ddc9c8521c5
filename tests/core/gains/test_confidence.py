"""One number, `defaults.CONFIDENCE`, sets the level of every interval."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from semfreeze_core.gains.best_checkpoint import rise
from semfreeze_core.gains.bootstrap import (
    end_percentiles,
    mean_interval,
    normal_quantile,
    resampling_weights,
    tail_fraction,
)
from semfreeze_core.gains.calibration import calibrate, corrected
from semfreeze_core.gains.difference import difference
from semfreeze_core.gains.noninferiority import draw, improvement, improvement_kept, judge
from semfreeze_core.gains.pilots import examples_needed, paired_difference
from semfreeze_core.gains.regret import regret
from semfreeze_core.records import defaults
from semfreeze_core.records.interval import ci_label
from semfreeze_core.records.prediction_error import PredictedMeasured

RNG = np.random.default_rng(0)
BEFORE = 1 + RNG.random(80)
FULL = BEFORE - 0.8 + 0.2 * RNG.standard_normal((3, 80))
PLANNED = FULL + 0.05 * RNG.standard_normal((3, 80))
DRAWS = draw(3, 80)
CURVES = RNG.standard_normal((2, 200, 5))
ERRORS = [
    PredictedMeasured(quantity="memory", finetune=str(i), arm="full", predicted=measured, measured=1.0)
    for i, measured in enumerate((0.8, 1.1, 1.5, 0.9))
]


def _difference_width() -> float:
    band = difference(*CURVES.mean(axis=1), *CURVES, paired=True).band
    return float((band.high - band.low).max())


def _calibration_width() -> float:
    error = calibrate(ERRORS)[0].error
    assert error.low is not None
    assert error.high is not None
    return error.high - error.low


def _corrected_width() -> float:
    interval = corrected(0.9, calibrate(ERRORS)[0])
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


INTERVALS = {
    "bootstrap": lambda: mean_interval(BEFORE, resampling_weights(80, 0)),
    "improvement": lambda: improvement(BEFORE, FULL, DRAWS),
    "improvement kept": lambda: improvement_kept(BEFORE, FULL, PLANNED, DRAWS),
    "judgment": lambda: judge(BEFORE, FULL, PLANNED).reduction_share,
    "regret": lambda: regret(BEFORE, FULL, PLANNED, DRAWS),
    "paired t": lambda: paired_difference(FULL[0], PLANNED[0]),
    "rise": lambda: rise(np.stack([FULL[0], FULL[0] + 0.05 * BEFORE]))[1],
}
WIDTHS: dict[str, Callable[[], float]] = {
    **{name: lambda make=make: make().high - make().low for name, make in INTERVALS.items()},
    "difference band": _difference_width,
    "calibration t": _calibration_width,
    "next finetune": _corrected_width,
    "examples needed": lambda: float(examples_needed(FULL[0], PLANNED[0]) or 0),
}


@pytest.mark.parametrize("name", WIDTHS)
def test_every_interval_narrows_with_the_confidence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_default = WIDTHS[name]()
    monkeypatch.setattr(defaults, "CONFIDENCE", 0.90)
    assert 0 < WIDTHS[name]() < at_default


def test_judge_passes_more_easily_at_a_lower_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts() -> set[float]:
        shifts = np.linspace(0.0, 0.1, 41)
        return {shift for shift in shifts if judge(BEFORE, FULL, PLANNED + shift).verdict == "holds"}

    at_default = verdicts()
    monkeypatch.setattr(defaults, "CONFIDENCE", 0.60)
    assert at_default
    assert at_default < verdicts()


def test_levels_at_the_default_confidence_are_exact() -> None:
    assert defaults.CONFIDENCE == 0.95
    assert end_percentiles() == (2.5, 97.5)
    assert end_percentiles(sides=1) == (5.0, 95.0)
    assert (tail_fraction(), tail_fraction(sides=1)) == (0.025, 0.05)
    assert 1 - tail_fraction() == 0.975
    assert normal_quantile() == 1.96
    assert ci_label() == "95% CI"


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.9, 0.975, 0.99, 0.999])
def test_levels_follow_the_confidence(confidence: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "CONFIDENCE", confidence)
    low, high = end_percentiles()
    assert high - low == pytest.approx(100 * confidence)
    assert low + high == 100
    assert normal_quantile() == pytest.approx(stats.norm.ppf((1 + confidence) / 2), abs=0.005)
    assert ci_label() == f"{100 * confidence:.3g}% CI"


def test_no_sentence_types_the_level():
    """What people read takes the level from CONFIDENCE: docstrings may give an example, other strings may not."""
    for path in [*Path("semfreeze_core").rglob("*.py"), *Path("dashboard").rglob("*.py")]:
        tree = ast.parse(path.read_text())
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                assert not re.search(r"\b95 ?%", node.value), f"{path}:{node.lineno}: {node.value}"
