"""The model before training: it is evaluated with progress told as it goes, whoever trains it."""

from dataclasses import replace

import pytest

from semfreeze_core.finetune.arm import accuracy, evaluate
from semfreeze_core.finetune.arm.accuracy import ANSWERING
from semfreeze_core.finetune.arm.baseline import evaluate_baseline
from semfreeze_core.finetune.arm.evaluate import EVALUATING
from semfreeze_core.finetune.train.request import TrainRequest
from semfreeze_core.finetune.train.train import train_plan
from tests.core.finetune.loaded import load_tiny, task_examples
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Few examples in a batch, as of long examples."""
    few = evaluate.bounded_batches
    for module in (evaluate, accuracy):
        monkeypatch.setattr(module, "bounded_batches", lambda lengths, most_tokens=40: few(lengths, 40))


def assert_moves(events, stage, total):
    moves = [event.done for event in events if event.stage == stage]
    assert moves[0] == 0
    assert moves[-1] == total
    assert moves == sorted(moves)
    assert len(set(moves)) > 3, "the bar moves between its ends"
    assert {(event.total, event.unit) for event in events if event.stage == stage} == {(total, "examples")}


def test_a_baseline_tells_how_many_examples_it_has_evaluated_and_answered(tmp_path):
    events = []
    evaluation = task_examples(20)
    baseline = evaluate_baseline(
        load_tiny(tmp_path / "tiny"), evaluation, n_accuracy=12, precision="float32", progress=events.append
    )
    assert (baseline.n_items, baseline.n_accuracy_items) == (20, 12)
    assert_moves(events, EVALUATING, 20)
    assert_moves(events, ANSWERING, 12)


def test_a_training_tells_the_same_of_the_evaluation_before_it_and_of_no_other(tmp_path):
    plan, _ = make_tiny_plan(tmp_path / "model")
    request = TrainRequest(
        plan,
        str(write_task(tmp_path / "train.jsonl", 8)),
        replace(plan.cost.setup, sequence_length=2048, batch_size=4),
        str(write_task(tmp_path / "eval.jsonl", 12, seed=9)),
        steps=2,
        learning_rate=3e-3,
        n_accuracy=8,
    )
    events = []
    train_plan(request, tmp_path / "out", events.append)
    assert_moves(events, EVALUATING, 12)
    assert_moves(events, ANSWERING, 8)
    steps = [i for i, event in enumerate(events) if event.unit == "steps"]
    assert all(i < steps[0] for i, event in enumerate(events) if event.stage in (EVALUATING, ANSWERING))
