"""Validations with a variant that freezes deeper after some steps."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import progressive_flop
from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.finetune.validation.request import ValidationRequest, prepare
from semfreeze_core.finetune.validation.search_price import search_note
from semfreeze_core.finetune.validation.validate import run_name, validate
from semfreeze_core.records.training import DepthSwitch, TrainingSetup
from semfreeze_core.records.validation import ArmRun
from semfreeze_core.runs.reports import read_validation
from semfreeze_core.wording.validation import quality_table, rate_lines
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task

SETUP = TrainingSetup(batch_size=4, sequence_length=2048, train_examples=16, steps=12)
NAME = "progressive:1-3@3"


@pytest.fixture(scope="module")
def request_for(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("progressive")
    plan, _ = make_tiny_plan(workspace / "model")
    train, evaluation = write_task(workspace / "train.jsonl", 40), write_task(workspace / "eval.jsonl", 24, seed=9)

    def build(**changes):
        base = ValidationRequest(
            plan, str(train), str(evaluation), SETUP, arms=("full", "depth:1", NAME), n_between=1, n_accuracy=0,
            n_eval=24,
        )  # fmt: skip
        return replace(base, **changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMFREEZE_HOME", str(workspace / "home"))
        yield build


@pytest.fixture(scope="module")
def finished(request_for, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "validation"
    with arms_in_this_process():
        return validate(request_for(), folder), folder


@pytest.mark.quick_cases(0)
def test_a_progressive_variant_is_reported_with_both_depths(finished):
    report, folder = finished
    assert report.finished
    arm = report.arms[NAME]
    assert (arm.freeze_depth, arm.switch) == (1, DepthSwitch(1, 3, 3))
    assert arm.relative_flop < report.arms["depth:1"].relative_flop < 1
    assert arm.steps_compute > report.arms["depth:1"].steps_compute > 12
    assert [row["frozen"] for row in quality_table(report).dicts()[1:]] == ["0", "1", "1, then 3"]
    (run,) = (run for run in report.runs if run.arm == NAME)
    assert run.prefix_cache
    assert arm.cache_seconds == run.cache_seconds + run.switch_cache_seconds > 0
    assert read_validation(folder) == report
    document = run.model_dump(mode="json")
    old = {name: value for name, value in document.items() if not name.startswith("switch")}
    assert ArmRun.model_validate(old).switch is None, "runs from before there were switches"


def test_its_rates_are_compared_before_the_switch_and_the_report_says_so(finished):
    report, _ = finished
    assert {name: arm.rate_search.steps for name, arm in report.arms.items()} == {"full": 4, "depth:1": 4, NAME: 3}
    assert rate_lines(report)[0] == (
        "Each variant at the best learning rate of its own search. Rates were compared after 4 steps for full, "
        f"depth:1; after 3 steps for {NAME}."
    )
    (run,) = (run for run in report.runs if run.arm == NAME)
    assert run.points[0].step == 3
    assert run.learning_rate == run.rate_search.rate


@pytest.mark.quick_cases(0)
def test_its_first_phase_takes_the_rate_that_was_searched_for_an_equal_variant(request_for, tmp_path):
    request = request_for(arms=("depth:1", "progressive:1-3@6"), match="steps")
    with arms_in_this_process():
        first, second = validate(request, tmp_path / "out").runs
    assert second.rate_search.reused
    assert second.learning_rate == first.learning_rate
    assert second.train_losses[:6] == pytest.approx(first.train_losses[:6], abs=1e-6)


def test_it_is_prepared_at_the_cost_of_both_phases(request_for):
    prepared = prepare(request_for())
    arm = prepared.arms[2]
    setup = prepared.setups[NAME]
    assert setup.prefix_cache
    assert prepared.relative_flop(arm) == progressive_flop(prepared.shape, setup, arm.switch) / prepared.full_flop()
    assert prepared.settings[NAME].rate_steps == 3
    assert {settings.warmup_steps for settings in prepared.settings.values()} == {1}
    assert search_note(prepared).startswith("Learning rates are searched for full, depth:1, progressive:1-3@3")
    assert run_name(NAME, 0) == "progressive-1-3@3-seed0"


def test_the_plan_says_how_deep_it_freezes_in_the_end(request_for, tmp_path):
    deep, _ = make_tiny_plan(tmp_path / "model", 3)
    (arm,) = prepare(request_for(plan=deep, arms=("progressive",))).arms
    assert arm.switch == DepthSwitch(1, 3, 6)
    none, _ = make_tiny_plan(tmp_path / "model", None)
    with pytest.raises(PlanError, match="The plan makes no recommendation"):
        prepare(request_for(plan=none, arms=("full", "progressive")))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("progressive:1-3@12", "freezes deeper after step 12; expected a step from 1 to 11, of 12"),
        ("progressive:1-3@1", r"freezes deeper after step 1, too early .* after step 2 or later, .* --lr progressive"),
    ],
)
def test_a_switch_at_no_step_of_the_training_is_refused(request_for, name, problem):
    with pytest.raises(InputError, match=problem):
        prepare(request_for(arms=("full", name)))
