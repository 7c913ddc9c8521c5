"""Pilots on a tiny model: rounds, what they took, resumption, and the plan they decide."""

from dataclasses import replace

import pytest

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.validation.pilots import MEASUREMENT, MeasureRequest, measure
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task

SETUP = TrainingSetup(batch_size=4, sequence_length=16, train_examples=200, steps=150, loss="supervised-only")
RATES = {"full": 1e-2, "frozen": 1e-2}


@pytest.fixture(autouse=True)
def arms_here():
    with arms_in_this_process():
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pilots")
    plan, _ = make_tiny_plan(folder / "model")
    return MeasureRequest(
        plan=plan,
        setup=SETUP,
        train=str(write_task(folder / "train.jsonl", 200)),
        evaluation=str(write_task(folder / "eval.jsonl", 16, seed=9)),
        depths=(1, 2, 3),
        budget=0.6,
        n_eval=16,
        rates=RATES,
    )


@pytest.mark.slow
def test_pilots_decide_inside_their_budget_and_go_on_where_they_ended(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    events = []
    pilots = measure(tiny, tmp_path / "out", progress=events.append)
    assert [[pilot.freeze_depth for pilot in r.pilots] for r in pilots.rounds] == [[1, 2, 3], pilots.rounds[0].kept]
    assert pilots.rounds[1].kept == [pilots.candidate_depth]
    last = {pilot.freeze_depth: pilot.loss for pilot in pilots.rounds[1].pilots}
    assert pilots.candidate_depth == min(last, key=last.__getitem__)
    assert pilots.freeze_depth == pilots.candidate_depth
    assert pilots.improvement.low > 0
    assert pilots.loss_before - last[pilots.candidate_depth] == pytest.approx(pilots.improvement.estimate)
    assert pilots.spent_flop <= pilots.promised_flop * 1.05 <= pilots.budget_flop * 1.05
    assert pilots.spent_flop > 0.5 * pilots.budget_flop
    assert any("The budget is" in event.message for event in events)
    assert Measurement.model_validate_json((tmp_path / "out" / MEASUREMENT).read_text()) == pilots
    (tmp_path / "out" / "round-2" / "runs" / f"depth-{pilots.candidate_depth}-seed0.json").unlink()
    again = measure(tiny, tmp_path / "out")
    assert [r.kept for r in again.rounds] == [r.kept for r in pilots.rounds]


@pytest.mark.slow
def test_the_cheapest_is_held_against_full_finetuning(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    pilots = measure(replace(tiny, aim="cheapest", depths=(0, 1, 3), margin=0.5), tmp_path / "out")
    assert 0 in pilots.rounds[0].kept
    assert "full finetuning's loss reduction after the same steps" in pilots.reasons[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"setup": replace(SETUP, lora=LoraSetup(4))}, "omit --lora"),
        ({"setup": replace(SETUP, optimizer="sgd")}, "pilots train with adamw, not sgd"),
        ({"setup": replace(SETUP, frozen_bits=4)}, "omit --frozen-bits"),
        ({"aim": "cheapest"}, "include depth 0 in --depths"),
        ({"budget": 0.01}, "too small"),
        ({"depths": (2,)}, "at least two different depths"),
        ({"depths": (2, 9)}, "outside 0..4"),
    ],
)
def test_what_pilots_cannot_decide_is_refused_before_anything_trains(tiny, tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        measure(replace(tiny, **changed), tmp_path / "out")
    assert not (tmp_path / "out").exists()
