"""From runs to one report: which seeds count, what is compared with what, and what a missing run means."""

import io

import numpy as np
import pytest
from rich.console import Console

from semfreeze_core.cli.printing.validation import print_validation
from semfreeze_core.cost import parts_at_depth
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.validation.report import build_report, failed_run, point_at
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from semfreeze_core.records.validation import Baseline, EvalPoint, FlopEntry, ValidationSettings
from tests.core.finetune.tiny_plan import make_tiny_plan

ITEMS = 40
SETUP = TrainingSetup(batch_size=4, sequence_length=64, train_examples=8, steps=10)
BEFORE = np.linspace(1.5, 2.5, ITEMS)


@pytest.fixture(scope="module")
def plan_and_arms(tmp_path_factory):
    plan, loaded = make_tiny_plan(tmp_path_factory.mktemp("report") / "model")
    return plan, {
        arm.name: arm for arm in make_arms(("full", "planned"), loaded.shape, parts_at_depth(loaded.shape, 2))
    }


def settings(seeds=3, budget="compute"):
    return ValidationSettings(
        plan_digest="",
        freeze_depth=2,
        model="tiny",
        train="t",
        eval="e",
        train_digest="",
        eval_digest="",
        n_train=8,
        n_eval=ITEMS,
        n_accuracy=0,
        setup=SETUP,
        arms=["full", "planned"],
        learning_rates={},
        lora=LoraSetup(2),
        seeds=list(range(seeds)),
        warmup_steps=1,
        budget=budget,
        margin=0.05,
        device="cpu",
        n_between=0,
    )


def run(arm, seed, gains):
    """A finished run that gains so much at each mark."""
    base = failed_run(arm, ArmSettings(SETUP, seed=seed, warmup_steps=1), seed, "")
    noise = np.random.default_rng(seed).normal(0, 0.01, ITEMS)
    points = []
    for step, (mark, gain) in enumerate(gains.items(), start=10):
        losses = (BEFORE - gain + noise).tolist()
        points.append(
            EvalPoint(
                step=step,
                seconds=1.0,
                flop=5,
                curve_loss=1.0,
                loss=float(np.mean(losses)),
                marks=mark.split("+"),
                item_losses=losses,
                accuracy=None,
            )
        )
    return base.model_copy(
        update={
            "status": "done",
            "points": points,
            "steps": 12,
            "step_seconds": [1.0] * 12,
            "train_losses": [1.0] * 12,
            "flop": FlopEntry(counted=7, predicted=6),
        }
    )


def report_of(plan_and_arms, runs, **changes):
    plan, _ = plan_and_arms
    baseline = Baseline(
        loss=float(BEFORE.mean()), item_losses=BEFORE.tolist(), accuracy=None, n_items=ITEMS, n_accuracy_items=0
    )
    return build_report(plan, settings(**changes), baseline, runs, {"full": 1.0, "planned": 0.5}, ["look out"])


def test_report_judges_at_each_mark_against_full_at_equal_steps(plan_and_arms):
    _, arms = plan_and_arms
    runs = []
    for seed in range(3):
        runs.append(run(arms["full"], seed, {"steps+compute": 1.0}))
        runs.append(run(arms["planned"], seed, {"steps": 0.8, "compute": 1.1}))
    report = report_of(plan_and_arms, runs)
    assert report.finished
    assert report.verdicts == {"steps": "fails", "compute": "holds"}
    assert report.verdict == "holds"
    assert report.improvement_kept.estimate == pytest.approx(1.1, abs=0.01)
    planned = report.arms["planned"]
    assert planned.improvement_kept.estimate == pytest.approx(0.8, abs=0.01)
    assert planned.improvement_kept_compute.estimate == pytest.approx(1.1, abs=0.01)
    assert (planned.steps, planned.steps_compute, planned.train_seconds) == (10, 11, 10.0)
    assert report.arms["full"].eval_loss_after == pytest.approx(BEFORE.mean() - 1, abs=0.01)
    assert report.warnings == ["look out"]
    assert report_of(plan_and_arms, runs, budget="steps").verdict == "fails"


def test_report_compares_only_seeds_that_both_arms_finished(plan_and_arms):
    _, arms = plan_and_arms
    runs = [run(arms["full"], seed, {"steps+compute": 1.0}) for seed in range(3)]
    runs += [run(arms["planned"], seed, {"steps": 1.0, "compute": 1.0}) for seed in (0, 1)]
    runs.append(
        failed_run(arms["planned"], ArmSettings(SETUP, seed=2, warmup_steps=1), 2, "the loss was nan at step 3")
    )
    report = report_of(plan_and_arms, runs)
    assert report.verdict == "undecided"
    assert "2 seeds" in report.reason
    planned = report.arms["planned"]
    assert (planned.seeds, planned.failed_seeds) == ([0, 1], [2])
    assert planned.reason == "the loss was nan at step 3"
    assert report.finished, "a failed run is an answer too"


def test_report_of_what_there_is_so_far(plan_and_arms):
    _, arms = plan_and_arms
    report = report_of(plan_and_arms, [run(arms["full"], 0, {"steps+compute": 1.0})])
    assert not report.finished
    assert report.verdict == "undecided"
    assert "no finished run of planned" in report.reason
    assert set(report.arms) == {"full"}
    assert report.improvement_kept.estimate is None


def test_report_of_arms_that_all_failed_has_no_numbers(plan_and_arms):
    _, arms = plan_and_arms
    runs = [failed_run(arm, ArmSettings(SETUP, seed=0, warmup_steps=1), 0, "no memory") for arm in arms.values()]
    report = report_of(plan_and_arms, runs, seeds=1)
    assert report.verdict == "undecided"
    assert report.arms["full"].eval_loss_after is None
    assert report.arms["full"].improvement.estimate is None


def test_point_at_finds_the_mark(plan_and_arms):
    _, arms = plan_and_arms
    made = run(arms["planned"], 0, {"steps": 0.5, "compute": 0.7})
    assert point_at(made, "steps").step == 10
    assert point_at(made, "compute").step == 11
    assert point_at(run(arms["full"], 0, {"steps": 0.5}), "compute") is None


def test_report_says_what_arms_keep_where_each_was_lowest(plan_and_arms):
    _, arms = plan_and_arms
    full = {"between": 0.5, "between+between": 1.0, "steps+compute": 0.8}
    planned = {"between": 0.5, "between+between": 0.9, "steps": 0.7, "compute": 0.2}
    runs = [run(arms[name], seed, how) for name, how in (("full", full), ("planned", planned)) for seed in range(3)]
    report = report_of(plan_and_arms, runs)
    assert report.arms["planned"].improvement_kept_stopped.estimate == pytest.approx(0.9, abs=0.01)
    assert report.arms["planned"].improvement_kept_compute.estimate == pytest.approx(0.2 / 0.8, abs=0.01)
    assert report.arms["full"].improvement_kept_stopped.estimate == pytest.approx(1.0)
    assert "planned after 11 of 13 steps" in report.warnings[-1]
    out = Console(file=io.StringIO(), width=300)
    print_validation(report, out)
    assert "the loss reduction is, of full finetuning's: planned 90% (95% CI" in out.file.getvalue()


def test_report_without_evaluations_on_the_way_stops_nothing(plan_and_arms):
    _, arms = plan_and_arms
    runs = [run(arms[name], 0, {"steps": 1.0, "compute": 1.1}) for name in ("full", "planned")]
    assert report_of(plan_and_arms, runs).arms["planned"].improvement_kept_stopped.estimate is None
