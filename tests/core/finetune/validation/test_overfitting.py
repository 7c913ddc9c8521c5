import numpy as np
import pytest

from semfreeze_core.finetune.validation.overfitting import evaluations_of, overfitting_warnings, stopped_losses
from semfreeze_core.records.validation import ArmRun, EvalPoint

NOISE = np.random.default_rng(0).normal(0, 0.05, 32)
NOISE -= NOISE.mean()


def arm(seed, means, *, status="done", steps=(4, 8, 16), marks=("between", "steps", "compute")):
    points = [
        EvalPoint(
            step=step,
            seconds=1.0,
            flop=1,
            curve_loss=mean,
            loss=None,
            marks=[mark],
            item_losses=(mean + NOISE * (1 + i)).tolist(),
            accuracy=None,
        )
        for i, (step, mean, mark) in enumerate(zip(steps, means, marks, strict=True))
    ]
    return ArmRun.model_construct(seed=seed, status=status, points=points)


def test_an_arm_that_rises_is_named_with_where_and_by_how_much():
    runs = {"full": [arm(0, (3, 2, 1))], "depth:20": [arm(s, (3, 1, 2)) for s in range(2)]}
    (warning,) = overfitting_warnings(runs)
    assert "depth:20 after 8 of 16 steps, then up by 1.0" in warning
    assert "full" not in warning.partition(":")[2].partition(" (first")[0]


def test_nothing_is_said_of_arms_that_only_fall_or_were_read_once():
    assert overfitting_warnings({"full": [arm(0, (3, 2, 1))]}) == []
    assert overfitting_warnings({"full": [arm(0, (1,), steps=(4,), marks=("steps",))]}) == []
    assert overfitting_warnings({"full": [arm(0, (3, 1, 2), status="failed")]}) == []
    assert overfitting_warnings({}) == []


def test_the_evaluation_before_training_does_not_count():
    assert overfitting_warnings({"full": [arm(0, (1, 3, 2), marks=("start", "between", "steps"))]}) == []


def test_evaluations_are_means_over_seeds_of_the_examples_all_have():
    runs = [arm(0, (3, 2, 1)), arm(1, (1, 2, 3))]
    short = runs[0].points[0]
    runs[0].points[0] = short.model_copy(update={"item_losses": short.item_losses[:10]})
    steps, losses = evaluations_of(runs)
    assert steps == [4, 8, 16]
    assert losses.shape == (3, 10)
    assert losses.mean(axis=1) == pytest.approx(2, abs=0.1)


def test_reports_from_before_items_were_kept_say_nothing():
    old = arm(0, (3, 1, 2))
    old.points[0] = old.points[0].model_copy(update={"item_losses": None})
    steps, losses = evaluations_of([old])
    assert (steps, losses.shape) == ([8, 16], (2, 32))
    assert evaluations_of([arm(0, (3, 2, 1)), arm(1, (3, 2, 1), steps=(4, 8, 15))])[0] == []


def test_each_seed_is_stopped_where_its_own_run_was_lowest():
    by_seed = stopped_losses([arm(0, (3, 1, 2)), arm(1, (3, 2, 1)), arm(2, (3, 1, 2), status="failed")])
    assert {seed: losses.mean() for seed, losses in by_seed.items()} == pytest.approx({0: 1, 1: 1}, abs=1e-9)
    assert by_seed[0].shape == (32,)


def test_nothing_is_stopped_where_nothing_was_read_between_the_marks():
    assert stopped_losses([arm(0, (1, 2), steps=(8, 16), marks=("steps", "compute"))]) == {}
    assert stopped_losses([]) == {}
