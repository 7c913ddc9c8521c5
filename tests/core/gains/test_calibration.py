"""How far predictions were off: hand-computed means, each finetune once, and a correction that covers the next one."""

import numpy as np
import pytest
from scipy import stats

from semfreeze_core.gains.calibration import calibrate, corrected, error_of
from semfreeze_core.records.defaults import MIN_FINETUNES
from semfreeze_core.records.prediction_error import PredictedMeasured

STEPS = "coverage at equal steps"


def pair(quantity, finetune, predicted, measured, arm="planned"):
    return PredictedMeasured(quantity=quantity, finetune=finetune, arm=arm, predicted=predicted, measured=measured)


def test_errors_are_points_of_a_share_and_ratios_of_the_rest():
    assert error_of(pair(STEPS, "a", 0.9, 0.8)) == pytest.approx(0.1)
    assert error_of(pair("memory", "a", 50, 100)) == pytest.approx(-0.5)
    assert error_of(pair("FLOP", "a", 110, 100)) == pytest.approx(0.1)


def test_each_finetune_counts_once_with_the_mean_of_its_arms():
    pairs = [pair(STEPS, "a", 0.9, 0.8, "depth:1"), pair(STEPS, "a", 0.9, 0.6, "depth:2"), pair(STEPS, "b", 0.9, 0.85)]
    (calibration,) = calibrate(pairs)
    assert (calibration.n_finetunes, calibration.n_arms) == (2, 3)
    assert calibration.error.estimate == pytest.approx((0.2 + 0.05) / 2)
    interval = stats.t.interval(0.95, 1, 0.125, stats.sem([0.2, 0.05]))
    assert (calibration.error.low, calibration.error.high) == pytest.approx(interval)
    assert calibration.spread == pytest.approx(np.std([0.2, 0.05], ddof=1))


def test_one_finetune_has_no_interval_and_corrects_nothing():
    (calibration,) = calibrate([pair(STEPS, "a", 0.9, 0.8)])
    assert calibration.error.low is calibration.spread is None
    assert corrected(0.9, calibration) is None


def test_nothing_measured_is_no_calibration():
    assert calibrate([]) == []


def test_a_correction_takes_the_bias_off_and_covers_the_next_finetune():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        errors = rng.normal(0.06, 0.03, 6)
        (calibration,) = calibrate([pair(STEPS, str(i), 0.9, 0.9 - e) for i, e in enumerate(errors[:5])])
        better = corrected(0.9, calibration)
        assert better.estimate == pytest.approx(0.9 - np.mean(errors[:5]))
        inside += better.low <= 0.9 - errors[5] <= better.high
    assert 0.92 <= inside / 400 <= 0.98


def test_too_few_finetunes_correct_nothing():
    pairs = [pair(STEPS, str(i), 0.9, 0.8 + 0.01 * i) for i in range(MIN_FINETUNES)]
    assert corrected(0.9, calibrate(pairs[:-1])[0]) is None
    assert corrected(0.9, calibrate(pairs)[0]) is not None
