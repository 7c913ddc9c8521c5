"""Trainings that search their learning rate on the eval examples first."""

import json
from dataclasses import replace

import pytest

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm import rate_search
from semfreeze_core.finetune.arm.files import checkpoint_folder
from semfreeze_core.finetune.arm.trainer import last_complete_checkpoint
from semfreeze_core.finetune.train import fit
from semfreeze_core.finetune.train import folder as training_folder
from semfreeze_core.finetune.train.request import FirstSteps, TrainRequest
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.finetune.validation.request import ValidationRequest
from semfreeze_core.finetune.validation.validate import validate
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task


@pytest.fixture(scope="module")
def request_for(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("searched")
    plan, _ = make_tiny_plan(workspace / "model")
    setup = replace(plan.cost.setup, sequence_length=2048, batch_size=4)
    train, evaluation = write_task(workspace / "train.jsonl", 40), write_task(workspace / "eval.jsonl", 24, seed=9)
    return lambda **changes: replace(
        TrainRequest(plan, str(train), setup, str(evaluation), steps=12, n_accuracy=0), **changes
    )


@pytest.fixture(scope="module")
def reference(request_for, tmp_path_factory):
    return train_plan(request_for(), tmp_path_factory.mktemp("reference") / "out")


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_the_search_is_told_and_its_winner_goes_on_as_if_given(reference, request_for, tmp_path):
    search = reference.search
    assert len(search.trials) >= 2
    assert search.steps == 4
    assert f"Learning rate: {search.rate:.0e}".replace("e-0", "e-") in reference.notes[0]
    document = json.loads((reference.folder / "training.json").read_text())
    assert document["learning_rate"] == search.rate
    assert document["rate_search"]["rate"] == search.rate
    given = train_plan(request_for(learning_rate=search.rate), tmp_path / "given")
    assert given.losses == reference.losses
    assert weights(given.folder) == weights(reference.folder)
    assert given.search is None
    assert "as given" in given.notes[0]
    assert not [p for p in reference.folder.iterdir() if p.is_dir()]


def test_without_eval_examples_the_rate_is_searched_on_the_batches(request_for, tmp_path):
    alone = request_for(evaluation=None, steps=24)
    trained = train_plan(alone, tmp_path / "out")
    search = trained.search
    assert (search.compared_on, search.steps, search.loss_before) == ("training batches", 8, None)
    assert "compared on the training batches" in trained.notes[0]
    given = train_plan(replace(alone, learning_rate=search.rate), tmp_path / "given")
    assert weights(given.folder) == weights(trained.folder)


def test_a_training_too_short_for_that_takes_the_default_rate_and_says_so(request_for, tmp_path):
    trained = train_plan(request_for(evaluation=None), tmp_path / "out")
    assert trained.search is None
    assert "3e-4, the default, which was tuned for nothing of yours" in trained.notes[0]


class Killed(BaseException):
    pass


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("moment", ["after a trial", "before the move", "after the move", "in the training"])
def test_a_killed_search_or_training_goes_on_and_ends_the_same(reference, request_for, tmp_path, monkeypatch, moment):
    def killing(function, *, first):
        def call(*args, **how):
            if first:
                raise Killed
            function(*args, **how)
            raise Killed

        return call

    stops = {
        "after a trial": (rate_search, "write_atomically", False),
        "before the move": (training_folder.os, "replace", True),
        "after the move": (fit, "adopt", False),
    }
    with monkeypatch.context() as patch:
        if moment in stops:
            module, name, first = stops[moment]
            if name == "replace":  # the files before it are moved into place by the same function
                move = training_folder.os.replace

                def stop(source, target):
                    if "checkpoint-" in str(target) and "rates" in str(source):
                        raise Killed
                    move(source, target)

                patch.setattr(training_folder.os, "replace", stop)
            else:
                patch.setattr(module, name, killing(getattr(module, name), first=first))
        else:

            class Dies(fit.Recorder):
                def on_step_end(self, args, state, control, **rest):
                    super().on_step_end(args, state, control, **rest)
                    if state.global_step == 9:
                        raise Killed

            patch.setattr(fit, "Recorder", Dies)
        with pytest.raises(Killed):
            train_plan(request_for(save_steps=3), tmp_path / "out")
    again = train_plan(request_for(save_steps=3), tmp_path / "out")
    assert weights(again.folder) == weights(reference.folder)
    assert again.search.rate == reference.search.rate
    assert [t.losses for t in again.search.trials] == [t.losses for t in reference.search.trials]
    assert json.loads((again.folder / "training.json").read_text())["learning_rate"] == reference.search.rate


def test_no_rate_that_lowers_the_loss_ends_the_training_with_the_way_out(request_for, tmp_path, monkeypatch):
    monkeypatch.setattr(rate_search, "best_trial", lambda *_: None)
    monkeypatch.setattr("semfreeze_core.gains.rates.best_trial", lambda *_: None)
    with pytest.raises(InputError, match=r"^No learning rate lowered the eval loss .* Name one with --lr"):
        train_plan(request_for(), tmp_path / "out")
    assert train_plan(request_for(learning_rate=1e-3), tmp_path / "out").steps == 12


@pytest.fixture
def first_steps(request_for, tmp_path):
    """Four steps of the training at a rate, made by another: all but the last eight of the reference's."""

    def make(rate):
        plan, folder = request_for().plan, tmp_path / "race"
        race = ValidationRequest(
            plan, request_for().data, request_for().evaluation, replace(request_for().how, steps=4, train_examples=40),
            arms=("planned",), match="steps", rates={"planned": rate}, n_accuracy=0, n_between=0, keep_checkpoints=True,
        )  # fmt: skip
        with arms_in_this_process():
            validate(race, folder)
        checkpoint = last_complete_checkpoint(checkpoint_folder(folder / "runs" / "planned-seed0.json"))
        return FirstSteps(checkpoint, 4)

    return make


@pytest.mark.quick_cases(0)
def test_a_training_goes_on_from_first_steps_made_elsewhere_and_ends_the_same(request_for, first_steps, tmp_path):
    whole = request_for(steps=None, epochs=1, learning_rate=1e-3)
    reference = train_plan(whole, tmp_path / "reference")
    assert reference.steps == 10
    begun = replace(whole, first_steps=first_steps(1e-3))
    trained = train_plan(begun, tmp_path / "out")
    assert (trained.steps, len(trained.losses)) == (10, 6)
    assert trained.losses == pytest.approx(reference.losses[4:], abs=1e-6)
    assert trained.before.loss == pytest.approx(reference.before.loss, abs=1e-6)
    assert trained.after.loss == pytest.approx(reference.after.loss, abs=1e-6)
    assert not begun.first_steps.checkpoint.exists(), "it became the training's own"


@pytest.mark.quick_cases(0)
def test_a_training_that_ends_before_makes_the_first_steps_of_the_whole_one(request_for, first_steps, tmp_path):
    whole = request_for(steps=None, epochs=1, learning_rate=1e-3)
    reference = train_plan(whole, tmp_path / "reference")
    shorter = train_plan(replace(whole, last_step=7), tmp_path / "shorter")
    assert (shorter.steps, shorter.losses) == (7, reference.losses[:7])
    begun = train_plan(replace(whole, last_step=7, first_steps=first_steps(1e-3)), tmp_path / "begun")
    assert (begun.steps, len(begun.losses)) == (7, 3)
    assert begun.losses == pytest.approx(reference.losses[4:7], abs=1e-6)


@pytest.mark.quick_cases(0)
def test_a_training_killed_after_it_took_the_first_steps_goes_on(request_for, first_steps, tmp_path, monkeypatch):
    begun = request_for(steps=None, epochs=1, learning_rate=1e-3, first_steps=first_steps(1e-3))
    adopt = fit.adopt

    def die(*given):
        adopt(*given)
        raise Killed

    (tmp_path / "out" / "decision").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "adopt", die)
        with pytest.raises(Killed):
            train_plan(begun, tmp_path / "out")
    assert len(train_plan(begun, tmp_path / "out").losses) == 6
