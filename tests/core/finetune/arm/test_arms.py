"""What each arm trains, at which rate, and for how long at equal compute."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import parts_at_depth, run_flop
from semfreeze_core.errors import PlanError
from semfreeze_core.finetune.arm.arms import DEFAULT_RATES, make_arms, steps_at_equal_compute
from semfreeze_core.records.defaults import VARIANTS
from semfreeze_core.records.model import LayerShape, Matrix, ModelShape
from semfreeze_core.records.training import LoraSetup, TrainingSetup

_NAMES = (("q_proj", 16, 16), ("o_proj", 16, 16), ("gate_proj", 16, 32), ("up_proj", 16, 32), ("down_proj", 32, 16))
_LAYER = LayerShape(2080, tuple(Matrix(*name) for name in _NAMES), 2, 2, 8, 32, "gated-rmsnorm")
SHAPE = ModelShape(16, 50, False, (_LAYER,), (0,) * 8, 800, 16, 800, 800, 64)
PLANNED = parts_at_depth(SHAPE, 5)


def test_make_arms_trains_what_the_names_say():
    arms = {arm.name: arm for arm in make_arms((*VARIANTS, "depth:3"), SHAPE, PLANNED)}
    assert {name: arm.freeze_depth for name, arm in arms.items()} == {
        "full": 0,
        "planned": 5,
        "half": 4,
        "lora": 0,
        "planned+lora": 5,
        "depth:3": 3,
    }
    assert arms["full"].parts == parts_at_depth(SHAPE, 0)
    assert arms["planned"].parts == PLANNED
    (outer,) = make_arms(("layers:0-1,7",), SHAPE, None)
    assert outer.parts.layers == (True, True, *[False] * 5, True)
    assert (outer.kind, outer.parts.embeddings) == ("frozen", False)
    (adapted,) = make_arms(("planned+lora",), SHAPE, outer.parts)
    assert adapted.parts == replace(outer.parts, final_norm=False)
    assert arms["planned+lora"].parts == parts_at_depth(SHAPE, 5, lora=True)
    assert {name for name, arm in arms.items() if arm.lora} == {"lora", "planned+lora"}
    assert not arms["lora"].parts.final_norm


def test_make_arms_takes_the_rate_of_the_name_before_that_of_the_kind():
    arms = make_arms(("full", "planned", "half", "lora"), SHAPE, PLANNED, rates={"half": 0.5, "frozen": 0.25})
    rates = {arm.name: arm.learning_rate for arm in arms}
    assert rates == {"full": DEFAULT_RATES["full"], "planned": 0.25, "half": 0.5, "lora": DEFAULT_RATES["lora"]}


def test_make_arms_gives_a_lora_plan_its_own_adapters():
    lora = LoraSetup(3)
    parts = parts_at_depth(SHAPE, 5, lora=True)
    (arm,) = make_arms(("planned",), SHAPE, parts, planned_lora=lora)
    assert (arm.lora, arm.kind, arm.parts) == (lora, "lora", parts)


def test_make_arms_tells_all_problems_at_once():
    with pytest.raises(PlanError) as error:
        make_arms(
            ("full", "full", "depth:9", "best", "planned", "lora"),
            SHAPE,
            None,
            lora=LoraSetup(2, ("nothing_proj",)),
            rates={"depth:1": 1e-4, "full": 7.0},
        )
    for words in (
        "full: given twice",
        "depth:9: outside 0..8",
        "best: expected full",
        "the plan makes no recommendation",
        "depth:4",
        "--lr depth:1: no such variant",
        "--lr full=7: expected more than 0",
        "nothing_proj match no matrix",
    ):
        assert words in str(error.value)


def test_make_arms_refuses_none():
    with pytest.raises(PlanError, match="no variant is named"):
        make_arms((), SHAPE, PLANNED)


@pytest.mark.parametrize("name", ["full", "planned", "half", "lora", "planned+lora"])
@pytest.mark.parametrize("steps", [1, 10, 60])
def test_steps_at_equal_compute_are_the_most_that_fit(name, steps):
    (arm,) = make_arms((name,), SHAPE, PLANNED, lora=LoraSetup(1))
    (full,) = make_arms(("full",), SHAPE, PLANNED)
    base = TrainingSetup(batch_size=4, sequence_length=16, train_examples=20, steps=steps, loss="supervised-only")
    budget = run_flop(SHAPE, base, full.parts)
    setup = replace(base, lora=arm.lora, prefix_cache=arm.freeze_depth > 0)
    found = steps_at_equal_compute(SHAPE, arm, setup, budget)
    assert run_flop(SHAPE, replace(setup, steps=found), arm.parts) <= budget or found == 1
    assert run_flop(SHAPE, replace(setup, steps=found + 1), arm.parts) > budget
    assert found >= steps if name != "full" else found == steps
