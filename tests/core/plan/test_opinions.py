import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from semfreeze_core.cost import cost_table
from semfreeze_core.errors import PlanError
from semfreeze_core.plan import curve_of, default_setup, gather_opinions, make_plan
from semfreeze_core.plan.make import TrainFlags
from semfreeze_core.plan.opinions import judge_agreement, score_opinion
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.run import Run
from semfreeze_core.records.scores import LayerScore, unmeasured
from semfreeze_core.records.training import TrainingSetup
from tests.core.plan.conftest import N_LAYERS, Measured
from tests.core.plan.curves import make_curve, straight
from tests.core.plan.prices import falling, make_prices

Runs = Callable[..., Run]

LAST = [0.0] * (N_LAYERS - 1) + [1.0]
FIRST = [1.0] + [0.0] * (N_LAYERS - 1)


def _score(values: list[float], name: str = "block_influence", replicates: np.ndarray | None = None) -> LayerScore:
    return LayerScore(name, np.array(values), replicates, "64 examples")  # type: ignore[arg-type]


def test_compare_asks_every_rule_and_score(make_run: Runs) -> None:
    scores = [_score(LAST), unmeasured("variability", N_LAYERS, "no examples", "no classes"), _score(FIRST, "spectrum")]
    opinions = gather_opinions(make_run(scores=scores))
    assert list(opinions.rules) == ["coverage", "paper", "compute", "turning", "auto"]
    assert list(opinions.scores) == ["block_influence", "variability", "spectrum"]
    # All in the last layer: R(k) = 1, so .5 + .5 (12 - k)/12 reaches .65 up to 8. In the first: R(1) = 0 leaves .46.
    assert [o.candidate_depth for o in opinions.scores.values()] == [8, None, 0]


def test_compare_agrees_with_the_plan_of_each_rule(make_run: Runs) -> None:
    run, budget = make_run(), Budget(max_cost_fraction=0.8)
    opinions = gather_opinions(run, depth=3, budget=budget)
    assert list(opinions.rules) == ["coverage", "paper", "compute", "turning", "auto", "budget", "manual"]
    for name, opinion in opinions.rules.items():
        plan = make_plan(
            run,
            rule=name,  # type: ignore[arg-type]
            depth=3 if name == "manual" else None,
            budget=budget if name == "budget" else None,
        )
        assert opinion.freeze_depth == plan.freeze_depth
        assert opinion.candidate_depth == plan.candidate_depth
        assert opinion.recommendation == plan.recommendation
        assert list(opinion.reasons) == plan.reasons
        assert opinion.gain_coverage.estimate == plan.gain_coverage.estimate
        assert plan.cost.planned is not None
        assert opinion.cost is not None
        assert opinion.cost.relative_flop == plan.cost.planned.relative_flop


def test_compare_prices_under_the_setup_it_is_given(make_run: Runs) -> None:
    run, setup = make_run(scores=[_score(LAST)]), TrainingSetup(batch_size=2, sequence_length=16, prefix_cache=True)
    opinions = gather_opinions(run, setup=setup)
    prices = cost_table(run.shape, setup)
    assert opinions.setup == setup
    assert opinions.scores["block_influence"].cost == prices[8]
    assert gather_opinions(run).setup == default_setup(run)


def test_compare_recommends_nothing_without_evidence(make_run: Runs) -> None:
    opinions = gather_opinions(make_run(scores=[_score(LAST)], difference=None), depth=2)
    for name in ("coverage", "paper", "compute", "turning", "auto"):
        assert opinions.rules[name].recommendation == "abstain"
        assert opinions.rules[name].candidate_depth is not None
    assert opinions.rules["manual"].freeze_depth == 2
    score = opinions.scores["block_influence"]
    assert (score.freeze_depth, score.candidate_depth) == (None, 8)
    assert score.reasons == (
        "The analysis gives no evidence that the layers do this task, so scores recommend nothing.",
    )


def test_compare_recommends_nothing_that_freezes_new_tokens(make_run: Runs) -> None:
    run = make_run(scores=[_score(LAST)], new_tokens=3)
    opinions = gather_opinions(run, depth=0)
    for opinion in (*opinions.rules.values(), *opinions.scores.values()):
        assert not opinion.freeze_depth
    assert opinions.rules["manual"].freeze_depth == 0
    assert opinions.rules["coverage"].candidate_depth == 7
    assert opinions.rules["coverage"].reasons[0].startswith("The data uses 3 tokens")
    assert gather_opinions(run, allow_new_tokens=True).rules["coverage"].freeze_depth == 7


def test_compare_shows_a_budget_that_nothing_fits(make_run: Runs) -> None:
    opinion = gather_opinions(make_run(), budget=Budget(max_cost_fraction=0.01)).rules["budget"]
    assert (opinion.candidate_depth, opinion.freeze_depth, opinion.cost) == (None, None, None)
    assert math.isnan(opinion.gain_coverage.estimate)
    assert opinion.reasons[0].startswith("No freeze depth up to 9 fits within 1%")


def test_compare_has_no_price_where_nothing_is_trained(make_run: Runs) -> None:
    opinions = gather_opinions(make_run(), depth=N_LAYERS, train=TrainFlags(final_norm=False))
    assert opinions.rules["manual"].cost is None
    assert opinions.rules["coverage"].cost is not None


def test_compare_gives_all_that_is_wrong_at_once(make_run: Runs) -> None:
    with pytest.raises(PlanError, match=r"tau must .*; --depth must .*; --max-memory-gib must .*; --gpu: GPU x is"):
        gather_opinions(make_run(), tau=0, depth=99, budget=Budget(max_memory_gib=0, gpu="x"))
    with pytest.raises(PlanError, match="The run has no logit_z"):
        gather_opinions(make_run(), metric="logit_z")


def test_compare_refuses_flags_that_contradict_the_model(make_run: Runs, measured: Callable[..., Measured]) -> None:
    with pytest.raises(PlanError, match="tied"):
        gather_opinions(make_run(measured("llama", True)), train=TrainFlags(head=True))


@pytest.mark.parametrize("n_layers", [2, 5, 12, 30])
def test_opinion_of_equal_scores_is_that_of_the_rule_on_exchangeable_layers(n_layers: int) -> None:
    opinion = score_opinion(
        _score([0.2] * n_layers), make_curve(straight(n_layers)), make_prices(falling(n_layers)), tau=0.65, weight=0.5
    )
    assert opinion.candidate_depth == opinion.freeze_depth == 35 * n_layers // 100
    assert opinion.gain_coverage.estimate == pytest.approx(1 - opinion.candidate_depth / n_layers)
    assert math.isnan(opinion.gain_coverage.low)
    assert opinion.sample == "64 examples"


def _opinion(replicates: list[list[float]] | None, tau: float = 0.65, weight: float = 0.5):
    drawn = None if replicates is None else np.array(replicates)
    curve, prices = make_curve(straight(N_LAYERS)), make_prices(falling(N_LAYERS))
    return score_opinion(_score(LAST, replicates=drawn), curve, prices, tau=tau, weight=weight)


def test_opinion_of_score_goes_by_the_tenth_percentile_of_its_replicates() -> None:
    even = [1 / N_LAYERS] * N_LAYERS
    assert _opinion(None).candidate_depth == 8
    assert _opinion([LAST] * 100).candidate_depth == 8
    assert "in 90% of bootstrap samples" in _opinion([LAST] * 100).reasons[0]
    assert "samples" not in _opinion(None).reasons[0]
    assert _opinion([even] * 9 + [LAST] * 91).candidate_depth == 8
    assert _opinion([even] * 20 + [LAST] * 80).candidate_depth == 4


def test_opinion_of_score_abstains_when_its_picks_range_far() -> None:
    opinion = _opinion([FIRST] * 20 + [LAST] * 80)
    assert opinion.freeze_depth is None
    assert opinion.candidate_depth is not None
    assert opinion.reasons[0].startswith("The selected depth is unstable")


def test_opinion_of_score_follows_tau_and_weight() -> None:
    assert _opinion(None, tau=0.8).candidate_depth == 4  # .5 + .5 (12 - k)/12 >= .8
    assert _opinion(None, weight=0.0).candidate_depth == 4  # (12 - k)/12 >= .65


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (unmeasured("spectrum", N_LAYERS, "the weights", "left out"), "Not measured: left out."),
        (_score([0.0] * N_LAYERS), "Not measured: it is 0 in every layer."),
    ],
)
def test_opinion_of_a_score_that_says_nothing_is_no_depth(score: LayerScore, reason: str) -> None:
    opinion = score_opinion(score, make_curve(straight(12)), make_prices(falling(12)), tau=0.65, weight=0.5)
    assert (opinion.candidate_depth, opinion.freeze_depth, opinion.cost) == (None, None, None)
    assert math.isnan(opinion.gain_coverage.estimate)
    assert opinion.reasons == (reason,)


def test_judge_agreement_says_who_lies_where() -> None:
    agreement = judge_agreement({"coverage": 19, "paper": 21, "spectrum": 11, "block_influence": 11}, 30)
    assert (agreement.low, agreement.high) == (11, 21)
    assert agreement.summary.startswith(
        "Selected depths range from 11 (spectrum, block_influence) to 21 (paper) of 30 layers, more than 7.5 layers "
        "apart. The methods measure different things and disagree"
    )
    assert agreement.summary.endswith("only finetuning shows which depth is best.")


@pytest.mark.parametrize(("n_layers", "apart", "agree"), [(4, 1, True), (4, 2, False), (12, 3, True), (12, 4, False)])
def test_judge_agreement_allows_a_quarter_of_the_layers(n_layers: int, apart: int, agree: bool) -> None:
    summary = judge_agreement({"coverage": 1, "paper": 1 + apart}, n_layers).summary
    assert ("The methods agree" in summary) == agree
    assert ("disagree" in summary) != agree


def test_judge_agreement_needs_two() -> None:
    assert judge_agreement({}, 12).low is None
    assert judge_agreement({"paper": 5}, 12).high == 5
    assert "nothing can be compared" in judge_agreement({"paper": 5}, 12).summary


def test_compare_leaves_what_reads_nothing_out_of_the_agreement(make_run: Runs) -> None:
    run = make_run(scores=[_score(LAST), _score([1.0] * N_LAYERS, "depth_prior")])
    opinions = gather_opinions(run, depth=0, budget=Budget(max_cost_fraction=1.0))
    assert (opinions.rules["budget"].candidate_depth, opinions.rules["manual"].candidate_depth) == (0, 0)
    assert opinions.scores["depth_prior"].candidate_depth == 4
    depths = [o.candidate_depth for o in (*list(opinions.rules.values())[:3], opinions.scores["block_influence"])]
    assert (opinions.agreement.low, opinions.agreement.high) == (min(depths), max(depths))


def test_compare_asks_the_metric_it_is_given(make_run: Runs) -> None:
    run, other = make_run(), make_run(advantage=np.linspace(0, 1, N_LAYERS + 1).tolist())
    trace, pairs = (replace(x["semantic"], metric="logit_z") for x in (other.traces, other.pairs))
    both = replace(run, traces={**run.traces, "logit_z": trace}, pairs={**run.pairs, "logit_z": pairs})
    for metric in ("semantic", "logit_z"):
        opinion = gather_opinions(both, metric=metric).rules["coverage"]
        assert opinion.candidate_depth is not None
        assert opinion.gain_coverage == curve_of(both, metric).coverage.at(opinion.candidate_depth)
