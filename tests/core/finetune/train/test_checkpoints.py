"""Checkpoints by time: none in a short training, and a killed one goes on from the last, with the best weights."""

import functools
from types import MappingProxyType

import pytest

from semfreeze_core.finetune.arm.trainer import TRAINED, checkpoint_step, last_complete_checkpoint
from semfreeze_core.finetune.train import fit
from semfreeze_core.finetune.train import train as train_module
from semfreeze_core.finetune.train.checkpoints import remove_surpassed
from semfreeze_core.finetune.train.phases import PhasedTraining
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.records.defaults import BEST_EVALUATIONS, CHECKPOINT_SECONDS
from tests.core.finetune.train.test_train import InventedLosses, Killed, asked, workspace  # noqa: F401 - a fixture

MODEL = "model.safetensors"


class Clock:
    """Goes on by so many seconds a step."""

    def __init__(self, a_step):
        self.now, self.a_step = 0.0, a_step

    def __call__(self):
        return self.now


@pytest.fixture
def timed(monkeypatch):
    """Makes trainings whose steps take so long; returns the steps of their checkpoints, and kills after a step."""

    recorder, trainer = fit.Recorder, fit.PlanTrainer

    def begin(a_step, kill_after=None):
        clock, saved = Clock(a_step), []

        class Steps(recorder):
            def on_step_end(self, args, state, control, **rest):
                clock.now += clock.a_step
                super().on_step_end(args, state, control, **rest)
                if state.global_step == kill_after:
                    raise Killed

        class Saves(trainer):
            def _save_checkpoint(self, *given, **more):
                super()._save_checkpoint(*given, **more)
                saved.append(self.state.global_step)

        monkeypatch.setattr(fit, "Recorder", Steps)
        monkeypatch.setattr(fit, "PlanTrainer", Saves)
        monkeypatch.setattr(train_module, "PhasedTraining", functools.partial(PhasedTraining, clock=clock))
        return saved

    return begin


def test_a_short_training_writes_no_checkpoint_and_the_same_model(workspace, tmp_path, timed):  # noqa: F811
    every = timed(1.0)
    train_plan(asked(workspace), tmp_path / "by steps")
    assert every == [2, 4, 6]
    none = timed(1.0)
    train_plan(asked(workspace, save_steps=None), tmp_path / "by time")
    assert none == []
    ours, theirs = ((tmp_path / name / MODEL).read_bytes() for name in ("by time", "by steps"))
    assert ours == theirs


def test_a_long_training_writes_one_when_its_time_has_come_and_goes_on_from_it(workspace, tmp_path, timed):  # noqa: F811
    saved = timed(0.4 * CHECKPOINT_SECONDS)
    whole = train_plan(asked(workspace, save_steps=None), tmp_path / "whole")
    assert saved == [3], "not after the last step, which ends it"
    saved = timed(0.4 * CHECKPOINT_SECONDS, kill_after=5)
    with pytest.raises(Killed):
        train_plan(asked(workspace, save_steps=None), tmp_path / "cut")
    assert saved == [3]
    saved = timed(0.4 * CHECKPOINT_SECONDS)
    resumed = train_plan(asked(workspace, save_steps=None), tmp_path / "cut")
    assert resumed.losses == pytest.approx(whole.losses[3:], abs=1e-6)
    assert saved == []
    assert (tmp_path / "cut" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize(("best", "kill_after"), [(2, 5), (3, 5), (4, 5), (5, 5)])
def test_the_best_weights_outlive_a_kill_with_few_checkpoints(
    workspace,  # noqa: F811
    tmp_path,
    monkeypatch,
    timed,
    best,
    kill_after,
):
    assert BEST_EVALUATIONS > 6, "every step is evaluated"
    losses = {step: 5.0 - step if step <= best else 4.0 for step in range(1, 7)}
    monkeypatch.setattr(fit, "ArmEvaluator", InventedLosses)
    monkeypatch.setattr(InventedLosses, "by_step", MappingProxyType(losses))
    request = asked(workspace, save_steps=None, evaluation=str(workspace / "eval.jsonl"), keep_best=True, n_accuracy=0)
    timed(0.4 * CHECKPOINT_SECONDS, kill_after=kill_after)
    with pytest.raises(Killed):
        train_plan(request, tmp_path / "out")
    checkpoints = tmp_path / "out" / "checkpoints"
    assert checkpoint_step(last_complete_checkpoint(checkpoints)) == 3
    before = min(best, 4)  # what was evaluated before the kill, which was inside of step 5
    names = sorted(p.name for p in checkpoints.iterdir())
    assert names == sorted({"checkpoint-3", *({f"best-{before}"} if before != 3 else ())})
    if before != 3:
        assert [p.name for p in (checkpoints / f"best-{before}").iterdir()] == [TRAINED], "weights alone"
    timed(0.4 * CHECKPOINT_SECONDS)
    trained = train_plan(request, tmp_path / "out")
    assert trained.after.step == best
    assert f"Saved the checkpoint of step {best} of 6, with the lowest eval loss of 6" in " ".join(trained.notes)
    assert not checkpoints.exists()
    timed(1.0)
    train_plan(asked(workspace, save_steps=None, last_step=best), tmp_path / "alone")
    assert (tmp_path / "out" / MODEL).read_bytes() == (tmp_path / "alone" / MODEL).read_bytes()


def test_weights_that_a_checkpoint_may_resume_with_are_kept(tmp_path, monkeypatch):
    for step in (2, 4, 6):
        (tmp_path / f"best-{step}").mkdir()
    monkeypatch.setattr("semfreeze_core.finetune.train.checkpoints.complete_checkpoints", lambda _: [tmp_path])
    monkeypatch.setattr("semfreeze_core.finetune.train.checkpoints.trainer_state", lambda _: {"best_global_step": 2})
    remove_surpassed(tmp_path, 6)
    assert {p.name for p in tmp_path.iterdir()} == {"best-2", "best-6"}
