"""On a GPU trainings and their evaluations may multiply in TF32, and what is verified in float32 may not."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.finetune.arm import baseline, evaluate, training
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.baseline import evaluate_baseline
from semfreeze_core.finetune.arm.evaluate import ArmEvaluator
from semfreeze_core.finetune.arm.run import run_arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.trainer import PlanTrainer
from semfreeze_core.finetune.prefix import fill
from semfreeze_core.finetune.train import fit, phases
from semfreeze_core.finetune.train.request import TrainRequest
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.records.training import DepthSwitch, TrainingSetup
from tests.core.finetune.loaded import load_tiny, task_examples
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task


@pytest.fixture
def precisions(monkeypatch):
    """For training steps, evaluations and passes of a prefix: whether they were made where TF32 is allowed."""
    allowed, tf32_by_stage = [], {"step": set(), "evaluation": set(), "prefix": set()}

    @contextmanager
    def tf32_products(device):
        allowed.append(device)
        yield
        allowed.pop()

    def noting(what, call):
        def noted(*args, **options):
            tf32_by_stage[what].add(bool(allowed))
            return call(*args, **options)

        return noted

    for module in (training, baseline, phases):
        monkeypatch.setattr(module, "tf32_products", tf32_products)
    for what, owner, name in (
        ("step", PlanTrainer, "training_step"),
        ("evaluation", evaluate, "mean_losses"),
        ("prefix", fill, "_run"),
    ):
        monkeypatch.setattr(owner, name, noting(what, getattr(owner, name)))
    return tf32_by_stage


def test_a_variant_and_the_baseline_take_tf32_and_the_prefix_cache_does_not(precisions, tmp_path):
    train, evaluation = task_examples(8), task_examples(6, seed=1)
    loaded = load_tiny(tmp_path / "llama")
    evaluate_baseline(loaded, evaluation, n_accuracy=0, precision="float32")
    assert precisions == {"step": set(), "evaluation": {True}, "prefix": set()}
    settings = ArmSettings(TrainingSetup(batch_size=4, steps=2), seed=0, warmup_steps=1, n_accuracy=0, n_between=1)
    (arm,) = make_arms(("planned",), loaded.shape, parts_at_depth(loaded.shape, 2), rates={"frozen": 3e-3})
    run_arm(loaded, arm, settings, train, evaluation, baseline_bytes=0)
    assert precisions == {"step": {True}, "evaluation": {True}, "prefix": {False}}


class BestFirst(ArmEvaluator):
    """Evaluates, and then takes the first checkpoint for the best."""

    def evaluate(self, step, marks, seconds):
        super().evaluate(step, marks, seconds)
        if marks == ["checkpoint"]:
            self.points[-1] = self.points[-1].model_copy(update={"loss": float(step)})


@pytest.mark.parametrize("switch", [None, DepthSwitch(0, 3, 2)], ids=["one phase", "two phases"])
def test_a_training_takes_tf32_and_its_prefix_cache_does_not(precisions, tmp_path, monkeypatch, switch):
    monkeypatch.setattr(fit, "ArmEvaluator", BestFirst)
    plan, _ = make_tiny_plan(tmp_path / "model", 3, switch=switch)
    request = TrainRequest(
        plan,
        str(write_task(tmp_path / "train.jsonl", 8)),
        replace(plan.cost.setup, sequence_length=2048, batch_size=4, prefix_cache=True),
        str(write_task(tmp_path / "eval.jsonl", 6, seed=9)),
        steps=6,
        learning_rate=3e-3,
        save_steps=1,
        n_accuracy=0,
        keep_best=True,
    )
    assert train_plan(request, tmp_path / "out").after.step == 1
    assert precisions == {"step": {True}, "evaluation": {True}, "prefix": {False}}
