"""Checkpoints by time: a killed arm goes on from the last one, to the numbers of an undisturbed arm."""

from dataclasses import replace
from functools import cache

import pytest
from transformers import TrainerControl, TrainerState

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.finetune.arm import phase as phase_module
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.files import RECORDED, rates_folder, saves_folder, to_go_on_from
from semfreeze_core.finetune.arm.recorder import Recorder
from semfreeze_core.finetune.arm.run import run_arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.timed_saves import SaveByTime, TimedSaves, last_saved
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from tests.core.finetune.loaded import load_tiny, task_examples

TRAIN, EVAL = task_examples(24), task_examples(20, seed=1)
SETUP = TrainingSetup(batch_size=4, steps=12, loss="supervised-only")
SETTINGS = ArmSettings(SETUP, seed=0, warmup_steps=1, n_accuracy=0, n_between=2)  # an epoch is 6 steps
SEARCHED = replace(SETTINGS, rate_steps=4)
RATE = 3e-3


class Killed(BaseException):
    """In the place of a kill: nothing may handle it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def killed_at(monkeypatch):
    """Kills the arm after a step of its own training, once; returns the steps that were made."""

    def kill(step):
        made = []

        class Dies(Recorder):
            def on_step_end(self, args, state, control, **rest):
                super().on_step_end(args, state, control, **rest)
                made.append(state.global_step)
                if state.global_step == step and made.count(step) == 1:
                    raise Killed

        monkeypatch.setattr(phase_module, "ArmTraining", _training_with(Dies))
        return made

    return kill


def _training_with(recorder):
    """ArmTraining whose own recorder, not those of a search's trials, is of another class."""
    plain = phase_module.ArmTraining

    class Watched(plain):
        def recorder(self, evaluate, at, **how):
            if not how["stage"].endswith(")"):  # a trial's names its rate
                return super().recorder(evaluate, at, **how)
            network = self.network
            return recorder(
                network.supervised, evaluate, at, begin=network.offload, device=network.decoder.device,
                baseline_bytes=self.baseline_bytes, progress=self.progress, **how,
            )  # fmt: skip

    return Watched


def trained(folder, name, settings, result=None):
    loaded = load_tiny(folder / "llama")
    (arm,) = make_arms(
        (name,), loaded.shape, parts_at_depth(loaded.shape, 3), lora=LoraSetup(2), rates={name: RATE},
        steps=settings.setup.steps,
    )  # fmt: skip
    how = {} if result is None else {"rates_folder": rates_folder(result), "saves": TimedSaves(saves_folder(result), 0)}
    return run_arm(loaded, arm, settings, TRAIN, EVAL, baseline_bytes=0, **how)


@pytest.fixture(scope="module")
def undisturbed(folder):
    return cache(lambda name, settings: trained(folder, name, settings))


def numbers(run):
    points = [(p.step, p.marks, p.item_losses, p.flop) for p in run.points]
    search = None if run.rate_search is None else run.rate_search.model_dump(exclude={"spent_seconds", "trials"})
    return run.train_losses, points, run.flop, run.learning_rate, search


def test_a_checkpoint_is_due_when_the_time_has_passed_since_the_last_was_written():
    now, state = [0.0], TrainerState()
    callback = SaveByTime(60, clock=lambda: now[0])
    now[0] = 60
    callback.on_train_begin(None, state, TrainerControl())  # loading and the cache pass do not count

    def due_at(seconds, **how):
        control = TrainerControl(should_save=True, **how)  # as the Trainer sets it after the last step
        now[0] = seconds
        callback.on_step_end(None, state, control)
        return control.should_save

    assert not due_at(119)
    assert due_at(120)
    now[0] += 50  # that writing it takes
    callback.on_save(None, state, TrainerControl())
    assert not due_at(229)
    assert due_at(230)
    assert not due_at(230, should_training_stop=True)  # it failed, or has ended


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize(
    ("name", "settings", "step", "made"),
    [
        ("planned", SETTINGS, 8, [*range(1, 9), *range(8, 13)]),
        ("full", SETTINGS, 8, [*range(1, 9), *range(8, 13)]),
        ("lora", SETTINGS, 3, [*range(1, 4), *range(3, 13)]),
        ("full", SEARCHED, 7, [5, 6, 7, *range(7, 13)]),
        ("progressive:1-3@8", SETTINGS, 5, [*range(1, 6), *range(5, 13)]),
        (
            "progressive:1-3@8",
            SETTINGS,
            10,
            [*range(1, 11), *range(9, 13)],
        ),  # of the phase after the switch none is saved
    ],
)
def test_a_killed_arm_goes_on_to_the_same_numbers(folder, tmp_path, undisturbed, killed_at, name, settings, step, made):
    result = tmp_path / "arm.json"
    steps = killed_at(step)
    with pytest.raises(Killed):
        trained(folder, name, settings, result)
    again = trained(folder, name, settings, result)
    assert steps == made  # the step of the kill was not saved
    assert numbers(again) == numbers(undisturbed(name, settings))


def test_what_an_arm_goes_on_from_is_whole(folder, tmp_path, killed_at):
    result = tmp_path / "arm.json"
    killed_at(4)
    with pytest.raises(Killed):
        trained(folder, "planned", SETTINGS, result)
    checkpoint, recorded = last_saved(saves_folder(result))
    assert (checkpoint.name, len(recorded.train_losses)) == ("checkpoint-3", 3)
    files = to_go_on_from(result)
    assert {file.parent for file in files} == {checkpoint}
    assert {"trained.safetensors", "optimizer.pt", RECORDED} <= {file.name for file in files}
    (checkpoint / RECORDED).write_text("{")
    assert last_saved(saves_folder(result))[0].name == "checkpoint-2"
    (checkpoint / RECORDED).unlink()
    assert {file.parent.name for file in to_go_on_from(result)} == {"checkpoint-2"}
