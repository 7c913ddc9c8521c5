import math

import numpy as np
import pytest

from semfreeze_core.gains.evidence import judge_evidence
from semfreeze_core.records.trace import TransitionTrace
from tests.core.gains.traces import make_pairs, make_trace, no_pairs

RISING, FLAT = np.linspace(0, 0.2, 7), np.zeros(7)


def test_judge_evidence_says_so_when_both_controls_are_clear() -> None:
    evidence = judge_evidence(make_trace(RISING), make_pairs(0.05, spaces=7), seed=0)
    assert evidence.verdict == "evidence"
    # From space 1 to space L: five of six equal steps of 0.2.
    assert evidence.advantage.estimate == pytest.approx(0.2 * 5 / 6, abs=0.005)
    assert evidence.task_null.estimate == pytest.approx(0.05, abs=0.005)
    for interval in (evidence.advantage, evidence.task_null):
        assert 0 < interval.low < interval.estimate < interval.high
    assert evidence.n_pairs == 32
    assert len(evidence.reasons) == 2
    assert "rises by 0.1" in evidence.reasons[0]
    assert "(32 prompts)" in evidence.reasons[1]


def test_judge_evidence_intervals_equal_a_hand_computed_case() -> None:
    # Without spread among examples the intervals have no width: a_L - a_1 = 0.5 - 0.25, swapped - own = 0.125.
    trace = make_trace([0.75, 0.25, 0.5], noise=0.0)
    trace = TransitionTrace("semantic", *[np.round(m * 8) / 8 for m in (trace.null - trace.advantage, trace.null)] * 3)
    evidence = judge_evidence(trace, make_pairs(0.125, spaces=3, noise=0.0), seed=0)
    assert evidence.advantage.estimate == pytest.approx(0.25, abs=1e-6)
    assert evidence.task_null.estimate == pytest.approx(0.125, abs=1e-6)
    assert evidence.verdict == "evidence"


def test_judge_evidence_does_not_count_the_rise_into_space_one() -> None:
    # Nothing happens after the first layer: the embedding alone told the label.
    evidence = judge_evidence(make_trace([0, *[0.3] * 6]), make_pairs(0.05, spaces=7), seed=0)
    assert evidence.verdict == "no evidence"
    assert abs(evidence.advantage.estimate) < 0.01


def test_judge_evidence_misses_a_rise_whose_interval_holds_zero() -> None:
    evidence = judge_evidence(make_trace(FLAT, noise=0.1), make_pairs(0.05, spaces=7), seed=0)
    assert evidence.verdict == "no evidence"
    assert evidence.advantage.low < 0 < evidence.advantage.high
    assert evidence.reasons == (
        f"From the first to the last layer, lift over random labels rises by {evidence.advantage.estimate:.3f} "
        f"(95% CI {evidence.advantage.low:.3f} to {evidence.advantage.high:.3f}): no significant rise.",
    )


def test_judge_evidence_misses_a_difference_whose_interval_holds_zero() -> None:
    evidence = judge_evidence(make_trace(RISING), make_pairs(0.0, spaces=7, noise=0.1), seed=0)
    assert evidence.verdict == "no evidence"
    assert evidence.task_null.low < 0 < evidence.task_null.high
    assert len(evidence.reasons) == 1
    assert "no significant change" in evidence.reasons[0]


@pytest.mark.parametrize(("rise", "difference"), [(-0.2, 0.05), (0.2, -0.05)])
def test_judge_evidence_is_not_persuaded_by_a_clear_change_for_the_worse(rise: float, difference: float) -> None:
    evidence = judge_evidence(make_trace(np.linspace(0, rise, 7)), make_pairs(difference, spaces=7), seed=0)
    assert evidence.verdict == "no evidence"


def test_judge_evidence_looks_at_the_last_space_of_the_pairs() -> None:
    pairs = make_pairs(0.0, spaces=7, noise=0.001)
    pairs.swapped[:, :-1] += 0.3
    assert judge_evidence(make_trace(RISING), pairs, seed=0).verdict == "no evidence"


def test_judge_evidence_pairs_by_prompt() -> None:
    # Prompts differ by 0.1 among each other; a difference of 0.01 shows only when each is compared with itself.
    evidence = judge_evidence(make_trace(RISING), make_pairs(0.01, spaces=7, noise=0.001), seed=0)
    assert evidence.verdict == "evidence"
    assert evidence.task_null.high - evidence.task_null.low < 0.002


def test_judge_evidence_finds_none_when_all_labels_are_equal() -> None:
    deviation = make_trace(RISING).deviation
    trace = TransitionTrace("semantic", *[deviation] * 6)
    evidence = judge_evidence(trace, make_pairs(0.05, spaces=7), seed=0)
    assert evidence.verdict == "no evidence"
    assert evidence.reasons == ("All labels are the same, so none differs from a random one.",)


def test_judge_evidence_finds_none_without_pairs() -> None:
    evidence = judge_evidence(make_trace(RISING), no_pairs(7), seed=0)
    assert evidence.verdict == "no evidence"
    assert evidence.reasons == ("The swapped-completion control is undefined: only 0 of 64 examples have a prompt.",)
    assert math.isnan(evidence.task_null.estimate)
    assert evidence.n_pairs == 0
    assert evidence.advantage.low > 0


def test_judge_evidence_gives_both_reasons_when_both_controls_fail() -> None:
    evidence = judge_evidence(make_trace(FLAT), no_pairs(7), seed=0)
    assert len(evidence.reasons) == 2
