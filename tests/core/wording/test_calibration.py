"""Calibration says in which direction estimates were off, and on how many finetunes that rests."""

import pytest

from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.prediction_error import Calibration
from semfreeze_core.wording import calibration as wording


@pytest.mark.parametrize(
    ("low", "high", "spread", "sentence"),
    [
        (
            -0.2,
            -0.1,
            0.05,
            "On average, coverage at the same steps was underestimated by 15 percentage points (95% CI -20 to -10 "
            "percentage points, positive is too high; 3 finetunes, 4 variants; standard deviation 5 percentage "
            "points).",
        ),
        (
            None,
            None,
            None,
            "On average, coverage at the same steps was underestimated by 15 percentage points (3 finetunes, 4 "
            "variants); one finetune gives no interval.",
        ),
    ],
)
def test_calibration_names_direction_and_sample(low, high, spread, sentence):
    error = IntervalEntry(estimate=-0.15, low=low, high=high)
    one = Calibration(quantity="coverage at equal steps", n_finetunes=3, n_arms=4, error=error, spread=spread)
    assert wording.calibration_sentence(one) == sentence
    better = IntervalEntry(estimate=0.9, low=0.8, high=1.0)
    assert wording.corrected_sentence(0.75, one, better).endswith(
        "Corrected for that, R(k) = 0.75 becomes 0.90 (next finetune, 95%: 0.80 to 1.00)."
    )
