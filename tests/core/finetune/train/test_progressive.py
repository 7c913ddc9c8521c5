"""Trainings of plans that freeze deeper at a step: as the variant trains, and whole again after a kill anywhere."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.evaluate import ArmEvaluator
from semfreeze_core.finetune.arm.run import run_arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.trainer import TRAINED, last_complete_checkpoint
from semfreeze_core.finetune.model.task_data import read_task_data
from semfreeze_core.finetune.train import deeper, fit, phases
from semfreeze_core.finetune.train import train as train_module
from semfreeze_core.finetune.train.deeper import DEEPER, save_switch, saved_switch, wide_weights
from semfreeze_core.finetune.train.request import TrainRequest
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.gains.looks import decide_look
from semfreeze_core.records import training as records_training
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.temporary import remove_leftovers
from tests.core.finetune.loaded import load_tiny
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task
from tests.core.killed_writes import Killed, kill_everywhere

# An epoch is 4 steps: the first phase meets no example twice, the second does and has a cache.
SWITCH = DepthSwitch(0, 3, 4)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("progressive")
    write_task(folder / "train.jsonl", 16)
    write_task(folder / "eval.jsonl", 20, seed=9)
    return folder


@pytest.fixture(scope="module")
def request_for(workspace):
    plan, _ = make_tiny_plan(workspace / "model", 3, switch=SWITCH)
    setup = replace(plan.cost.setup, sequence_length=2048, batch_size=4)

    def build(**changes):
        base = TrainRequest(
            plan, str(workspace / "train.jsonl"), setup, str(workspace / "eval.jsonl"), steps=12, learning_rate=3e-3,
            save_steps=3, n_accuracy=0,
        )  # fmt: skip
        return replace(base, **changes)

    return build


@pytest.fixture(scope="module")
def whole(workspace, request_for):
    """A training that was never stopped, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMFREEZE_HOME", str(workspace / "home"))
        return train_plan(request_for(), workspace / "whole"), workspace / "whole"


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def same(ours, theirs):
    return all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.quick_cases(0)
def test_it_trains_as_the_variant_does(workspace, request_for, whole):
    trained, folder = whole
    request = request_for()
    loaded = load_tiny(workspace / "model")
    data = read_task_data(
        request.data, request.evaluation, loaded.tokenizer, mapping=FieldMapping(), n_train=48, n_eval=None,
        max_length=request.how.sequence_length, add_eos=True, seed=0,
    )  # fmt: skip
    arm = Arm("planned", request.plan.trainable, None, 3e-3, SWITCH)
    settings = ArmSettings(replace(request.how, steps=12), seed=0, warmup_steps=1, n_between=0)
    run = run_arm(loaded, arm, settings, data.train.tokenized, data.evaluation.tokenized, baseline_bytes=0)
    assert trained.losses == pytest.approx(run.train_losses, abs=1e-6)
    after = dict(loaded.decoder.model.named_parameters())
    ours = weights(folder)
    before = dict(load_tiny(workspace / "model").decoder.model.named_parameters())
    for name, parameter in after.items():
        assert torch.allclose(ours[name], parameter, rtol=0, atol=1e-6), name
        assert not torch.equal(ours[name], before[name]), "the first phase moves every parameter"
    assert trained.after.loss == pytest.approx(run.points[-1].loss, abs=1e-6)
    assert trained.before.loss > trained.after.loss


def test_the_card_says_both_phases_and_nothing_is_left_to_resume(whole):
    trained, folder = whole
    card = (folder / "README.md").read_text()
    assert "Train all 4 layers for 4 steps, then freeze the first 3." in " ".join(card.split())
    assert json.loads((folder / "training.json").read_text())["train_losses"] == trained.losses
    assert len(trained.losses) == 12
    assert not {"checkpoints", "rates", "deeper", "states"} & {path.name for path in folder.iterdir()}


def stop(*_, **__):
    raise Killed


@contextmanager
def stopped(patch, where):
    """Training that is killed at a step, or before or after it keeps what the second phase begins with."""

    def keep_and_stop(*given):
        save_switch(*given)
        raise Killed

    class Dies(fit.Recorder):
        def on_step_end(self, args, state, control, **rest):
            super().on_step_end(args, state, control, **rest)
            if state.global_step == where:
                raise Killed

    with patch.context() as inner:
        if isinstance(where, int):
            inner.setattr(fit, "Recorder", Dies)
        else:
            target, name = {"before": (phases, "save_switch"), "within": (deeper.shutil, "copyfile")}.get(
                where, (phases, "save_switch")
            )
            inner.setattr(target, name, keep_and_stop if where == "after" else stop)
        with pytest.raises(Killed):
            yield


@pytest.mark.quick_cases(8)
@pytest.mark.parametrize("where", ["within", 3, 5, "before", "after", 4, 8])
def test_killed_in_either_phase_or_between_it_ends_with_the_same_weights(
    request_for, whole, tmp_path, monkeypatch, where
):
    with stopped(monkeypatch, where):
        train_plan(request_for(), tmp_path / "out")
    trained = train_plan(request_for(), tmp_path / "out")
    assert same(weights(tmp_path / "out"), weights(whole[1]))
    assert trained.after.loss == pytest.approx(whole[0].after.loss, abs=1e-6)
    assert trained.losses == pytest.approx(whole[0].losses[-len(trained.losses) :], abs=1e-6)


def test_what_the_second_phase_begins_with_is_whole_or_not_there(request_for, tmp_path, monkeypatch):
    """Every file operation of keeping it is a place to be killed at."""
    with stopped(monkeypatch, "before"):
        train_plan(request_for(), tmp_path / "begun")
    checkpoint = last_complete_checkpoint(tmp_path / "begun" / "checkpoints")
    assert checkpoint.name == "checkpoint-4"
    names = list(json.loads((checkpoint / "optimized.json").read_text())[0])
    outcomes = []

    def prepare(n):
        (tmp_path / f"at-{n}").mkdir()
        return tmp_path / f"at-{n}"

    for folder, _ in kill_everywhere(prepare, lambda folder: save_switch(checkpoint, names[:2], folder, None)):
        switch_checkpoint = saved_switch(folder)
        outcomes.append(switch_checkpoint is not None)
        assert (switch_checkpoint is not None) == (folder / DEEPER).exists()
        if switch_checkpoint is not None:
            assert (wide_weights(folder) / TRAINED).read_bytes() == (checkpoint / TRAINED).read_bytes()
        remove_leftovers(folder)
        if switch_checkpoint is None:
            save_switch(checkpoint, names[:2], folder, None)
        assert {path.name for path in folder.iterdir()} == {DEEPER}
        shutil.rmtree(folder)
    assert len(outcomes) > 5
    assert outcomes[-1]
    assert not all(outcomes)


class InventedLosses(ArmEvaluator):
    """Evaluates, and then replaces the losses of checkpoints."""

    by_step = MappingProxyType({3: 2.0, 4: 1.5, 6: 3.0, 9: 1.9, 12: 3.0})

    def evaluate(self, step, marks, seconds):
        super().evaluate(step, marks, seconds)
        if marks == ["checkpoint"]:
            self.points[-1] = self.points[-1].model_copy(update={"loss": self.by_step[step]})


BEST_CASES = [
    *((3, best, killed_at) for best, killed_at in ((3, 7), (4, None), (9, 10), (3, None), (9, None), (4, 12))),
    *((None, best, killed_at) for best, killed_at in ((3, 7), (9, None), (9, 10), (3, None))),  # weights kept alone
]


@pytest.mark.quick_cases(6)
@pytest.mark.parametrize(("save_steps", "best", "killed_at"), BEST_CASES)
def test_the_best_checkpoint_may_be_of_either_phase(
    workspace, request_for, tmp_path, monkeypatch, save_steps, best, killed_at
):
    monkeypatch.setattr(fit, "ArmEvaluator", InventedLosses)
    losses = dict.fromkeys(range(1, 13), 3.0) | {3: 2.0, 4: 2.1, 9: 2.2, best: 1}
    monkeypatch.setattr(InventedLosses, "by_step", MappingProxyType(losses))
    request, saved_folder = request_for(keep_best=True, save_steps=save_steps), tmp_path / "kept"
    with monkeypatch.context() as patch:  # its weights, before the training ends
        write, folder = train_module.save_finetuned, tmp_path / "out"

        def keep(*given):
            name = "best" if save_steps is None else "checkpoint"
            shutil.copytree(folder / "checkpoints" / f"{name}-{best}", saved_folder)
            write(*given)

        patch.setattr(train_module, "save_finetuned", keep)
        if killed_at is not None:
            with stopped(monkeypatch, killed_at):
                train_plan(request, folder)
        trained = train_plan(request, folder)
    ours, saved = weights(folder), load_file(saved_folder / TRAINED)
    after = {name: next(value for n, value in ours.items() if name.endswith(n)) for name in saved}
    assert same(after, saved)
    assert len(saved) == len(ours) if best <= 4 else len(saved) < len(ours)
    assert trained.after.step == best
    assert f"with the weights of step {best}" in " ".join((folder / "README.md").read_text().split())


@pytest.mark.quick_cases(0)
def test_its_rate_is_searched_in_the_first_phase_and_known_after_a_kill(request_for, tmp_path, monkeypatch):
    request = request_for(learning_rate=None)
    plain = train_plan(request, tmp_path / "plain")
    assert plain.search.steps == 4
    with stopped(monkeypatch, 8):
        train_plan(request, tmp_path / "out")
    trained = train_plan(request, tmp_path / "out")
    assert trained.search.spent_flop == plain.search.spent_flop
    assert [(t.rate, t.losses) for t in trained.search.trials] == [(t.rate, t.losses) for t in plain.search.trials]
    assert same(weights(tmp_path / "out"), weights(tmp_path / "plain"))


@pytest.fixture
def measured_for(workspace, request_for, monkeypatch):
    """Requests whose switch trials decide after every 4 steps, with 2 steps each; and what they decide."""
    for module in (phases, records_training):
        monkeypatch.setattr(module, "LOOK_STEPS", 2)
    plan, _ = make_tiny_plan(workspace / "model", 3, switch=replace(SWITCH, measured=True))

    def build(*allowed, **changes):
        def decide(step, *given):
            look = decide_look(step, *given)
            standing = "within" if step in allowed else "outside"
            return look.model_copy(update={"items_standing": standing, "tokens_standing": standing})

        monkeypatch.setattr(phases, "decide_look", decide)
        return request_for(plan=plan, **changes)

    return build


def test_a_trial_that_loses_nothing_is_gone_on_from(workspace, request_for, measured_for, whole, tmp_path):
    trained = train_plan(measured_for(4), tmp_path / "out")
    assert same(weights(tmp_path / "out"), weights(whole[1])), "it froze deeper after step 4, as that plan does"
    assert trained.losses == pytest.approx(whole[0].losses, abs=1e-6)
    assert [(look.step, look.deeper) for look in trained.looks] == [(4, True)]
    written = json.loads((tmp_path / "out" / "training.json").read_text())["looks"]
    assert [(look["step"], look["items_standing"]) for look in written] == [(4, "within")]
    assert written[0]["deep_loss"] != written[0]["wide_loss"]
    assert "frozen deeper from step 4 on" in " ".join((tmp_path / "out" / "README.md").read_text().split())
    assert not {"look", "looks.json", "deeper"} & {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.quick_cases(0)
def test_where_no_trial_allows_it_it_is_the_wide_training(workspace, request_for, measured_for, tmp_path):
    trained = train_plan(measured_for(), tmp_path / "out")
    assert [(look.step, look.deeper) for look in trained.looks] == [(4, False), (8, False)]
    full, _ = make_tiny_plan(workspace / "model", 0)
    plain = train_plan(request_for(plan=full), tmp_path / "full")
    assert trained.losses == pytest.approx(plain.losses, abs=1e-6)
    ours, theirs = weights(tmp_path / "out"), weights(tmp_path / "full")
    assert all(torch.allclose(ours[name], value, rtol=0, atol=1e-6) for name, value in theirs.items())
    assert "frozen deeper in none" in " ".join((tmp_path / "out" / "README.md").read_text().split())


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize(
    ("allowed", "where"), [(8, "adopt"), (8, "save_look"), (8, "decide_look"), (8, 11), (4, 3), (4, "write_looks")]
)
def test_killed_around_a_trial_it_decides_the_same(measured_for, tmp_path, monkeypatch, allowed, where):
    request = measured_for(allowed)
    plain = train_plan(request, tmp_path / "plain")
    if isinstance(where, int):
        with stopped(monkeypatch, where):
            train_plan(request, tmp_path / "out")
    else:
        with monkeypatch.context() as patch:
            patch.setattr(phases, where, stop)
            with pytest.raises(Killed):
                train_plan(request, tmp_path / "out")
    trained = train_plan(request, tmp_path / "out")
    assert same(weights(tmp_path / "out"), weights(tmp_path / "plain"))
    assert trained.looks == plain.looks


def test_trials_need_eval_examples(measured_for, tmp_path):
    with pytest.raises(InputError, match="expected at least 16, found 0"):
        train_plan(measured_for(4, evaluation=None), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"steps": 4}, PlanError, "freezes deeper after step 4; expected a step from 1 to 3, of 4. Train for more"),
        ({"step": 1, "learning_rate": None}, InputError, "after step 1, too early to compare learning rates: name one"),
    ],
)
def test_a_training_that_cannot_freeze_deeper_is_refused(workspace, request_for, tmp_path, changes, error, problem):
    step = changes.pop("step", 4)
    plan, _ = make_tiny_plan(workspace / "model", 3, switch=replace(SWITCH, step=step))
    with pytest.raises(error, match=problem):
        train_plan(request_for(plan=plan, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()
