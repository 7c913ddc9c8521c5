"""Validations whose variants each search their learning rate."""

from dataclasses import replace

import pytest

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.files import checkpoint_folder
from semfreeze_core.finetune.arm.trainer import checkpoint_step, last_complete_checkpoint
from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.finetune.validation import known_rates
from semfreeze_core.finetune.validation import validate as validation_module
from semfreeze_core.finetune.validation.request import ValidationRequest, prepare
from semfreeze_core.finetune.validation.search_price import search_note
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.validation import ArmRun
from semfreeze_core.wording.validation import quality_table, rate_lines
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task

SETUP = TrainingSetup(batch_size=4, sequence_length=2048, train_examples=16, steps=12)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMFREEZE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def request_for(home, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("searched")
    plan, _ = make_tiny_plan(workspace / "model")
    train, evaluation = write_task(workspace / "train.jsonl", 40), write_task(workspace / "eval.jsonl", 24, seed=9)

    def build(**changes):
        base = ValidationRequest(
            plan, str(train), str(evaluation), SETUP, arms=("full", "planned"), seeds=2, n_between=1, n_accuracy=0,
            n_eval=24, match="steps",
        )  # fmt: skip
        return replace(base, **changes)

    return build


@pytest.fixture(scope="module")
def finished(request_for, tmp_path_factory):
    """A validation of two searched variants with two seeds, its folder, and what was said: before or after results."""
    folder, said = tmp_path_factory.mktemp("finished") / "validation", []

    def hear(event):
        said.append((event.message, (folder / "runs").exists()))

    with arms_in_this_process():
        report = validate(request_for(), folder, progress=hear)
    return report, folder, said


def test_each_variant_searches_its_rate_once_for_all_its_seeds(finished):
    report, folder, _ = finished
    assert report.finished
    assert report.settings.searched == ["full", "planned"]
    for name, arm in report.arms.items():
        first, second = (run for run in report.runs if run.arm == name)
        search = first.rate_search
        assert len(search.trials) >= 2
        assert not search.reused
        assert arm.learning_rate == search.rate == first.learning_rate == second.learning_rate
        assert second.rate_search == search, "the second seed takes the first's"
        assert [p.step for p in first.points] == [p.step for p in second.points]
        assert arm.rate_search == search
    assert not list((folder / "runs").glob("*.rates")), "no checkpoint stays"


def test_the_report_names_every_rate_tried_and_that_all_searched_alike(finished):
    report, _, _ = finished
    alike, *lines = rate_lines(report)
    assert alike == "Each variant at the best learning rate of its own search, all searches alike."
    assert [line.split(":")[0] for line in lines] == ["full", "planned"]
    for name, line in zip(report.arms, lines, strict=True):
        for trial in report.arms[name].rate_search.trials:
            assert f"{trial.rate:.0e}".replace("e-0", "e-") in line
    assert any("learning rate" in column.title for column in quality_table(report).columns)
    edges = [arm.rate_search.at_edge for arm in report.arms.values()]
    assert sum("at the edge of those tried" in warning for warning in report.warnings) == sum(edges)


def test_the_search_and_its_price_are_told_before_anything_trains(finished, request_for):
    _, _, said = finished
    note = search_note(prepare(request_for()))
    assert (note, False) in said
    assert note.startswith("Learning rates are searched for full, planned: up to 5 rates each, compared after 4 steps")
    assert search_note(prepare(request_for(rates={"full": 1e-3, "frozen": 1e-3}))) is None


@pytest.mark.quick_cases(0)
def test_a_later_run_of_an_equal_variant_takes_the_rate_and_says_so(finished, request_for, tmp_path):
    report, _, _ = finished
    with arms_in_this_process():
        again = validate(request_for(arms=("full", "depth:3"), seeds=1), tmp_path / "again")
    full, other = again.runs
    assert full.rate_search.reused
    assert (full.rate_search.spent_flop, full.learning_rate) == (0, report.arms["full"].learning_rate)
    assert "(from an earlier search)" in rate_lines(again)[1]
    assert not other.rate_search.reused
    first = next(run for run in report.runs if run.arm == "full")
    assert full.train_losses == pytest.approx(first.train_losses, abs=1e-6)
    assert [p.step for p in full.points] == [p.step for p in first.points]


def test_a_given_rate_is_taken_and_the_others_are_searched(request_for):
    prepared = prepare(request_for(rates={"full": 1e-5}))
    assert prepared.document.searched == ["planned"]
    assert prepared.settings["full"].rate_steps is None
    assert prepared.settings["planned"].rate_steps == 4
    assert prepared.document.learning_rates["full"] == 1e-5
    assert {settings.warmup_steps for settings in prepared.settings.values()} == {1}
    none = prepare(request_for(search_rates=False))
    assert none.document.searched == []


def test_too_few_steps_for_a_search_are_refused_with_the_way_out(request_for):
    with pytest.raises(InputError, match=r"full trains for 5 steps, too few .* --steps at least 6, .* --lr full=1e-4"):
        prepare(request_for(setup=replace(SETUP, steps=5)))


def test_a_variant_that_learns_at_no_rate_fails_once_for_all_seeds(finished, request_for, tmp_path, monkeypatch):
    monkeypatch.setattr(known_rates, "known_search", lambda *_: None)
    monkeypatch.setattr(validation_module, "known_search", lambda *_: None)
    reference = finished[0]
    made = []

    def unlearned(job, log, progress):
        made.append(job.stem)
        run = next(run for run in reference.runs if run.arm == "planned")
        nothing = run.rate_search.model_copy(update={"rate": None})
        result = job.parent.parent / "runs" / f"{job.stem}.json"
        result.parent.mkdir(exist_ok=True)
        result.write_text(
            run.model_copy(
                update={
                    "status": "failed",
                    "cause": "unlearned",
                    "reason": "None.",
                    "points": [],
                    "rate_search": nothing,
                }
            ).model_dump_json()
            if job.stem != "baseline"
            else reference.baseline.model_dump_json()
        )

    monkeypatch.setattr(this_machine, "run_arm_process", unlearned)
    folder = tmp_path / "unlearned"
    report = validate(request_for(arms=("planned",)), folder)
    assert made == ["baseline", "planned-seed0"]
    runs = [ArmRun.model_validate_json((folder / "runs" / f"planned-seed{seed}.json").read_text()) for seed in (0, 1)]
    assert {run.cause for run in runs} == {"unlearned"}
    assert runs[1].reason.startswith("No learning rate lowered the eval loss")
    assert report.arms["planned"].failed_seeds == [0, 1]
    validate(request_for(arms=("planned",)), folder)
    assert made == ["baseline", "planned-seed0"], "the same losses would be the same"


def test_a_damaged_memory_of_a_search_is_none(request_for):
    prepared = prepare(request_for())
    arm = prepared.arms[1]
    path = known_rates.search_path(prepared, arm, prepared.settings[arm.name])
    first = prepared.arms[0]
    assert path != known_rates.search_path(prepared, first, prepared.settings[first.name])
    content = path.read_bytes()
    assert RateSearch.model_validate_json(content).rate is not None
    path.write_bytes(b"\xff{")
    assert known_rates.known_search(prepared, arm, prepared.settings[arm.name]) is None
    path.write_bytes(content)


@pytest.mark.quick_cases(0)
def test_a_search_to_the_last_step_leaves_the_winner_evaluated_there_and_its_checkpoint(request_for, tmp_path):
    setup, arms = replace(SETUP, steps=4), ("depth:1", "full")
    request = request_for(setup=setup, arms=arms, seeds=1, rate_steps=4, keep_checkpoints=True, n_between=0)
    with arms_in_this_process():
        report = validate(request, tmp_path / "race")
    assert report.settings.rate_steps == 4
    assert [run.rate_search.reused for run in report.runs] == [False, True], "full's rate is known from before"
    for run in report.runs:
        chosen = next(trial for trial in run.rate_search.trials if trial.rate == run.learning_rate)
        assert [(point.step, point.marks) for point in run.points] == [(4, ["steps"])]
        assert run.points[0].loss == pytest.approx(chosen.loss, abs=1e-5)
        assert (run.status, run.steps, len(run.train_losses)) == ("done", 4, 4)
        folder = checkpoint_folder(tmp_path / "race" / "runs" / f"{run.arm.replace(':', '-')}-seed0.json")
        assert checkpoint_step(last_complete_checkpoint(folder)) == 4
    given = request_for(
        setup=setup, arms=arms, seeds=1, n_between=0, rates={run.arm: run.learning_rate for run in report.runs}
    )
    with arms_in_this_process():
        again = validate(given, tmp_path / "given")
    for run, same in zip(report.runs, again.runs, strict=True):
        assert run.points[0].item_losses == pytest.approx(same.points[0].item_losses, abs=1e-5)
    assert not list((tmp_path / "given" / "runs").glob("*.checkpoints"))
