"""The search of an arm's learning rate: its winner goes on, losers leave nothing, a killed search goes on."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.finetune.arm import rate_search
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.run import run_arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.records.defaults import RATE_GRID
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from semfreeze_core.wording.rates import search_line
from tests.core.finetune.loaded import load_tiny, task_examples

TRAIN, EVAL = task_examples(24), task_examples(20, seed=1)
SEARCHED = ArmSettings(TrainingSetup(batch_size=4, steps=12), seed=0, warmup_steps=1, rate_steps=4, n_between=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def trained(folder, name, settings, rate, rates_folder=None):
    loaded = load_tiny(folder / "llama")
    (arm,) = make_arms((name,), loaded.shape, parts_at_depth(loaded.shape, 2), lora=LoraSetup(2), rates={name: rate})
    return run_arm(loaded, arm, settings, TRAIN, EVAL, baseline_bytes=0, rates_folder=rates_folder)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("name", ["full", "planned", "lora"])
def test_the_winner_goes_on_as_if_trained_at_its_rate_alone(folder, name):
    run = trained(folder, name, SEARCHED, 1e-3)
    search = run.rate_search
    assert search.rate == run.learning_rate
    assert search.rate in RATE_GRID
    best = min((t for t in search.trials if t.loss is not None), key=lambda t: t.loss)
    assert best.rate == search.rate
    assert len(search.trials) >= 2
    alone = trained(folder, name, replace(SEARCHED, rate_steps=None), search.rate)
    assert run.train_losses == pytest.approx(alone.train_losses, abs=1e-6)
    assert run.points[-1].item_losses == pytest.approx(alone.points[-1].item_losses, abs=1e-6)
    assert run.steps == alone.steps == 12
    assert run.flop == alone.flop, "the search is priced apart"
    assert best.train_losses == run.train_losses[:4]
    assert [(p.step, p.marks) for p in run.points] == [(4, ["between"]), (6, ["between"]), (12, ["steps"])]
    assert run.points[0].item_losses == best.losses
    assert run.points[0].flop < run.points[1].flop


def test_the_price_of_a_search_is_the_losers_steps_and_all_evaluations(folder):
    run = trained(folder, "full", SEARCHED, 1e-3)
    search, step = run.rate_search, run.flop.counted / run.steps
    lost = sum(t.steps for t in search.trials if t.rate != search.rate)
    evaluations = search.spent_flop - sum(t.flop for t in search.trials if t.rate != search.rate)
    read = 1 + sum((t.half_losses is not None) + (t.losses is not None) for t in search.trials)
    assert evaluations % read == 0
    assert 0 < evaluations / read < step * len(EVAL) / 4  # a forward pass alone
    assert sum(t.flop for t in search.trials if t.rate != search.rate) == pytest.approx(lost * step, rel=0.2)


def test_on_training_batches_a_search_evaluates_nothing_and_its_winner_goes_on(folder):
    whole = replace(SEARCHED.setup, steps=6)
    settings = replace(SEARCHED, setup=whole, rate_steps=6, rates_on="training batches")
    run = trained(folder, "full", settings, 1e-3)
    search = run.rate_search
    lost = [t for t in search.trials if t.rate != search.rate]
    assert (search.compared_on, search.loss_before, search.n_items) == ("training batches", None, 3 * 4)
    assert search.spent_flop == sum(t.flop for t in lost) > 0
    for trial in search.trials:
        if trial.losses is not None:
            assert trial.losses == trial.train_losses[3:6]
        assert trial.half_losses == trial.train_losses[1:3]
    best = min((t for t in search.trials if t.loss is not None), key=lambda t: t.loss)
    assert (best.rate, best.train_losses) == (search.rate, run.train_losses)
    assert [(p.step, p.marks) for p in run.points] == [(6, ["steps"])]
    alone = trained(folder, "full", replace(settings, rate_steps=None), search.rate)
    assert run.points[-1].item_losses == pytest.approx(alone.points[-1].item_losses, abs=1e-6)


def test_rates_that_were_too_high_for_another_variant_are_not_tried(folder):
    settings = replace(SEARCHED, rates_on="training batches", lower_rates_first=True, too_high_rate=3e-3)
    search = trained(folder, "full", settings, 1e-3).rate_search
    assert [t.rate for t in search.trials][:2] == [1e-3, 3e-4]
    assert max(t.rate for t in search.trials) < 3e-3
    assert search.too_high == 3e-3
    assert "from 3e-3 on rates were too high with fewer layers trained" in search_line(search)


def test_a_rate_that_is_behind_half_way_stops_there(folder):
    run = trained(folder, "full", SEARCHED, 3e-3)
    behind = [t for t in run.rate_search.trials if t.end == "behind"]
    assert [(t.rate, t.steps, t.losses) for t in behind] == [(1e-3, 2, None)]
    assert len(behind[0].half_losses) == len(EVAL)


def test_no_rate_that_lowers_the_loss_is_a_failure_with_the_rates_tried(folder, monkeypatch):
    monkeypatch.setattr(rate_search, "best_trial", lambda *_: None)
    monkeypatch.setattr("semfreeze_core.gains.rates.best_trial", lambda *_: None)
    run = trained(folder, "full", SEARCHED, 1e-3)
    assert (run.status, run.cause, run.retried, run.points) == ("failed", "unlearned", False, [])
    assert run.reason.startswith("No learning rate lowered the eval loss (")
    assert "1e-3: loss" in run.reason
    assert run.rate_search.rate is None


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_killed_search_goes_on_with_the_trials_it_finished(folder, tmp_path, monkeypatch, killed_at):
    reference = trained(folder, "planned", SEARCHED, 1e-3)
    write, written = rate_search.write_atomically, []

    def killed(path, text):
        write(path, text)
        written.append(path)
        if len(written) == killed_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(rate_search, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(folder, "planned", SEARCHED, 1e-3, tmp_path)
    monkeypatch.undo()
    made = []
    save = rate_search.RateTrials._try
    monkeypatch.setattr(rate_search.RateTrials, "_try", lambda self, *a: (made.append(a[0]), save(self, *a))[1])
    again = trained(folder, "planned", SEARCHED, 1e-3, tmp_path)
    trials = reference.rate_search.trials
    assert made == [t.rate for t in trials[killed_at:]]
    assert again.train_losses == reference.train_losses
    assert [p.item_losses for p in again.points] == [p.item_losses for p in reference.points]
    assert [t.losses for t in again.rate_search.trials] == [t.losses for t in trials]


@pytest.mark.quick_cases(0)
def test_a_search_without_its_checkpoint_or_with_damaged_trials_starts_again(folder, tmp_path):
    reference = trained(folder, "planned", SEARCHED, 1e-3, tmp_path)
    rate = reference.learning_rate
    for checkpoint in (tmp_path / f"{rate:g}").iterdir():
        (checkpoint / "trainer_state.json").unlink()
    again = trained(folder, "planned", SEARCHED, 1e-3, tmp_path)
    assert again.train_losses == pytest.approx(reference.train_losses, abs=1e-6)
    assert [p.step for p in again.points] == [p.step for p in reference.points]
    (tmp_path / "trials.json").write_bytes(b"\xff{")
    assert trained(folder, "planned", SEARCHED, 1e-3, tmp_path).train_losses == reference.train_losses


def test_a_search_leaves_one_checkpoint(folder, tmp_path):
    run = trained(folder, "full", SEARCHED, 1e-3, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["trials.json", f"{run.learning_rate:g}"])
