import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.rules import depth_cap
from semfreeze_core.plan.rules_by_cost import Budget, compute_scores, decide_by_budget, decide_by_compute
from semfreeze_core.wording.numbers import gib
from tests.core.plan.curves import NO_EVIDENCE, last_layer_alone, make_curve, straight
from tests.core.plan.prices import falling, make_prices

GIB = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.5, 1.0]  # of a model of 8 layers, cap 6


def test_decide_by_budget_takes_the_smallest_depth_that_fits_its_memory() -> None:
    prices = make_prices(falling(8), GIB)
    for limit, depth in ((9.0, 0), (8.0, 0), (7.99, 1), (5.5, 3), (2.0, 6)):
        decision = decide_by_budget(make_curve(straight(8)), prices, Budget(max_memory_gib=limit))
        assert decision.freeze_depth == decision.candidate_depth == depth
        assert decision.rule == "budget"
        assert decision.recommendation == "freeze"
        assert decision.pick_interval is None
        assert decision.parameters == {"cap": 6, "max_memory_bytes": int(limit * 2**30), "max_cost_fraction": None}


def test_decide_by_budget_takes_the_smallest_depth_that_fits_its_compute() -> None:
    prices = make_prices([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    for limit, depth in ((1.0, 0), (0.9, 1), (0.65, 4), (0.4, 6)):
        assert decide_by_budget(make_curve(straight(8)), prices, Budget(max_cost_fraction=limit)).freeze_depth == depth


def test_decide_by_budget_fits_both_when_both_are_given() -> None:
    prices = make_prices([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], GIB)
    curve = make_curve(straight(8))
    assert decide_by_budget(curve, prices, Budget(max_memory_gib=5, max_cost_fraction=0.95)).freeze_depth == 3
    assert decide_by_budget(curve, prices, Budget(max_memory_gib=7, max_cost_fraction=0.45)).freeze_depth == 6


def test_budget_takes_the_smaller_memory_of_a_card_and_a_number() -> None:
    card = Budget(gpu="T4")
    assert card.memory_bytes == 15 * 2**30
    assert Budget(max_memory_gib=4, gpu="T4").memory_bytes == 4 * 2**30
    assert Budget(max_memory_gib=40, gpu="T4").memory_bytes == 15 * 2**30
    assert Budget(max_cost_fraction=0.5).memory_bytes is None
    assert card.summary == f"{gib(15 * 2**30)} (T4)"


def test_decide_by_budget_says_what_the_depth_takes_and_holds() -> None:
    prices = make_prices([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], GIB)
    first, second = decide_by_budget(make_curve(straight(8)), prices, Budget(5.5, None, 0.95)).reasons
    assert first == (
        f"3 of 8 is the smallest freeze depth within {gib(5632 * 2**20)} and 95% of full finetuning's compute. "
        f"Estimated cost: {gib(5 * 2**30)} and 70% of full finetuning's compute."
    )
    assert second == "Coverage R(3) is 0.62; it did not influence this choice."


def test_decide_by_budget_needs_no_evidence_and_says_so() -> None:
    for curve in (
        make_curve(straight(8), verdict="no evidence"),
        make_curve(np.full(9, np.nan), verdict="no evidence", r_squared=math.nan),
    ):
        decision = decide_by_budget(curve, make_prices(falling(8), GIB), Budget(5.5))
        assert decision.freeze_depth == 3
        assert decision.reasons[-1] == "The analysis gives no evidence for any depth; only the budget chose this one."


def test_decide_by_budget_names_the_nearest_depth_when_none_fits() -> None:
    prices = make_prices([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], GIB)
    reason = (
        f"No freeze depth up to 6 fits within {gib(int(1.6 * 2**30))}. Depth 6 comes closest and needs "
        f"{gib(2 * 2**30)} and 40% of full finetuning's compute"
    )
    with pytest.raises(PlanError, match=re.escape(reason)):
        decide_by_budget(make_curve(straight(8)), prices, Budget(1.6))  # depth 7 would fit, but is beyond the cap
    with pytest.raises(PlanError, match=r"fits within 10% of full finetuning's compute\. Depth 6 comes closest"):
        decide_by_budget(make_curve(straight(8)), prices, Budget(max_cost_fraction=0.1))


def test_decide_by_budget_refuses_memory_it_cannot_know() -> None:
    prices = make_prices(falling(8), [None] * 9)
    with pytest.raises(PlanError, match="Activation memory is unknown for this model family"):
        decide_by_budget(make_curve(straight(8)), prices, Budget(max_memory_gib=5))
    assert decide_by_budget(make_curve(straight(8)), prices, Budget(max_cost_fraction=0.9)).freeze_depth == 2


@given(
    st.lists(st.tuples(st.floats(0.05, 1), st.floats(0.5, 20)), min_size=3, max_size=30),
    st.floats(0.05, 1),
    st.floats(0.5, 20),
)
@settings(derandomize=True, deadline=None)
def test_decide_by_budget_takes_a_depth_that_fits_and_none_smaller_does(
    costs: list[tuple[float, float]], fraction: float, limit: float
) -> None:
    prices = make_prices([c for c, _ in costs], [m for _, m in costs])
    n_layers, budget = len(costs) - 1, Budget(limit, None, fraction)
    fits = [c <= fraction and round(m * 2**30) <= int(limit * 2**30) for c, m in costs][: depth_cap(n_layers) + 1]
    if any(fits):
        assert decide_by_budget(make_curve(straight(n_layers)), prices, budget).freeze_depth == fits.index(True)
    else:
        with pytest.raises(PlanError, match="No freeze depth"):
            decide_by_budget(make_curve(straight(n_layers)), prices, budget)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(max_memory_gib=0), "--max-memory-gib must be above 0, found 0"),
        (Budget(max_memory_gib=-1), "--max-memory-gib must be above 0, found -1"),
        (Budget(max_memory_gib=math.nan), "--max-memory-gib must be above 0, found nan"),
        (Budget(max_memory_gib=math.inf), "--max-memory-gib must be above 0, found inf"),
        (Budget(max_cost_fraction=0), r"--max-cost-fraction must be in (0, 1], found 0"),
        (Budget(max_cost_fraction=1.5), r"--max-cost-fraction must be in (0, 1], found 1.5"),
        (Budget(max_cost_fraction=math.nan), r"--max-cost-fraction must be in (0, 1], found nan"),
        (Budget(gpu="abacus"), "--gpu: GPU abacus is unknown"),
    ],
)
def test_budget_says_what_is_wrong_with_it(budget: Budget, message: str) -> None:
    (problem,) = budget.problems
    assert problem.startswith(message)


def test_budget_names_all_that_is_wrong_with_it() -> None:
    assert len(Budget(0, "abacus", 2).problems) == 3
    assert Budget(5, "T4", 0.5).problems == []


def test_compute_scores_equal_a_hand_computed_case() -> None:
    # R ln(1 + M / c) with M = 1: 1 ln 2, 0.5 ln(1 + 2).
    scores = compute_scores(np.array([1.0, 0.5]), np.array([1.0, 0.5]), 1)
    np.testing.assert_allclose(scores, [math.log(2), 0.5 * math.log(3)])


def test_compute_scores_of_an_unknown_replicate_argue_for_nothing() -> None:
    scores = compute_scores(np.array([[1.0, 0.5], [math.nan] * 2]), np.array([1.0, 0.5]), 10)
    assert np.isfinite(scores[0]).all()
    assert (scores[1] == -np.inf).all()


def test_decide_by_compute_equals_a_hand_computed_case() -> None:
    # L = 4, cap 3, M = 10: 1 ln 11 = 2.398, .99 ln(1 + 10/.8) = 2.577, .9 ln(1 + 10/.5) = 2.740, .5 ln 26 = 1.629.
    curve, prices = make_curve([1, 0.99, 0.9, 0.5, 0]), make_prices([1, 0.8, 0.5, 0.4, 0.3])
    decision = decide_by_compute(curve, prices)
    assert decision.freeze_depth == decision.candidate_depth == 2
    assert decision.pick_interval == (2, 2)
    # M = 1: ln 2 = .693, .99 ln 2.25 = .803, .9 ln 3 = .989; M = 100: 4.615, 4.797, 4.775.
    assert decision.parameters == {"cap": 3, "data_multiple": 10, "picks": {"1": 2, "10": 2, "100": 1}}
    (reason,) = decision.reasons
    assert reason.startswith("2 of 4 gives the best expected result for the same compute")
    assert "Coverage R(2) is 0.90, and training takes 50% of full finetuning's compute." in reason
    assert "Depths by data multiple: 2 for M = 1, 2 for M = 10, 1 for M = 100." in reason


gains = st.lists(st.floats(0, 1), min_size=2, max_size=30).filter(lambda g: sum(g) > 1e-3)


def _coverage_of(values: list[float]) -> np.ndarray:
    tail = np.append(np.cumsum(values[::-1])[::-1], 0.0)
    return tail / tail[0]


@given(gains)
@settings(derandomize=True, deadline=None)
def test_compute_scores_of_little_data_rank_by_coverage_for_its_price(values: list[float]) -> None:
    coverage, flop = _coverage_of(values), np.array(falling(len(values)))
    np.testing.assert_allclose(compute_scores(coverage, flop, 1e-9) / 1e-9, coverage / flop, rtol=1e-6, atol=1e-12)


@given(gains)
@settings(derandomize=True, deadline=None)
def test_compute_scores_of_endless_data_rank_by_coverage_alone(values: list[float]) -> None:
    coverage, flop = _coverage_of(values), np.array(falling(len(values)))
    scores = compute_scores(coverage, flop, 1e200)
    np.testing.assert_allclose(scores / math.log(1e200), coverage, atol=0.01)


@given(gains)
@settings(derandomize=True, deadline=None)
def test_decide_by_compute_never_goes_beyond_the_cap(values: list[float]) -> None:
    decision = decide_by_compute(make_curve(_coverage_of(values)), make_prices(falling(len(values))))
    assert decision.candidate_depth is not None
    assert 0 <= decision.candidate_depth <= depth_cap(len(values))


def test_decide_by_compute_freezes_nothing_that_saves_nothing() -> None:
    assert decide_by_compute(make_curve(straight(8)), make_prices([1.0] * 9)).freeze_depth == 0


def test_decide_by_compute_reaches_the_cap_when_all_gain_is_in_the_last_layer() -> None:
    assert decide_by_compute(make_curve(last_layer_alone(12)), make_prices(falling(12))).freeze_depth == 9


def test_decide_by_compute_abstains_as_the_other_rules_do() -> None:
    prices = make_prices(falling(12))
    replicates = [last_layer_alone(12)] * 80 + [np.append(1.0, np.zeros(12))] * 20
    for curve, fragment in (
        (make_curve(last_layer_alone(12), verdict="no evidence"), NO_EVIDENCE),
        (make_curve(last_layer_alone(12), r_squared=0.5), "does not rise steadily"),
        (make_curve(last_layer_alone(12), replicates=replicates), "The selected depth is unstable"),
        (make_curve(np.full(13, np.nan)), "does not rise at any layer"),
    ):
        decision = decide_by_compute(curve, prices)
        assert decision.recommendation == "abstain"
        assert decision.candidate_depth is not None
        assert any(fragment in reason for reason in decision.reasons)


def test_decide_by_compute_lets_unknown_replicates_argue_for_less() -> None:
    replicates = np.tile(last_layer_alone(12), (100, 1))
    replicates[:7] = np.nan
    decision = decide_by_compute(make_curve(last_layer_alone(12), replicates=replicates), make_prices(falling(12)))
    assert decision.pick_interval == (0, 9)
