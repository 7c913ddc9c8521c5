"""Validations of a tiny model: finished, failed, killed and taken up again."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from filelock import FileLock

from semfreeze_core.cost import training_bytes
from semfreeze_core.errors import InputError, ModelError, PlanError, ResourceError, RunError
from semfreeze_core.finetune.arm.cancel import Cancel
from semfreeze_core.finetune.arm.evaluate import EVALUATING
from semfreeze_core.finetune.arm.job import ModelSource, read_job, read_result
from semfreeze_core.finetune.arm.launch import OutOfMemory, halved
from semfreeze_core.finetune.arm.process import run_job
from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.finetune.validation import validate as validation_module
from semfreeze_core.finetune.validation.request import prepare
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.validation import ArmRun
from semfreeze_core.runs.reports import read_live, read_validation
from semfreeze_core.storage import digest, write_atomically
from semfreeze_core.wording.validation import arm_cost_table
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task
from tests.core.killed_writes import kill_everywhere


@pytest.fixture(scope="module")
def finished(request_for, workspace):
    """A finished validation of two arms with one seed, and its folder."""
    request, folder = request_for(), workspace / "finished"
    with arms_in_this_process():
        return validate(request, folder), request, folder


def test_validate_reports_each_arm_beside_its_prediction(finished):
    report, _, folder = finished
    assert report.finished
    assert read_live(folder) == []
    assert set(report.arms) == {"full", "planned"}
    planned, full = report.arms["planned"], report.arms["full"]
    assert (planned.freeze_depth, full.freeze_depth) == (2, 0)
    assert planned.eval_loss_before == full.eval_loss_before == report.baseline.loss
    assert full.eval_loss_after < full.eval_loss_before
    assert planned.relative_flop < full.relative_flop == 1.0
    assert planned.steps_compute > planned.steps == 4
    assert planned.cache_seconds > 0 == full.cache_seconds
    assert 0.5 < planned.flop.counted / planned.flop.predicted < 2
    assert full.improvement_kept.estimate == 1.0
    assert report.verdict == "undecided"
    assert "needs at least 3 seeds" in report.reason
    assert set(report.verdicts) == {"steps", "compute"}
    assert read_validation(folder) == report


def test_validate_again_does_nothing_twice(finished, monkeypatch):
    report, request, folder = finished
    monkeypatch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("it trained again"))
    again = validate(request, folder)
    assert again.model_dump(exclude={"provenance"}) == report.model_dump(exclude={"provenance"})


def test_validate_again_finds_moved_data_and_a_renamed_run(finished, tmp_path, monkeypatch):
    report, request, folder = finished
    monkeypatch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("it trained again"))
    train = shutil.copy(request.train, tmp_path / "moved.jsonl")
    plan = request.plan.model_copy(update={"run": "renamed"})
    again = validate(replace(request, train=str(train), plan=plan), folder)
    assert again.verdicts == report.verdicts
    write_task(tmp_path / "moved.jsonl", 40, seed=3)
    with pytest.raises(RunError, match="holds another validation"):
        validate(replace(request, train=str(train)), folder)
    shallower, _ = make_tiny_plan(tmp_path / "model", 1)
    with pytest.raises(RunError, match="holds another validation"):
        validate(replace(request, plan=shallower), folder)


def test_a_validation_in_a_project_that_was_copied_resumes_and_names_its_own_files(
    finished, workspace, tmp_path, monkeypatch
):
    report, request, folder = finished
    monkeypatch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("it trained again"))
    validate(request, folder)  # others may have named other files since
    project = tmp_path / "project"
    shutil.copytree(workspace, project)
    folder = project / "finished"
    settings = read_validation(folder).settings
    named = [settings.model, settings.train, settings.eval]
    assert named == [str(project / name) for name in ("model", "train.jsonl", "eval.jsonl")]
    job = read_job(folder / "jobs" / "planned-seed0.json")
    assert [job.model.source, job.data, job.result] == [
        str(project / "model"),
        folder / "examples.safetensors",
        folder / "runs" / "planned-seed0.json",
    ]
    model = ModelSource(source=settings.model)
    again = validate(replace(request, train=settings.train, evaluation=settings.eval, model=model), folder)
    assert again.verdicts == report.verdicts


def test_the_process_of_the_baseline_tells_how_much_of_it_is_evaluated(finished, workspace, tmp_path, capsys):
    shutil.copytree(workspace, tmp_path / "project")
    capsys.readouterr()
    run_job(tmp_path / "project" / "finished" / "jobs" / "baseline.json")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    evaluated = [(event["done"], event["total"]) for event in events if event["stage"] == EVALUATING]
    assert (evaluated[0], evaluated[-1]) == ((0, 24), (24, 24))


def test_a_validation_that_version_0_1_0_began_goes_on(finished, monkeypatch):
    report, request, folder = finished
    old = json.loads((folder / "settings.json").read_text())
    came_since = {
        "provenance": True,
        "evidence": {"badge", "race"},
        "switch": True,
        "parameter_names": True,
        "model_path": True,
        "cost": {"phases", "looks"},
    }
    whole = request.plan.model_dump(mode="json", exclude=came_since)
    for cost in (whole["cost"], whole["cost"]["alternative"]):
        del cost["setup"]["batches"], cost["setup"]["micro_batch_size"]
    old["plan_digest"] = digest(whole)
    assert old["plan_digest"] != report.settings.plan_digest
    (folder / "settings.json").write_text(json.dumps(old))
    monkeypatch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("it trained again"))
    assert validate(request, folder).verdicts == report.verdicts


@pytest.mark.quick_cases(0)
def test_validate_goes_on_after_a_damaged_end(finished, workspace, request_for):
    """What a kill leaves is a missing file; a process trains the arm again and gives the same numbers."""
    report, request, folder = finished
    path = folder / "runs" / "planned-seed0.json"
    old = ArmRun.model_validate_json(path.read_text())
    path.unlink()
    again = validate(request, folder)
    new = ArmRun.model_validate_json(path.read_text())
    assert new.train_losses == old.train_losses
    assert new.peak_bytes.measured > 0  # of a process that holds this arm alone
    assert [p.item_losses for p in new.points] == [p.item_losses for p in old.points]
    assert again.verdict == report.verdict


def test_validate_refuses_a_folder_of_another_validation(finished, request_for):
    _, _, folder = finished
    with pytest.raises(RunError, match="holds another validation"):
        validate(request_for(steps=5), folder)


def test_validate_refuses_a_folder_that_is_none(request_for, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="no validation"):
        validate(request_for(), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "x"


def test_validate_refuses_a_folder_that_is_in_use(request_for, tmp_path, stopped_before_training):
    with FileLock(tmp_path / ".lock"), pytest.raises(RunError, match="A validation is already running in"):
        validate(request_for(), tmp_path)
    assert not (tmp_path / "settings.json").exists()


@pytest.fixture
def stopped_before_training(monkeypatch):
    monkeypatch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("it began to train"))


def test_prepare_refuses_an_abstaining_plan_unless_a_depth_is_named(request_for, workspace):
    plan, _ = make_tiny_plan(workspace / "model", None)
    with pytest.raises(PlanError, match="The plan makes no recommendation"):
        prepare(request_for(plan=plan))
    prepared = prepare(request_for(plan=plan, arms=("full", "depth:1")))
    assert [arm.freeze_depth for arm in prepared.arms] == [0, 1]


def test_prepare_warns_of_eval_items_trained_on(request_for, workspace):
    train = str(workspace / "train.jsonl")
    assert (
        "Every eval example is also a training example"
        in prepare(request_for(evaluation=train, train_examples=40)).data.warnings[0]
    )


def test_prepare_warns_of_many_passes_over_few_examples(request_for):
    few = prepare(request_for(steps=20, batch_size=4, train_examples=16))
    warning = few.warnings[-1]
    assert "repeat the 16 training examples many times (epochs: full 5.0, planned" in warning
    assert few.settings["planned"].total_steps * 4 / 16 > 5
    assert prepare(request_for(steps=4, batch_size=4, train_examples=16)).warnings == few.data.warnings


def test_prepare_says_that_arms_keep_their_precision(request_for, workspace):
    plan, _ = make_tiny_plan(workspace / "model", frozen_bits=4)
    *others, warning = prepare(request_for(plan=plan, steps=4, batch_size=4, train_examples=16)).warnings
    assert "frozen layers in 4 bits; the variants here keep their precision." in warning
    assert others == list(prepare(request_for(steps=4, batch_size=4, train_examples=16)).warnings)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_prepare_refuses_an_empty_eval_set(request_for, tmp_path, text):
    (tmp_path / "empty.jsonl").write_text(text)
    with pytest.raises(InputError, match="The eval set"):
        prepare(request_for(evaluation=str(tmp_path / "empty.jsonl")))


def test_prepare_refuses_a_plan_of_another_number_of_layers(request_for, workspace):
    other, _ = make_tiny_plan(workspace / "model")
    with pytest.raises(PlanError, match="The plan is for 9 layers"):
        prepare(request_for(plan=other.model_copy(update={"n_layers": 9})))


def test_validation_request_tells_all_that_is_out_of_range(request_for):
    with pytest.raises(
        InputError, match=r"seeds must be at least 1, found -1; --eval-examples must be at least 2, found 1"
    ):
        request_for(n_eval=1, seeds=-1)


def test_an_arm_of_another_model_fails_with_its_reason(request_for, workspace, tmp_path):
    plan, _ = make_tiny_plan(workspace / "model")
    other = replace(plan.model, weights_digest="0" * 64)
    with arms_in_this_process(), pytest.raises(InputError, match="its weights differ"):
        validate(request_for(plan=plan.model_copy(update={"model": other})), tmp_path / "out")


class TwoAtOnce:
    """A runner on other machines that answers with a finished validation's results, once both arms have begun."""

    trains_here = False

    def __init__(self, done):
        self.done, self.cancel, self.both = done, Cancel(), threading.Barrier(2)

    def at_once(self):
        return 2

    def run(self, job, log, progress):
        read = read_job(job)
        if read.arm is not None:
            self.both.wait(20)
            progress(ProgressEvent(read.arm.name))
        write_atomically(read.result, (self.done / "runs" / read.result.name).read_text())
        return read_result(job)


def test_a_runner_of_other_machines_trains_arms_at_once(finished, tmp_path, monkeypatch):
    _, request, folder = finished
    report = read_validation(folder)  # as it is now: another test has completed it again
    monkeypatch.setattr(validation_module, "free_bytes", lambda device: pytest.fail("the memory is another machine's"))
    events = []
    again = validate(request, tmp_path / "out", runner=TwoAtOnce(folder), progress=events.append)
    assert {event.lane for event in events if event.stage in ("full", "planned")} == {"full-seed0", "planned-seed0"}
    assert again.model_dump(exclude={"provenance"}) == report.model_dump(exclude={"provenance"})
    with pytest.raises(InputError, match="keep_checkpoints takes the runner processes"):
        validate(replace(request, keep_checkpoints=True), tmp_path / "out", runner=TwoAtOnce(folder))


@pytest.mark.quick_cases(0)
def test_out_of_memory_halves_the_micro_batch_and_says_so(request_for, tmp_path, monkeypatch, finished):
    _, _, done = finished
    asked = []

    def run_arm_process(job, log, progress):
        document = json.loads(job.read_text())
        if document["arm"] is None:
            source = done / "runs" / "baseline.json"
        else:
            name, size = document["arm"]["name"], document["settings"]["setup"]["micro_batch_size"]
            asked.append((name, size))
            if name == "full" and size != 1:
                raise OutOfMemory("allocator says no")
            source = done / "runs" / f"{name}-seed0.json"
        target = tmp_path / "out" / "runs" / source.name
        target.parent.mkdir(exist_ok=True)
        result = json.loads(source.read_text())
        target.write_text(json.dumps(result | ({"notes": document["notes"]} if document["arm"] else {})))

    monkeypatch.setattr(this_machine, "run_arm_process", run_arm_process)
    report = validate(request_for(), tmp_path / "out")
    assert asked == [("planned", None), ("full", None), ("full", 2), ("full", 1)]  # the planned arm goes first
    assert "1 examples at a time, 4 times per step. (allocator says no)" in report.arms["full"].notes[1]


def test_a_kill_after_a_result_loses_nothing_of_what_came_before_it(request_for, tmp_path, monkeypatch, finished):
    _, _, done = finished

    def run_arm_process(job, log, progress):
        document = json.loads(job.read_text())
        if document["arm"] is None:
            runs = tmp_path / "out" / "runs"
            runs.mkdir()
            shutil.copy(done / "runs" / "baseline.json", runs)
            return
        if document["settings"]["setup"]["micro_batch_size"] is None:
            raise OutOfMemory("allocator says no")
        run_job(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(this_machine, "run_arm_process", run_arm_process)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            validate(request_for(), tmp_path / "out")
    monkeypatch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("it trained again"))
    report = validate(request_for(), tmp_path / "out")
    assert report.finished
    for run in report.runs:
        assert run.notes[0] == "Memory ran out: 2 examples at a time, 2 times per step. (allocator says no)"
        assert (run.micro_batch_size, run.accumulation) == (2, 2)


def test_an_arm_without_memory_is_not_begun_the_others_are_and_it_is_tried_again(
    request_for, tmp_path, monkeypatch, finished
):
    _, _, done = finished
    begun, free = [], [0]

    def run_arm_process(job, log, progress):
        arm = (json.loads(job.read_text())["arm"] or {}).get("name")
        begun.append(arm)
        source = done / "runs" / ("baseline.json" if arm is None else f"{arm}-seed0.json")
        target = tmp_path / "out" / "runs" / source.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(source.read_text())

    monkeypatch.setattr(this_machine, "run_arm_process", run_arm_process)
    monkeypatch.setattr(validation_module, "free_bytes", lambda device: free[0])
    prepared = prepare(request_for())
    held = {}
    for arm in prepared.arms:
        parts = training_bytes(prepared.shape, prepared.setups[arm.name], arm.parts)
        held[arm.name] = parts.weights + parts.gradients + parts.optimizer
    assert held["planned"] < held["full"]
    free[0] = held["full"] - 1
    report = validate(request_for(), tmp_path / "out")
    assert begun == [None, "planned"]
    assert "Not begun: its weights, gradients and optimizer alone take" in report.arms["full"].reason
    assert report.arms["planned"].seeds == [0]
    free[0] = held["full"]
    assert validate(request_for(), tmp_path / "out").arms["full"].seeds == [0]
    assert begun == [None, "planned", "full"]


@pytest.fixture
def answering(finished, tmp_path, monkeypatch):
    """Answers each arm's process with the finished validation's result, or raises what `failures` has for the arm."""
    _, _, done = finished
    failures, begun = {}, []

    def run_arm_process(job, log, progress):
        arm = (json.loads(job.read_text())["arm"] or {}).get("name")
        begun.append(arm)
        if arm in failures:
            raise failures[arm]
        source = done / "runs" / ("baseline.json" if arm is None else f"{arm}-seed0.json")
        target = tmp_path / "out" / "runs" / source.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(source.read_text())

    monkeypatch.setattr(this_machine, "run_arm_process", run_arm_process)
    return failures, begun


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (ResourceError("The disk is full: x could not be written (0 MiB free)."), "resources"),
        (OutOfMemory("none left"), "resources"),
        (ModelError("It cannot be trained."), "refused"),
    ],
)
def test_an_arm_that_failed_is_reported_and_tried_again_by_the_same_command(
    request_for, tmp_path, answering, failure, cause
):
    failures, begun = answering
    failures["full"] = failure
    report = validate(request_for(batch_size=1), tmp_path / "out")
    assert report.arms["full"].failed_seeds == [0]
    assert str(failure).rstrip(".") in report.arms["full"].reason
    assert report.arms["full"].reason.endswith("The same command tries again.") == (cause == "resources")
    assert {run.arm: (run.status, run.cause) for run in report.runs} == {
        "planned": ("done", None),
        "full": ("failed", cause),
    }
    saved = read_validation(tmp_path / "out")
    assert saved == report, "a report with a failed arm can be read"
    assert saved.arms["full"].median_step_seconds is None
    assert any("full" in row for row in arm_cost_table(saved).rows)
    failures.clear()
    again = validate(request_for(batch_size=1), tmp_path / "out")
    assert again.arms["full"].seeds == [0]
    assert begun == [None, "planned", "full", "full"], "finished arms are kept"


def test_a_full_disk_says_that_finished_variants_are_kept(request_for, tmp_path, answering, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match=r"The disk is full.*Finished variants are kept\. Free some space"):
            validate(request_for(), tmp_path / "out")
    assert validate(request_for(), tmp_path / "out").finished


def test_a_diverged_arm_can_be_read_and_is_not_tried_again(request_for, tmp_path, answering, finished):
    _, begun = answering
    validate(request_for(), tmp_path / "out")
    path = tmp_path / "out" / "runs" / "full-seed0.json"
    run = ArmRun.model_validate_json(path.read_text())
    diverged = {"status": "failed", "reason": "the loss was nan", "cause": "diverged", "points": []}
    losses = [*run.train_losses[:-1], math.nan]
    path.write_text(run.model_copy(update={**diverged, "train_losses": losses}).model_dump_json())
    report = validate(request_for(), tmp_path / "out")
    assert begun == [None, "planned", "full"]
    saved = read_validation(tmp_path / "out")
    assert saved.arms["full"].failed_seeds == [0]
    assert math.isnan(next(run for run in saved.runs if run.arm == "full").train_losses[-1])
    assert saved.model_dump_json() == report.model_dump_json()


@pytest.mark.parametrize(("steps", "retried"), [(0, True), (3, False)])
def test_failures_of_0_1_0_without_a_cause_are_tried_again_unless_they_made_steps(finished, steps, retried):
    _, _, folder = finished
    document = json.loads((folder / "runs" / "full-seed0.json").read_text())
    del document["cause"]
    old = ArmRun.model_validate(document | {"status": "failed", "reason": "Not begun: ...", "steps": steps})
    assert old.retried == retried
    assert not ArmRun.model_validate(document).retried


def test_a_report_of_0_1_0_with_an_arm_without_steps_can_be_read(finished, tmp_path):
    _, _, folder = finished
    document = json.loads((folder / "report.json").read_text())
    document["arms"]["full"]["median_step_seconds"] = None
    (tmp_path / "report.json").write_text(json.dumps(document))
    assert read_validation(tmp_path).arms["full"].median_step_seconds is None


def test_settings_without_a_result_make_way_for_corrected_ones(request_for, workspace, tmp_path, answering):
    failures, _ = answering
    failures[None] = ModelError("its weights differ")
    with pytest.raises(ModelError):
        validate(request_for(steps=5), tmp_path / "out")
    failures.clear()
    assert validate(request_for(), tmp_path / "out").finished
    with pytest.raises(RunError, match="holds another validation"):
        validate(request_for(steps=5), tmp_path / "out")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_others_is_refused_and_left_as_it_was(request_for, tmp_path, overwrite, stopped_before_training):
    (tmp_path / "settings.json").write_text('{"editor.fontSize": 12}')
    (tmp_path / "package.json").write_text("{}")
    with pytest.raises(RunError, match="holds no validation"):
        validate(request_for(), tmp_path, overwrite=overwrite)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["package.json", "settings.json"]


def test_overwrite_keeps_what_the_validation_did_not_write(request_for, tmp_path, answering):
    _, begun = answering
    validate(request_for(), tmp_path / "out")
    (tmp_path / "out" / "plan.json").write_text("mine")
    validate(request_for(), tmp_path / "out", overwrite=True)
    assert begun == [None, "planned", "full"] * 2
    assert (tmp_path / "out" / "plan.json").read_text() == "mine"


def leave_beside(result):
    """What a killed arm left; returns the paths."""
    folders = [result.with_suffix(ending) for ending in (".rates", ".saves", ".checkpoints")]
    for folder in folders:
        (folder / "checkpoint-1").mkdir(parents=True)
    result.with_suffix(".live").write_text("{}")
    return [*folders, result.with_suffix(".live")]


def test_overwrite_leaves_nothing_that_an_arm_would_go_on_from(request_for, tmp_path, answering):
    validate(request_for(), tmp_path / "out")
    left = leave_beside(tmp_path / "out" / "runs" / "full-seed0.json")
    validate(request_for(steps=5), tmp_path / "out", overwrite=True)
    assert [path.name for path in left if path.exists()] == []


def test_a_kill_between_a_result_and_the_end_of_its_arm_leaves_nothing_for_long(request_for, tmp_path, answering):
    validate(request_for(), tmp_path / "out")
    left = leave_beside(tmp_path / "out" / "runs" / "full-seed0.json")
    validate(request_for(), tmp_path / "out")
    assert [path.name for path in left if path.exists()] == ["full-seed0.checkpoints"]  # a training may begin there


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_validation_killed_before_any_operation_resumes_to_the_same_files(request_for, tmp_path, overwrite):
    """Its first start, and one that overwrites another; in place of the arms' processes their results are written."""
    ours, others = prepare(request_for()), prepare(request_for(steps=5))

    def begin(folder, prepared, overwrite):
        steps = str(prepared.document.setup.steps)
        with validation_module._claimed(folder, prepared, overwrite):
            validation_module._delete_retried(folder)
            write_atomically(folder / "runs" / "baseline.json", steps)
            write_atomically(folder / "report.json", steps)

    def folder_for(n):
        (tmp_path / str(n) / "out").mkdir(parents=True)
        (tmp_path / str(n) / "out" / ".settings.json.abcd_123").write_text("{")  # that 0.1.0 left
        if overwrite:
            begin(tmp_path / str(n) / "out", others, False)
        return tmp_path / str(n) / "out"

    met, expected = 0, None
    for folder, _ in kill_everywhere(folder_for, lambda folder: begin(folder, ours, overwrite)):
        begin(folder, ours, overwrite)
        files = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
        expected = expected or files
        assert files == expected
        met += 1
    assert met > 15


@pytest.mark.parametrize(
    ("batch", "micro", "expected"), [(8, None, 4), (8, 2, 1), (6, None, 3), (7, None, 1), (9, 9, 3)]
)
def test_a_micro_batch_is_halved_to_a_divisor_of_the_batch(batch, micro, expected):
    assert halved(TrainingSetup(batch_size=batch, micro_batch_size=micro)).micro_batch_size == expected


@pytest.mark.parametrize(("batch", "micro"), [(8, 1), (1, None)])
def test_a_micro_batch_of_one_example_is_not_halved(batch, micro):
    with pytest.raises(ResourceError, match="one example at a time"):
        halved(TrainingSetup(batch_size=batch, micro_batch_size=micro))


_KILLED = """
import sys
from pathlib import Path
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.finetune.validation.request import ValidationRequest
from semfreeze_core.plan.document import parse_plan
from semfreeze_core.records.training import TrainingSetup
workspace, out = Path(sys.argv[1]), Path(sys.argv[2])
plan = parse_plan((workspace / "plan.json").read_text())
request = ValidationRequest(
    plan, str(workspace / "train.jsonl"), str(workspace / "eval.jsonl"),
    TrainingSetup(batch_size=4, sequence_length=2048, train_examples=16, steps=4), arms=("full", "planned"),
    rates={"full": 3e-3, "frozen": 3e-3, "lora": 1e-2}, n_between=1, n_accuracy=4, n_eval=24,
)
validate(request, out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [8, 14, 20])
def test_a_validation_killed_at_any_moment_goes_on_to_the_same_numbers(finished, workspace, tmp_path, seconds):
    report, request, _ = finished
    (workspace / "plan.json").write_text(request.plan.model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(workspace), str(tmp_path / "out")], start_new_session=True
    )
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = validate(request, tmp_path / "out")
    for name, arm in report.arms.items():
        assert again.arms[name].eval_loss_after == arm.eval_loss_after
    assert again.verdicts == report.verdicts
