"""The rule auto: free checks without a race, the race's winner with one, and the analysis' refusal."""

import json

import pytest

from semfreeze_core.plan.auto import (
    AutoBasis,
    candidate_variants,
    decide_by_auto,
    deep_depth,
    switch_of,
    trial_after_race,
)
from semfreeze_core.plan.document import parse_plan, plan_digests
from semfreeze_core.plan.make import make_plan
from semfreeze_core.records.race import Objective, Race, RaceVariant
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.wording.plan import plan_summary
from tests.core.plan.curves import NO_EVIDENCE, make_curve, straight

CURVE = make_curve(straight(12))


def checks(coverage, tag=1.0):
    return TaskChecks(
        n_train_completions=80, n_eval_completions=20, bigram_coverage=coverage, n_prompts=100, answer_tag_share=tag
    )


def race(chosen="depth:3", **changes):
    variants = [
        RaceVariant(
            name=name, freeze_depth=depth, learning_rate=1e-4, loss=1.0, token_loss=1.0, items_standing="within",
            tokens_standing="within", run_flop=10, run_seconds=1.0,
        )
        for name, depth in candidate_variants(12, None, checks(0.9)).items()
    ]  # fmt: skip
    fields = {
        "objective": Objective(), "steps": 20, "batch_size": 8, "n_eval": 64, "margin": 0.05, "confidence": 0.9,
        "loss_before": 2.0, "token_loss_before": 2.0, "loss_variation": 0.5, "variants": variants, "chosen": chosen,
        "told_apart": True, "reason": "It won.", "lost_flop": 3, "full_flop": 30,
    }  # fmt: skip
    return Race(**fields | changes)


@pytest.mark.parametrize(
    ("coverage", "pick", "depth"),
    [(0.69, None, 3), (0.7, None, 8), (0.9, 7, 7), (0.9, 2, 8), (0.2, 7, 3), (None, 7, 3)],
)
def test_without_a_race_new_completions_freeze_a_quarter_and_known_ones_the_deep_depth(coverage, pick, depth):
    decision = decide_by_auto(CURVE, AutoBasis(checks(coverage), 100, pick))
    assert (decision.rule, decision.freeze_depth) == ("auto", depth)
    assert decision.reasons[0].startswith("Unprobed: no race of finetunes was made.")
    assert "too short for a race of variants (at least 150 steps)" in decision.reasons[1]
    assert decision.parameters == {"bigram_coverage": coverage, "steps": 100}


def test_an_analysis_without_checks_freezes_the_safe_quarter():
    decision = decide_by_auto(CURVE, AutoBasis(None, 1000, 8))
    assert decision.freeze_depth == 3
    assert "was made by a version that did not check" in decision.reasons[0]
    few = decide_by_auto(CURVE, AutoBasis(checks(None), 1000, 8))
    assert "too few examples were checked" in few.reasons[0]


def test_prompts_without_an_answer_tag_are_noted():
    tagged, plain = (decide_by_auto(CURVE, AutoBasis(checks(0.5, tag), 100, None)).reasons for tag in (0.8, 0.79))
    assert plain[:-1] == tagged
    assert plain[-1].startswith("Only 79% of the prompts end in the same two tokens.")


def test_without_evidence_or_race_there_is_no_recommendation():
    doubtful = make_curve(straight(12), verdict="no evidence")
    decision = decide_by_auto(doubtful, AutoBasis(checks(0.9), 100, None))
    assert (decision.freeze_depth, decision.candidate_depth, decision.reasons) == (None, 8, (NO_EVIDENCE,))
    assert decide_by_auto(doubtful, AutoBasis(checks(0.9), 1000, None, race())).freeze_depth == 3


def test_variants_are_full_finetuning_a_quarter_and_the_deep_depth():
    known = checks(0.7)
    assert candidate_variants(30, None, known) == {"full": 0, "depth:7": 7, "depth:20": 20}
    assert candidate_variants(30, 18, known) == {"full": 0, "depth:7": 7, "depth:18": 18}
    assert candidate_variants(2, None, known) == {"full": 0, "depth:1": 1}
    assert [deep_depth(30, pick, known) for pick in (None, 0, 7, 8)] == [20, 20, 20, 8]


@pytest.mark.parametrize("unknown", [checks(0.69), checks(None), None])
def test_half_is_the_deep_depth_unless_completions_are_known(unknown):
    assert deep_depth(30, 18, unknown) == 15
    assert candidate_variants(30, 18, unknown) == {"full": 0, "depth:7": 7, "depth:15": 15}


def test_a_plan_carries_the_race_and_what_it_rests_on(make_run):
    run = make_run()
    unprobed = make_plan(run, rule="auto", checks=checks(0.9))
    assert (unprobed.rule, unprobed.evidence.badge, unprobed.evidence.race) == ("auto", "estimated", None)
    raced = make_plan(run, rule="auto", race=race(run_variant(run)), checks=checks(0.9))
    assert (raced.evidence.badge, raced.reasons) == ("checked", ["It won."])
    assert parse_plan(raced.model_dump_json()) == raced


def test_a_deep_variant_that_did_not_win_is_tried_again_and_the_plan_freezes_deeper_if_nothing_is_lost(make_run):
    run = make_run()
    lost = race("depth:3", deeper_depth=8)
    assert switch_of(race("depth:3")) is None
    assert switch_of(lost) == DepthSwitch(3, 8, 20, measured=True, trials=1)
    decision = decide_by_auto(CURVE, AutoBasis(checks(0.9), 1000, None, lost))
    assert (decision.candidate_depth, decision.freeze_depth) == (8, 8)
    plan = make_plan(run, rule="auto", race=lost, checks=checks(0.9))
    assert (plan.switch, plan.freeze_depth) == (switch_of(lost), 8)
    assert parse_plan(plan.model_dump_json()) == plan
    headline, *_, phases = plan_summary(plan)
    assert headline.endswith("layers for 20 steps, then the first 8 if a trial on eval examples loses nothing.")
    assert "After 20 steps a trial of 10 steps with either depth, on eval examples, decides" in phases
    assert "Where it does not allow it, all takes" in phases


def test_a_trial_is_made_once_where_the_cheapest_is_wanted_and_steps_are_left():
    switch = trial_after_race((7, 20), Objective(), 20, 680)
    assert switch == DepthSwitch(7, 20, 20, measured=True, trials=1)
    assert switch.looks(680) == (20,)
    assert trial_after_race((7, 20), Objective(kind="quality"), 20, 680) is None
    assert trial_after_race((7,), Objective(), 20, 680) is None
    assert trial_after_race((7, 20), Objective(), 20, 30) is None
    with pytest.raises(ValueError, match="only a measured switch has trials"):
        DepthSwitch(7, 20, 20, trials=1)


def run_variant(run):
    """The first of the race's variants that this run's model has."""
    return "full" if run.shape.n_layers < 3 else "depth:3"


def test_a_plan_from_before_badges_is_read_and_keeps_its_digests(make_run):
    plan = make_plan(make_run())
    document = json.loads(plan.model_dump_json())
    for name in ("badge", "race"):
        del document["evidence"][name]
    old = parse_plan(json.dumps(document))
    assert old.evidence.badge is None
    assert plan_digests(old) == plan_digests(plan)
