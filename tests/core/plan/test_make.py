import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from semfreeze_core.cost import depth_cost, full_cost, parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.gains import gain_curve
from semfreeze_core.plan.document import CostEntry, parse_plan
from semfreeze_core.plan.make import TrainFlags, curve_of, default_setup, make_plan
from semfreeze_core.plan.rules import decide_by_coverage, decide_by_paper
from semfreeze_core.records.defaults import FEW_EXAMPLES
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.wording.plan import depth_headline, headline, plan_summary
from tests.core.plan.conftest import N_LAYERS, Measured

Runs = Callable[..., Run]
Models = Callable[..., Measured]


def test_make_plan_recommends_on_real_progress(make_run: Runs) -> None:
    run = make_run()
    plan = make_plan(run, run_name="reading", rule="coverage")
    curve = curve_of(run, "semantic")
    decision = decide_by_coverage(curve)
    assert plan.recommendation == "freeze"
    assert plan.freeze_depth == plan.candidate_depth == decision.freeze_depth == 7
    assert plan.trainable == parts_at_depth(run.shape, 7)
    assert plan.trainable is not None
    assert plan.trainable.layers == (False,) * 7 + (True,) * 5
    assert not plan.trainable.embeddings
    assert plan.trainable.final_norm
    assert not plan.trainable.head
    assert plan.rule == "coverage"
    assert plan.rule_parameters == {"tau": 0.65, "weight": 0.5, "cap": 9, "reachable_depth": pytest.approx(8.4)}
    assert plan.reasons == list(decision.reasons)
    # The advantage rises by .01, .01, .02, .04, .08, .16, .32, .64 over layers 4 to 11: R(7) = (1.28 - .04) / 1.28.
    assert plan.gain_coverage.estimate == pytest.approx(1.24 / 1.28, abs=0.005)
    assert plan.gain_coverage.low is not None
    assert plan.gain_coverage.low <= plan.gain_coverage.estimate
    assert plan.gain_coverage_status == "predicted, unvalidated"
    assert plan.evidence.verdict == "evidence"
    assert plan.evidence.n_examples == 64
    assert plan.evidence.n_pairs == 32
    assert plan.evidence.pick_interval == decision.pick_interval
    assert plan.evidence.isotonic_r_squared == curve.isotonic_r_squared
    assert plan.evidence.advantage.estimate == curve.evidence.advantage.estimate
    assert (plan.metric, plan.run, plan.n_layers) == ("semantic", "reading", N_LAYERS)
    assert plan.model == run.manifest.model.identity
    assert plan.data_digest == run.manifest.data.tokens_digest


def test_make_plan_abstains_without_evidence_and_keeps_the_candidate(make_run: Runs) -> None:
    plan = make_plan(make_run(difference=None), rule="coverage")
    assert plan.recommendation == "abstain"
    assert plan.candidate_depth == 7
    assert plan.freeze_depth is None
    assert plan.trainable is None
    assert plan.trainable_regex is None
    assert plan.cost.planned is None
    assert plan.cost.full.relative_flop == 1
    assert plan.gain_coverage.estimate is not None  # of the candidate
    # What is unknown is null, never a number.
    assert plan.evidence.task_null.model_dump() == {"estimate": None, "low": None, "high": None}
    assert '"task_null":{"estimate":null,"low":null,"high":null}' in plan.model_dump_json()


def test_make_plan_writes_null_where_nothing_rises(make_run: Runs) -> None:
    plan = make_plan(make_run(advantage=np.linspace(0.5, 0, N_LAYERS + 1).tolist()), rule="coverage")
    assert plan.recommendation == "abstain"
    assert plan.candidate_depth == 0
    assert plan.gain_coverage.model_dump() == {"estimate": None, "low": None, "high": None}
    assert "NaN" not in plan.model_dump_json()


def test_make_plan_has_no_candidate_where_the_paper_has_nothing_to_search(make_run: Runs, measured: Models) -> None:
    run = make_run(measured("llama", True, 2), advantage=[0.0, 0.1, 0.4])
    plan = make_plan(run, rule="paper")
    assert plan.candidate_depth is None
    assert plan.evidence.pick_interval is None
    assert plan.gain_coverage.estimate is None
    assert plan.recommendation == "abstain"


def test_make_plan_follows_the_rule_it_is_given(make_run: Runs) -> None:
    run = make_run()
    curve = curve_of(run, "semantic")
    paper = make_plan(run, rule="paper")
    assert paper.rule == "paper"
    # Among layers 0 to 8 layer 8 gains most; the paper's depth is the one after it.
    assert paper.candidate_depth == decide_by_paper(curve).candidate_depth == 9
    strict = make_plan(run, tau=0.9, rule="coverage")
    assert strict.candidate_depth == decide_by_coverage(curve, tau=0.9).candidate_depth
    assert strict.candidate_depth < 7
    assert strict.rule_parameters["tau"] == 0.9
    wary = make_plan(run, weight=0.0, rule="coverage")
    assert wary.candidate_depth == 4  # (L - k)/L alone: 12 - k at least 7.8
    assert wary.rule_parameters["weight"] == 0.0


def test_make_plan_by_hand_freezes_without_evidence_and_says_so(make_run: Runs) -> None:
    plan = make_plan(make_run(difference=None), rule="manual", depth=3)
    assert plan.freeze_depth == 3
    assert plan.rule == "manual"
    assert plan.evidence.verdict == "no evidence"
    assert plan.reasons[-1] == "The analysis gives no evidence for any depth."
    assert plan.trainable is not None
    assert plan.trainable.freeze_depth == 3


def test_make_plan_of_layers_of_ones_own_trains_those_alone(make_run: Runs) -> None:
    run = make_run()
    plan = make_plan(run, rule="manual", layers="0-1,11")
    assert plan.trainable is not None
    assert [i for i, trained in enumerate(plan.trainable.layers) if trained] == [0, 1, 11]
    assert (plan.freeze_depth, plan.rule_parameters) == (0, {"layers": "0-1,11"})
    assert plan_summary(plan)[0] == "Train layers 0-1,11 of 12 and freeze the other 9."
    curve = curve_of(run, "semantic").coverage.mean
    assert plan.gain_coverage.estimate == pytest.approx(1 - curve[2] + curve[11])
    assert plan.cost.planned is not None
    assert plan.cost.planned.step_flop.weight_gradient < plan.cost.full.step_flop.weight_gradient / 2
    assert parse_plan(plan.model_dump_json()) == plan
    last = make_plan(run, rule="manual", layers="8-11")
    assert last.trainable == make_plan(run, rule="manual", depth=8).trainable
    assert headline(last) == depth_headline(8, 12)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"rule": "manual", "depth": 3, "layers": "3-11"}, "--depth and --layers both say what is trained"),
        ({"rule": "paper", "layers": "3"}, "--layers selects the rule manual, but --rule paper was given"),
        ({"rule": "manual", "layers": "3-12"}, "the model has layers 0 to 11"),
        ({"rule": "manual", "depth": 13}, r"--depth must be in 0\.\.12 for this model, found 13"),
        ({"rule": "manual", "depth": -1}, r"--depth must be in 0\.\.12"),
        ({"rule": "manual"}, "--rule manual needs --depth"),
        ({"rule": "paper", "depth": 3}, "--depth selects the rule manual, but --rule paper was given"),
        ({"tau": 0}, r"tau must be in \(0, 1\], found 0"),
        ({"tau": 1.01}, r"tau must be in \(0, 1\]"),
        ({"tau": math.nan}, r"tau must be in \(0, 1\], found nan"),
        ({"weight": 1}, r"weight must be in \[0, 1\), found 1"),
        ({"weight": -0.1}, r"weight must be in \[0, 1\)"),
        ({"metric": "lens_loss"}, "chooses no depth"),
        ({"metric": "cosine"}, "expected semantic or logit_z"),
        ({"metric": "logit_z"}, "The run has no logit_z, only semantic"),
    ],
)
def test_make_plan_refuses_settings_that_contradict(make_run: Runs, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(PlanError, match=problem):
        make_plan(make_run(), **settings)


def test_make_plan_gives_every_contradiction_at_once(make_run: Runs) -> None:
    with pytest.raises(PlanError, match=r"tau .*; weight .*; --depth selects .*; --depth must"):
        make_plan(make_run(), rule="paper", depth=99, tau=2, weight=2)


def test_make_plan_trains_what_the_flags_wish(make_run: Runs) -> None:
    plan = make_plan(make_run(), train=TrainFlags(final_norm=False, head=True))
    assert plan.trainable is not None
    assert plan.trainable_regex is not None
    assert (plan.trainable.embeddings, plan.trainable.final_norm, plan.trainable.head) == (False, False, True)
    assert "lm_head" in plan.trainable_regex
    assert "norm" not in plan.trainable_regex


@pytest.mark.parametrize("flags", [TrainFlags(head=True), TrainFlags(embeddings=True)])
def test_make_plan_refuses_to_train_a_tied_head_above_frozen_layers(
    make_run: Runs, measured: Models, flags: TrainFlags
) -> None:
    run = make_run(measured("llama", True))
    assert make_plan(run).freeze_depth
    with pytest.raises(PlanError, match="tied"):
        make_plan(run, train=flags)


def test_make_plan_of_a_tied_model_leaves_space_0_out(make_run: Runs, measured: Models) -> None:
    story = [0.9, *[0.0] * 4, *[0.01 * 2**i for i in range(8)]]
    assert make_plan(make_run(measured("llama", True), advantage=story), rule="coverage").freeze_depth == 7
    assert make_plan(make_run(measured("llama", False), advantage=story), rule="coverage").recommendation == "abstain"


def test_make_plan_prices_the_plan_against_full_finetuning(make_run: Runs) -> None:
    run, setup = make_run(), TrainingSetup(batch_size=2, sequence_length=16, train_examples=10, steps=7)
    plan = make_plan(run, setup=setup, rule="coverage")
    assert plan.trainable is not None
    assert plan.cost.setup == setup
    assert plan.cost.planned == CostEntry.of(depth_cost(run.shape, setup, plan.trainable))
    assert plan.cost.full == CostEntry.of(full_cost(run.shape, setup))
    assert plan.cost.planned is not None
    assert 0 < plan.cost.planned.relative_flop < 1
    assert plan.cost.planned.flop == pytest.approx(plan.cost.planned.relative_flop * plan.cost.full.flop)
    assert plan.cost.planned.freeze_depth == 7


def test_default_setup_is_three_epochs_over_the_runs_own_data(make_run: Runs) -> None:
    setup = default_setup(make_run())
    assert setup.train_examples == 400
    assert setup.batch_size == 8
    assert setup.steps == 150
    assert setup.supervised_fraction == 0.25
    assert setup.sequence_length == 64  # the tiny model reads no further
    assert make_plan(make_run()).cost.setup == setup


def test_make_plan_carries_the_runs_warnings(make_run: Runs) -> None:
    assert make_plan(make_run(warnings=["New languages enter here."])).warnings == ["New languages enter here."]


def test_make_plan_warns_of_few_examples_where_layers_are_frozen(make_run: Runs) -> None:
    run = make_run()
    data = run.manifest.data.model_copy(update={"n_usable": FEW_EXAMPLES - 1})
    few = replace(run, manifest=run.manifest.model_copy(update={"data": data}))
    (warning,) = make_plan(few, rule="manual", depth=1).warnings
    assert warning.startswith("Only 199 examples")
    assert make_plan(few, rule="manual", depth=0).warnings == []
    assert make_plan(run, rule="manual", depth=1).warnings == []


def test_make_plan_abstains_when_untrained_tokens_would_be_frozen(make_run: Runs) -> None:
    plan = make_plan(make_run(new_tokens=3), rule="coverage")
    assert plan.recommendation == "abstain"
    assert plan.freeze_depth is None
    assert plan.candidate_depth == 7
    assert plan.reasons[0].startswith("The data uses 3 tokens whose embeddings look new or untrained")
    assert make_plan(make_run(new_tokens=3), allow_new_tokens=True, rule="coverage").freeze_depth == 7
    with pytest.raises(PlanError, match="--allow-new-tokens"):
        make_plan(make_run(new_tokens=3), rule="manual", depth=1)
    with pytest.raises(PlanError, match="--allow-new-tokens"):
        make_plan(make_run(new_tokens=3), rule="manual", layers="0,11")
    assert make_plan(make_run(new_tokens=3), rule="manual", depth=0).freeze_depth == 0


def test_curve_of_is_drawn_with_the_runs_own_seed(make_run: Runs) -> None:
    run = make_run(seed=5)
    expected = gain_curve(run.traces["semantic"], run.pairs["semantic"], tied=False, seed=5)
    np.testing.assert_array_equal(curve_of(run, "semantic").coverage_replicates, expected.coverage_replicates)
    assert make_plan(run).provenance.seed == 5


def test_make_plan_reads_the_metric_it_is_asked_for(make_run: Runs) -> None:
    run, other = make_run(), make_run(advantage=np.linspace(0, 1, N_LAYERS + 1).tolist())
    trace, pairs = (replace(x["semantic"], metric="logit_z") for x in (other.traces, other.pairs))
    both = replace(run, traces={**run.traces, "logit_z": trace}, pairs={**run.pairs, "logit_z": pairs})
    assert make_plan(both, rule="coverage").freeze_depth == 7
    plan = make_plan(both, metric="logit_z", rule="coverage")
    assert plan.metric == "logit_z"
    assert plan.freeze_depth == 4  # a straight line: 0.35 of the layers
