import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.gains import fit_scaling_law
from semfreeze_core.plan.rules import (
    Decision,
    coverage_scores,
    decide_by_coverage,
    decide_by_paper,
    decide_by_turning,
    depth_cap,
    manual_decision,
    reachable_depth,
)
from tests.core.plan.curves import NO_EVIDENCE, last_layer_alone, make_curve, straight

# fmt: off
CAPS = {
    2: 1, 3: 2, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6, 9: 6, 10: 7, 11: 8, 12: 9, 13: 9, 14: 10, 15: 11, 16: 12, 17: 12, 18: 13,
    19: 14, 20: 15, 21: 15, 22: 16, 23: 17, 24: 18, 25: 18, 26: 19, 27: 20, 28: 21, 29: 21, 30: 22, 31: 23, 32: 24,
    33: 24, 34: 25, 35: 26, 36: 27, 37: 27, 38: 28, 39: 29, 40: 30,
}
# fmt: on

some_layers = pytest.mark.parametrize("n_layers", [2, 3, 4, 7, 12, 30, 40])
monotone = st.lists(st.floats(0, 1), min_size=2, max_size=30).filter(lambda g: sum(g) > 1e-3)


def _coverage_of(gains: list[float]) -> np.ndarray:
    tail = np.append(np.cumsum(gains[::-1])[::-1], 0.0)
    return tail / tail[0]


def test_depth_cap_equals_the_table() -> None:
    assert {n_layers: depth_cap(n_layers) for n_layers in CAPS} == CAPS


def test_depth_cap_leaves_a_quarter_of_the_layers_trainable() -> None:
    for n_layers in CAPS:
        assert n_layers - depth_cap(n_layers) == math.ceil(n_layers / 4)
        assert 1 <= depth_cap(n_layers) < n_layers


def test_reachable_depth_equals_a_hand_computed_case() -> None:
    assert reachable_depth(30, 0.65, 0.5) == pytest.approx(21)
    assert reachable_depth(40, 0.8, 0.75) == pytest.approx(32)


@some_layers
def test_reachable_depth_of_the_defaults_is_within_a_quarter_of_the_layers_of_the_cap(n_layers: int) -> None:
    assert abs(reachable_depth(n_layers, 0.65, 0.5) - depth_cap(n_layers)) <= max(0.4, n_layers / 4)
    assert abs(reachable_depth(n_layers, 0.65, 0.5) - depth_cap(n_layers)) <= 0.05 * n_layers + 1


def test_coverage_scores_equal_a_hand_computed_case() -> None:
    # w R + (1 - w)(L - k)/L with w = 1/4: 1, .25*.8 + .75*.5, 0.
    np.testing.assert_allclose(coverage_scores(np.array([1, 0.8, 0]), 0.25), [1, 0.575, 0])


def test_coverage_scores_of_an_unknown_replicate_argue_for_nothing() -> None:
    scores = coverage_scores(np.array([[1, 0.8, 0], [math.nan] * 3]), 0.5)
    assert np.isfinite(scores[0]).all()
    assert (scores[1] == -np.inf).all()


def test_decide_by_coverage_equals_a_hand_computed_case() -> None:
    # L = 10, cap 7. Scores 0.5 R + 0.5 (10 - k)/10: k = 4: .5 + .3 = .8; k = 5: .45 + .25 = .7; k = 6: .4 + .2 = .6.
    curve = make_curve([1, 1, 1, 1, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0])
    assert decide_by_coverage(curve, tau=0.75).freeze_depth == 4
    assert decide_by_coverage(curve, tau=0.69).freeze_depth == 5
    assert decide_by_coverage(curve).freeze_depth == 5
    assert decide_by_coverage(curve, tau=0.55).freeze_depth == 6
    # w = 1/4: k = 4: .25 + .45 = .7; k = 5: .225 + .375 = .6.
    assert decide_by_coverage(curve, tau=0.65, weight=0.25).freeze_depth == 4
    decision = decide_by_coverage(curve)
    assert decision.recommendation == "freeze"
    assert decision.candidate_depth == 5
    assert decision.pick_interval == (5, 5)
    assert decision.parameters == {"tau": 0.65, "weight": 0.5, "cap": 7, "reachable_depth": pytest.approx(7)}
    (reason,) = decision.reasons
    assert reason.startswith("5 of 10 is the deepest allowed depth (maximum 7)")
    assert "Coverage R(5) is 0.90." in reason


@some_layers
def test_decide_by_coverage_reaches_seven_tenths_when_all_gain_is_in_the_last_layer(n_layers: int) -> None:
    depth = decide_by_coverage(make_curve(last_layer_alone(n_layers))).freeze_depth
    assert depth == min(7 * n_layers // 10, CAPS[n_layers])


@some_layers
def test_decide_by_coverage_of_exchangeable_layers_freezes_their_share(n_layers: int) -> None:
    # R(k) = (L - k)/L is the score itself: at least 0.65 up to 0.35 L.
    assert decide_by_coverage(make_curve(straight(n_layers))).freeze_depth == 35 * n_layers // 100


@given(monotone, st.floats(0.01, 1), st.floats(0, 0.99))
@settings(derandomize=True, deadline=None)
def test_decide_by_coverage_never_goes_beyond_the_cap(gains: list[float], tau: float, weight: float) -> None:
    decision = decide_by_coverage(make_curve(_coverage_of(gains)), tau=tau, weight=weight)
    assert decision.candidate_depth is not None
    assert 0 <= decision.candidate_depth <= depth_cap(len(gains))


def test_decide_by_coverage_stops_at_the_cap_however_little_is_asked() -> None:
    decision = decide_by_coverage(make_curve(last_layer_alone(12)), tau=0.01)
    assert decision.freeze_depth == 9
    assert decision.pick_interval == (9, 9)


@given(monotone, st.floats(0, 0.99))
@settings(derandomize=True, deadline=None)
def test_decide_by_coverage_freezes_less_the_more_is_asked(gains: list[float], weight: float) -> None:
    curve = make_curve(_coverage_of(gains))
    depths = [decide_by_coverage(curve, tau=tau, weight=weight).candidate_depth for tau in np.linspace(0.05, 1, 20)]
    assert depths == sorted(depths, key=lambda d: -1 if d is None else d, reverse=True)


def test_decide_by_coverage_goes_by_the_tenth_percentile() -> None:
    good, bad = last_layer_alone(10), straight(10)  # depth 7 and depth 3
    for n_bad, depth in ((9, 7), (10, 3), (30, 3)):
        replicates = [bad] * n_bad + [good] * (100 - n_bad)
        assert decide_by_coverage(make_curve(good, replicates=replicates)).candidate_depth == depth


@pytest.mark.parametrize(("n_unknown", "depth"), [(0, 7), (9, 7), (11, 0), (100, 0)])
def test_decide_by_coverage_lets_unknown_replicates_argue_for_less(n_unknown: int, depth: int) -> None:
    replicates = np.tile(last_layer_alone(10), (100, 1))
    replicates[:n_unknown] = np.nan
    decision = decide_by_coverage(make_curve(last_layer_alone(10), replicates=replicates))
    assert decision.candidate_depth == depth
    assert decision.pick_interval is not None
    assert decision.pick_interval[0] == (7 if n_unknown == 0 else 0)


def test_decide_by_coverage_abstains_when_the_pick_is_unstable_and_keeps_the_candidate() -> None:
    replicates = [last_layer_alone(10)] * 80 + [straight(10)] * 20  # 7 or 3, more than 10/4 apart
    decision = decide_by_coverage(make_curve(last_layer_alone(10), replicates=replicates))
    assert decision.recommendation == "abstain"
    assert decision.freeze_depth is None
    assert decision.candidate_depth == 3
    assert decision.pick_interval == (3, 7)
    (reason,) = decision.reasons
    assert reason.startswith("The selected depth is unstable: over bootstrap samples it ranges from 3 to 7")


@pytest.mark.parametrize(("n_layers", "apart", "stable"), [(4, 1, True), (4, 2, False), (12, 3, True), (12, 4, False)])
def test_decide_by_coverage_allows_the_pick_to_range_over_a_quarter_of_the_layers(
    n_layers: int, apart: int, stable: bool
) -> None:
    # Nothing is asked of exchangeability (w = 0.9), so that R(k) alone sets the pick: it falls to 0 after `deepest`.
    deepest = depth_cap(n_layers)

    def falls_after(depth: int) -> np.ndarray:
        return (np.arange(n_layers + 1) <= depth).astype(float)

    replicates = [falls_after(deepest)] * 50 + [falls_after(deepest - apart)] * 50
    decision = decide_by_coverage(make_curve(falls_after(deepest), replicates=replicates), tau=0.5, weight=0.9)
    assert decision.pick_interval == (deepest - apart, deepest)
    assert (decision.recommendation == "freeze") is stable


def _assert_abstains(decision: Decision, candidate: int, word: str) -> None:
    assert decision.recommendation == "abstain"
    assert decision.freeze_depth is None
    assert decision.candidate_depth == candidate
    assert any(word in reason for reason in decision.reasons)


@pytest.mark.parametrize(("r_squared", "freezes"), [(0.85, True), (0.8499, False), (math.nan, False), (0.99, True)])
def test_decide_abstains_when_a_rising_curve_explains_too_little(r_squared: float, freezes: bool) -> None:
    curve = make_curve(last_layer_alone(10), [0, 0, 0, 0, 9, 0, 0, 0, 0, 0], r_squared=r_squared)
    for decision, candidate in ((decide_by_coverage(curve), 7), (decide_by_paper(curve), 5)):
        if freezes:
            assert decision.freeze_depth == candidate
        else:
            _assert_abstains(decision, candidate, "does not rise steadily")


def test_decide_abstains_without_evidence() -> None:
    curve = make_curve(last_layer_alone(10), [0, 0, 0, 0, 9, 0, 0, 0, 0, 0], verdict="no evidence")
    _assert_abstains(decide_by_coverage(curve), 7, NO_EVIDENCE)
    _assert_abstains(decide_by_paper(curve), 5, NO_EVIDENCE)


def test_decide_abstains_when_nothing_rises() -> None:
    unknown = np.full(11, np.nan)
    _assert_abstains(decide_by_coverage(make_curve(unknown)), 0, "does not rise at any layer")
    _assert_abstains(
        decide_by_paper(make_curve(unknown, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0])), 1, "does not rise at any layer"
    )


def test_decide_gives_every_reason_to_abstain() -> None:
    replicates = [last_layer_alone(10)] * 80 + [straight(10)] * 20
    curve = make_curve(last_layer_alone(10), replicates=replicates, r_squared=0.5, verdict="no evidence")
    assert len(decide_by_coverage(curve).reasons) == 3


def test_decide_by_paper_equals_a_hand_computed_case() -> None:
    # L = 8, cap 6. Layer 3 gains most among layers 0 to 5: freezing ends with it, at depth 4.
    decision = decide_by_paper(make_curve(straight(8), [0.1, -0.2, 0.0, 0.4, 0.3, 0.1, 0.2, 0.3]))
    assert decision.freeze_depth == decision.candidate_depth == 4
    assert decision.pick_interval == (4, 4)
    assert decision.parameters == {"cap": 6}
    assert decision.reasons[0].startswith(
        "Among layers 0–5, layer 3 reduces the distance to the target most: by 0.4000 (95% CI "
    )


def test_decide_by_paper_restricts_its_search_and_does_not_clip() -> None:
    # The largest gain of all is in layer 7, beyond the cap: clipped it would give 6; searched below, layer 2 gives 3.
    assert decide_by_paper(make_curve(straight(8), [0, 0, 0.4, 0.1, 0, 0, 0, 9])).freeze_depth == 3
    # Layer cap - 1 is the last that may be frozen.
    assert decide_by_paper(make_curve(straight(8), [0, 0, 0.4, 0.1, 0, 0.5, 0, 0])).freeze_depth == 6
    assert decide_by_paper(make_curve(straight(8), [0, 0, 0.4, 0.1, 0, 0, 0.5, 0])).freeze_depth == 3


def test_decide_by_paper_takes_the_least_loss_when_all_gains_are_negative() -> None:
    assert decide_by_paper(make_curve(straight(4), [-3, -1, -2, 5])).freeze_depth == 2


def test_decide_by_paper_leaves_layer_0_of_a_tied_model_out() -> None:
    gains = [9, 0.1, 0.3, 0.2, 0.1, 0, 0, 0]
    assert decide_by_paper(make_curve(straight(8), gains)).freeze_depth == 1
    tied = decide_by_paper(make_curve(straight(8), gains, start=1))
    assert tied.freeze_depth == 3
    assert tied.pick_interval == (3, 3)


def test_decide_by_paper_has_nothing_to_search_in_a_tied_model_of_two_layers() -> None:
    decision = decide_by_paper(make_curve(straight(2), [1, 1], start=1))
    assert decision.recommendation == "abstain"
    assert decision.candidate_depth is None
    assert decision.pick_interval is None
    assert "no layer is left to search" in decision.reasons[0]
    assert decide_by_paper(make_curve(straight(2), [1, 1])).freeze_depth == 1


def test_decide_by_paper_abstains_when_replicates_disagree() -> None:
    one, other = [1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]
    mixed = make_curve(straight(8), one, raw_gain_replicates=[one] * 80 + [other] * 20)
    decision = decide_by_paper(mixed)
    assert decision.pick_interval == (1, 5)
    _assert_abstains(decision, 1, "The selected depth is unstable")
    rarely = make_curve(straight(8), one, raw_gain_replicates=[one] * 97 + [other] * 3)
    assert decide_by_paper(rarely).freeze_depth == 1


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=30), st.integers(0, 1))
@settings(derandomize=True, deadline=None)
def test_decide_by_paper_never_goes_beyond_the_cap(gains: list[float], start: int) -> None:
    decision = decide_by_paper(make_curve(straight(len(gains)), gains, start=start))
    assert decision.candidate_depth is not None
    assert 1 + start <= decision.candidate_depth <= depth_cap(len(gains))


@pytest.mark.parametrize("depth", [0, 4, 9, 10])
def test_decide_by_hand_takes_any_depth_of_the_model(depth: int) -> None:
    decision = manual_decision(make_curve(straight(10)), depth)
    assert decision.freeze_depth == decision.candidate_depth == depth
    assert decision.recommendation == "freeze"
    assert decision.rule == "manual"
    assert decision.parameters == {"depth": depth}
    assert decision.pick_interval is None
    assert decision.reasons == (f"You chose depth {depth} of 10.",)


def test_decide_by_hand_says_when_there_is_no_evidence() -> None:
    decision = manual_decision(make_curve(straight(10), verdict="no evidence"), 4)
    assert decision.freeze_depth == 4
    assert decision.reasons[-1] == "The analysis gives no evidence for any depth."


@pytest.mark.parametrize("depth", [-1, 11])
def test_decide_by_hand_refuses_a_depth_the_model_does_not_have(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth {depth} is outside 0\.\.10"):
        manual_decision(make_curve(straight(10)), depth)


def test_decide_by_turning_freezes_what_gains_less_than_the_average_layer() -> None:
    gains = [0.0] * 12 + [1.0] * 8
    decision = decide_by_turning(make_curve(_coverage_of(gains)))
    assert (decision.rule, decision.freeze_depth, decision.candidate_depth) == ("turning", 12, 12)
    assert decision.pick_interval == (12, 12)
    assert "the turning depth is 12 of 20" in decision.reasons[0]
    assert "maximum depth" not in decision.reasons[0]


def test_decide_by_turning_stops_at_the_cap() -> None:
    decision = decide_by_turning(make_curve(last_layer_alone(20)))
    assert decision.freeze_depth == decision.parameters["cap"] == 15
    assert "The maximum depth is 15." in decision.reasons[0]


def test_decide_by_turning_freezes_nothing_where_layers_gain_the_same_or_ever_less() -> None:
    for gains in ([1.0] * 20, [0.5**i for i in range(20)]):
        decision = decide_by_turning(make_curve(_coverage_of(gains)))
        assert (decision.recommendation, decision.freeze_depth) == ("freeze", 0)


def test_decide_by_turning_abstains_where_no_law_fits() -> None:
    steps = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1.0])
    curve = replace(make_curve(straight(11)), law=fit_scaling_law(steps, steps[None], 0))
    decision = decide_by_turning(curve)
    assert (decision.candidate_depth, decision.freeze_depth, decision.recommendation) == (None, None, "abstain")
    assert decision.reasons[-1].startswith("No scaling law fits, so there is no turning depth: a broken power law")


def test_decide_by_turning_abstains_without_evidence_and_where_replicates_disagree() -> None:
    assert decide_by_turning(make_curve(last_layer_alone(20), verdict="no evidence")).reasons == (NO_EVIDENCE,)
    late, early = _coverage_of([0.0] * 14 + [1.0] * 6), _coverage_of([0.0] * 4 + [1.0] * 16)
    unstable = decide_by_turning(make_curve(late, replicates=[late] * 50 + [early] * 50))
    assert (unstable.candidate_depth, unstable.freeze_depth, unstable.pick_interval) == (14, None, (4, 14))
    assert unstable.reasons[0].startswith("The selected depth is unstable")
