"""Plans that freeze few layers at first and more from a step on: what they say, and what they refuse."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from semfreeze_core.cost import (
    full_cost,
    parts_at_depth,
    progressive_bytes,
    progressive_cost,
    progressive_flop,
    run_flop,
    step_flop,
)
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.document import FreezePlan, parse_plan, plan_digests
from semfreeze_core.plan.make import TrainFlags, make_plan
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import DepthSwitch, LoraSetup, TrainingSetup
from semfreeze_core.wording.costs import plan_cost_table
from semfreeze_core.wording.plan import headline, plan_summary
from tests.core.plan.conftest import N_LAYERS

Runs = Callable[..., Run]
SETUP = TrainingSetup(batch_size=2, sequence_length=8, train_examples=40, steps=50)


@pytest.fixture(scope="module")
def plans() -> dict[str, FreezePlan]:
    return {}


@pytest.fixture
def plan(make_run: Runs, plans: dict[str, FreezePlan]) -> FreezePlan:
    if "made" not in plans:
        plans["made"] = make_plan(make_run(), rule="manual", progressive="2-9@30", setup=SETUP)
    return plans["made"]


@pytest.mark.parametrize(
    ("progressive", "rule", "depth", "switch"),
    [
        ("2-9@30", "manual", None, DepthSwitch(2, 9, 30)),
        ("0-9", "manual", None, DepthSwitch(0, 9, 20)),
        ("@12", "coverage", None, DepthSwitch(3, 7, 12)),  # a quarter of the layers, then the rule's depth
        ("@49", "manual", 5, DepthSwitch(3, 5, 49)),
    ],
)
def test_a_plan_names_a_switch_and_trains_what_comes_after_it(
    make_run: Runs, progressive: str, rule: Any, depth: int | None, switch: DepthSwitch
) -> None:
    plan = make_plan(make_run(), rule=rule, depth=depth, progressive=progressive, setup=SETUP)
    assert plan.switch == switch
    assert plan.rule == rule
    assert plan.freeze_depth == plan.candidate_depth == switch.deep_depth
    assert plan.trainable is not None
    assert plan.trainable.freeze_depth == switch.deep_depth
    assert parse_plan(plan.model_dump_json()) == plan


def test_its_cost_is_that_of_both_phases(make_run: Runs, plan: FreezePlan) -> None:
    shape, switch, cost = make_run().shape, DepthSwitch(2, 9, 30), plan.cost
    assert cost.planned is not None
    assert cost.phases is not None
    assert cost.planned.flop == progressive_flop(shape, SETUP, switch) == sum(p.cost.flop for p in cost.phases)
    assert [phase.steps for phase in cost.phases] == [30, 20]
    wide, deep = (one.total for one in progressive_bytes(shape, SETUP, switch))
    assert [phase.cost.bytes.total for phase in cost.phases] == [wide, deep]
    assert wide is not None
    assert deep is not None
    assert cost.planned.bytes.total == wide > deep
    full = full_cost(shape, SETUP)
    assert cost.planned.relative_flop == pytest.approx(cost.planned.flop / full.flop)
    assert sum(phase.cost.relative_flop for phase in cost.phases) == pytest.approx(cost.planned.relative_flop)
    assert cost.planned.step_flop == cost.phases[0].cost.step_flop
    assert (cost.alternative, cost.transformers_5) == (None, None), "no other trainer freezes deeper"


def test_a_switch_that_trials_decide_is_priced_with_them_and_without(make_run: Runs) -> None:
    plan = make_plan(make_run(), rule="manual", progressive="2-9@auto", setup=SETUP)
    shape, looks = make_run().shape, plan.cost.looks
    assert plan.switch == DepthSwitch(2, 9, 20, measured=True)
    assert looks is not None
    assert plan.cost.planned is not None
    assert plan.cost.planned.flop == progressive_flop(shape, SETUP, DepthSwitch(2, 9, 20))
    setup = TrainingSetup(**vars(SETUP) | {"prefix_cache": False})
    wide, deep = parts_at_depth(shape, 2), parts_at_depth(shape, 9)
    readings = looks.lost - 10 * step_flop(shape, setup, wide).total
    assert readings == 128 * step_flop(shape, TrainingSetup(**vars(setup) | {"batch_size": 1}), wide).forward
    once = 10 * step_flop(shape, setup, deep).total + readings
    assert looks.never == run_flop(shape, SETUP, wide) + once, (
        "after step 20; 40 leaves 10 steps, and none to go on with"
    )
    assert parse_plan(plan.model_dump_json()) == plan
    assert headline(plan) == "Freeze the first 2 of 12 layers for at least 20 steps, then the first 9."
    assert "a trial of 10 steps with either depth, on eval examples, decides" in plan_summary(plan)[2]
    written = json.loads(plan.model_dump_json())
    written["cost"]["looks"] = None
    with pytest.raises(PlanError, match=r"one of switch\.measured and cost\.looks"):
        parse_plan(json.dumps(written))


@pytest.mark.parametrize(
    ("step", "steps", "looks"),
    [(20, 100, (20, 40, 60, 80)), (20, 90, (20, 40, 60)), (5, 40, (5, 15, 25)), (20, 30, ()), (10, 21, (10,))],
)
def test_looks_are_made_where_steps_are_left(step: int, steps: int, looks: tuple[int, ...]) -> None:
    assert DepthSwitch(1, 2, step, measured=True).looks(steps) == looks
    assert DepthSwitch(1, 2, step).looks(steps) == ()


def test_checkpointing_is_priced_in_both_phases(make_run: Runs) -> None:
    shape, switch = make_run().shape, DepthSwitch(2, 9, 30)
    plain = progressive_cost(shape, SETUP, switch)
    setup = TrainingSetup(**vars(SETUP) | {"checkpointing": "non-reentrant"})
    less = progressive_cost(shape, setup, switch)
    assert all(b.bytes.total < a.bytes.total for a, b in zip(plain.phases, less.phases, strict=True))  # type: ignore[operator]
    assert make_plan(make_run(), rule="manual", progressive="2-9@30", setup=setup).cost.transformers_5 is None


def test_it_is_told_in_one_sentence_and_in_the_table(plan: FreezePlan, make_run: Runs) -> None:
    assert headline(plan) == "Freeze the first 2 of 12 layers for 30 steps, then the first 9."
    first, cost, phases = plan_summary(plan)
    assert first == headline(plan)
    assert cost.startswith("Estimated cost at the same steps: ")
    assert phases.startswith("Estimated: ")
    assert " for the first 30 steps, " in phases
    assert phases.endswith(" for the other 20.")
    columns = list(plan_cost_table(plan).dicts()[0])
    assert columns == ["estimated cost", "freeze 2, then 9", "first 30 steps", "other 20 steps", "full finetuning"]
    wide = make_plan(make_run(), rule="manual", progressive="0-1@1", setup=SETUP)
    assert headline(wide) == "Train all 12 layers for 1 step, then freeze the first."


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ({"progressive": "9-2", "rule": "manual"}, "--progressive 9-2: freezes 9 layers at first and 2 later; "),
        ({"progressive": "2-13", "rule": "manual"}, "freezes 13 layers in the end, but the model has 12"),
        (
            {"progressive": "@50", "rule": "coverage"},
            "freezes deeper after step 50; expected a step from 1 to 49, of 50",
        ),
        ({"progressive": "@0", "rule": "coverage"}, "freezes deeper after step 0; expected a step from 1 to 49, of 50"),
        ({"progressive": "deep"}, "--progressive deep: expected W-K@N, as in 3-8@20: W layers frozen for N steps"),
        ({"progressive": "2-9"}, "it names its depths, which selects the rule manual, but --rule auto was given"),
        ({"progressive": "2-9", "rule": "manual", "depth": 4}, "it and --depth both say how many layers are frozen"),
        ({"progressive": "@9", "rule": "manual", "layers": "0,2"}, "--layers names which: give one of them"),
        ({"progressive": "@9", "train": TrainFlags(final_norm=False)}, "leave the --train-… flags out"),
        ({"progressive": "@9", "setup": TrainingSetup(lora=LoraSetup(4))}, "leave --lora and --frozen-bits out"),
        (
            {"progressive": "@auto", "rule": "coverage", "setup": TrainingSetup(steps=15)},
            "tries to freeze deeper after step 7 with 10 steps each way, so it needs more than 17 steps, found 15",
        ),
        ({"progressive": "@9", "rule": "manual", "depth": 2}, "freezes 3 layers at first and 2 later"),
        ({"progressive": "@9"}, "freezes 3 layers at first and 3 later; the second must be more, as in 3-8"),
    ],
)
def test_what_contradicts_it_is_refused_in_one_sentence(make_run: Runs, how: dict[str, Any], problem: str) -> None:
    with pytest.raises(PlanError) as error:
        make_plan(make_run(), **({"setup": SETUP} | how))
    assert problem in str(error.value)
    assert str(error.value).startswith("--progressive ")


def test_without_a_recommendation_there_is_no_switch_either(make_run: Runs) -> None:
    plan = make_plan(make_run(difference=None), rule="coverage", progressive="@9", setup=SETUP)
    assert (plan.recommendation, plan.switch, plan.cost.phases) == ("abstain", None, None)
    assert parse_plan(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"switch.deep_depth": 8}, "switch freezes 8 layers in the end, but freeze_depth is 9"),
        ({"switch.step": 50}, "switch.step is 50, but cost.setup.steps is 50"),
        ({"switch.step": 29}, "but switch and cost.setup.steps make [(2, 29), (9, 21)]"),
        ({"switch": None}, "has one of switch and cost.phases"),
        ({"cost.phases": None}, "has one of switch and cost.phases"),
        ({"cost.planned.flop": 1}, "cost.planned.flop is 1, but cost.phases make"),
        ({"cost.phases.0.cost.bytes.total": 1}, "cost.phases.0.bytes.total is 1, but its parts make"),
        ({"cost.setup.lora": {"rank": 2, "targets": ["all-linear"]}}, "switch is given, but cost.setup.lora"),
        ({"trainable.head": True}, "switch is given, but trainable is not the last layers alone"),
    ],
)
def test_a_plan_that_was_edited_is_refused(plan: FreezePlan, changes: dict[str, Any], problem: str) -> None:
    whole = json.loads(plan.model_dump_json())
    for name, value in changes.items():
        *keys, key = (int(part) if part.isdigit() else part for part in name.split("."))
        entry = whole
        for part in keys:
            entry = entry[part]
        entry[key] = value
    with pytest.raises(PlanError, match="contradicts itself") as error:
        parse_plan(json.dumps(whole))
    assert problem in str(error.value)


@pytest.mark.parametrize("switch", [{"wide_depth": 9, "deep_depth": 2, "step": 3}, {"wide_depth": 1, "deep_depth": 9}])
def test_a_switch_that_is_none_is_refused(plan: FreezePlan, switch: dict[str, int]) -> None:
    whole = json.loads(plan.model_dump_json()) | {"switch": switch}
    with pytest.raises(PlanError, match="is not a semfreeze plan: switch"):
        parse_plan(json.dumps(whole))


def test_plans_from_before_there_were_switches_keep_their_digest(make_run: Runs, plan: FreezePlan) -> None:
    old = json.loads(make_plan(make_run(), setup=SETUP).model_dump_json())
    del old["switch"], old["cost"]["phases"], old["cost"]["looks"]
    before = parse_plan(json.dumps(old))
    assert before.switch is None
    assert plan_digests(before) == plan_digests(make_plan(make_run(), setup=SETUP))
    assert plan.n_layers == N_LAYERS
    assert plan_digests(plan)[0] != plan_digests(make_plan(make_run(), rule="manual", depth=9, setup=SETUP))[0]
