"""A training killed anywhere, out of disk, or refused: the same command resumes, and nothing is in its way."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import Trainer

from semfreeze_core.errors import DataError, InputError, PlanError, ResourceError, RunError
from semfreeze_core.finetune.train import folder as training_folder
from semfreeze_core.finetune.train import train as train_module
from semfreeze_core.finetune.train.request import TrainRequest
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.wording.training import trained_lines
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task
from tests.core.killed_writes import Killed, kill_everywhere

MODEL = "model.safetensors"
LEFT = (".lock", "checkpoints")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    write_task(folder / "train.jsonl", 8)
    write_task(folder / "eval.jsonl", 6, seed=9)
    return folder


@pytest.fixture(scope="module")
def request_for(workspace):
    plan, _ = make_tiny_plan(workspace / "model")
    setup = replace(plan.cost.setup, sequence_length=2048, batch_size=4)

    def build(**changes):
        base = TrainRequest(
            plan, str(workspace / "train.jsonl"), setup, str(workspace / "eval.jsonl"), steps=3, learning_rate=3e-3,
            save_steps=1, n_accuracy=2,
        )  # fmt: skip
        return replace(base, **changes)

    return build


@pytest.fixture(scope="module")
def ended(workspace, request_for, tmp_path_factory):
    """For both ways to end: a training that was never stopped, and one that was after its last checkpoint."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMFREEZE_HOME", str(tmp_path_factory.mktemp("home")))
        for keep_best in (False, True):
            request = request_for(keep_best=keep_best)
            whole, cut = (workspace / f"{name}-{keep_best}" for name in ("whole", "cut"))
            train_plan(request, whole)
            with patch.context() as inner:
                inner.setattr(train_module, "save_finetuned", stop)
                with pytest.raises(Killed):
                    train_plan(request, cut)
            folders[keep_best] = whole, cut
    return folders


def stop(*_):
    raise Killed


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def assert_like(folder, whole):
    """The same files, model and evaluation; the losses are of the steps since the resumption alone."""
    assert files(folder) == files(whole)
    assert (folder / MODEL).read_bytes() == (whole / MODEL).read_bytes()
    ours, theirs = (json.loads((f / "training.json").read_text()) for f in (folder, whole))
    assert ours["after"] == theirs["after"]
    assert ours["notes"] == theirs["notes"]
    assert ours["steps"] == theirs["steps"] == 3


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("keep_best", [False, True])
def test_a_training_stopped_after_its_last_checkpoint_is_evaluated_and_saved(
    ended, request_for, tmp_path, keep_best, monkeypatch
):
    whole, cut = ended[keep_best]
    shutil.copytree(cut, tmp_path / "out")
    monkeypatch.setattr(Trainer, "train", lambda *_, **__: pytest.fail("it made another step"))
    trained = train_plan(request_for(keep_best=keep_best), tmp_path / "out")
    assert trained.losses == []
    assert trained.after is not None
    assert trained_lines(trained.steps, trained.losses, trained.before, trained.after)[0] == (
        "3 steps; all trained before this start"
    )
    assert "the loss on 6 eval examples is" in (tmp_path / "out" / "README.md").read_text()
    assert_like(tmp_path / "out", whole)


def resume(request, folder):
    """As the same command would: a training that is whole says so."""
    try:
        train_plan(request, folder)
    except RunError as error:
        assert "holds a finished training" in str(error)  # noqa: PT017 - one of two good ends


def test_the_end_of_a_training_killed_before_any_operation_resumes_to_the_same_model(
    ended, request_for, tmp_path, monkeypatch
):
    """What is written after the last step, with a stand-in for the model, whose own files are written in Rust."""
    whole, _ = ended[False]
    request = request_for()

    def prepare(n):
        folder = tmp_path / str(n)
        (folder / "checkpoints" / "checkpoint-3").mkdir(parents=True)
        (folder / "checkpoints" / "checkpoint-3" / "state").touch()
        training_folder.save_settings(folder, request)
        return folder

    class Saved(torch.nn.Module):
        def __init__(self, names):
            super().__init__()
            self.names = names

        def save_pretrained(self, folder):
            for name in self.names:
                (folder / name).write_bytes((whole / name).read_bytes())
            (folder / "templates").mkdir(exist_ok=True)
            (folder / "templates" / self.names[0]).touch()

    def finish(folder):
        with training_folder.claimed(folder, request):
            train_module.save_finetuned(
                Saved(["config.json", MODEL]), Saved(["tokenizer.json"]), request.plan, "Trained.", folder
            )
            train_module.write_atomically(folder / "training.json", "{}")
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    expected, met = None, 0
    for folder, _ in kill_everywhere(prepare, finish):
        if not (folder / "training.json").exists():
            assert (folder / "checkpoints" / "checkpoint-3" / "state").exists(), "what it resumes from"
        try:
            finish(folder)
        except RunError as error:
            assert "holds a finished training" in str(error)  # noqa: PT017
        assert files(folder).isdisjoint(LEFT)
        expected = expected or files(folder)
        assert files(folder) == expected
        assert (folder / MODEL).read_bytes() == (whole / MODEL).read_bytes()
        met += 1
    assert met > 25


@pytest.mark.slow
@pytest.mark.parametrize("keep_best", [False, True])
def test_a_training_killed_before_any_operation_resumes_to_the_same_model(ended, request_for, tmp_path, keep_best):
    whole, _ = ended[keep_best]
    request = request_for(keep_best=keep_best)
    met = 0
    for folder, _ in kill_everywhere(lambda n: tmp_path / str(n), lambda folder: train_plan(request, folder)):
        resume(request, folder)
        assert_like(folder, whole)
        shutil.rmtree(folder)
        met += 1
    assert met > 60


_TRAIN = """
import sys
from pathlib import Path
from dataclasses import replace
from semfreeze_core.finetune.train.request import TrainRequest
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.plan.document import parse_plan
workspace, out = Path(sys.argv[1]), Path(sys.argv[2])
plan = parse_plan((workspace / "plan.json").read_text())
setup = replace(plan.cost.setup, sequence_length=2048, batch_size=4)
request = TrainRequest(
    plan, str(workspace / "train.jsonl"), setup, str(workspace / "eval.jsonl"), steps=3, learning_rate=3e-3,
    save_steps=1, n_accuracy=2,
)
train_plan(request, out, lambda event: print(event.stage, event.done, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("line", ["Training 0", "Training 1", "Training 2", "Training 3"])
def test_a_training_whose_process_was_killed_resumes_to_the_same_model(ended, workspace, request_for, tmp_path, line):
    whole, _ = ended[False]
    (workspace / "plan.json").write_text(request_for().plan.model_dump_json())
    command = [sys.executable, "-c", _TRAIN, str(workspace), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        next(printed for printed in process.stdout if printed.strip() == line)
        os.kill(process.pid, signal.SIGKILL)
    resume(request_for(), tmp_path / "out")
    assert_like(tmp_path / "out", whole)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EDQUOT, "Disk quota exceeded"), RuntimeError("basic_ios::clear: iostream error")],
    ids=["of the system", "torch's"],
)
def test_a_full_disk_says_which_checkpoint_is_kept(ended, request_for, tmp_path, monkeypatch, error):
    _, cut = ended[False]
    shutil.copytree(cut, tmp_path / "out")
    (tmp_path / "out" / "checkpoints" / "checkpoint-3" / "trainer_state.json").write_text("{")

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", fail)
        with pytest.raises(
            ResourceError, match=r"The disk is full.*The checkpoint of step 2 is kept\. Free some space"
        ):
            train_plan(request_for(), tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoints" / "checkpoint-3").exists(), "half a checkpoint makes room"
    train_plan(request_for(), tmp_path / "out")
    assert (tmp_path / "out" / MODEL).read_bytes() == (ended[False][0] / MODEL).read_bytes()


def test_a_refused_training_leaves_nothing_and_its_corrected_request_is_taken(workspace, request_for, tmp_path):
    request = request_for()
    other = replace(request.plan.model, weights_digest="0" * 64)
    wrong = request_for(plan=request.plan.model_copy(update={"model": other}))
    (tmp_path / "bad.jsonl").write_text('{"nothing": 1}\n')
    for refused, error in ((wrong, PlanError), (request_for(data=str(tmp_path / "bad.jsonl")), DataError)):
        with pytest.raises(error):
            train_plan(refused, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError):
        train_plan(wrong, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_of_others_is_left_as_it_was(request_for, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="is not empty"):
        train_plan(request_for(), tmp_path / "out")
    assert files(tmp_path / "out") == {"mine.txt"}


def test_what_a_killed_end_left_in_a_finished_training_is_removed(ended, request_for, tmp_path):
    shutil.copytree(ended[False][0], tmp_path / "out")
    for name in (".lock", ".semfreeze-part-abcd_123", ".model-abcd_123"):
        (tmp_path / "out" / name).touch()
    (tmp_path / "out" / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    with pytest.raises(RunError, match="holds a finished training"):
        train_plan(request_for(), tmp_path / "out")
    assert files(tmp_path / "out") == files(ended[False][0])


def test_settings_of_0_1_0_that_a_kill_left_half_written_are_in_nobodys_way(request_for, tmp_path):
    (tmp_path / ".training_settings.json.abcd_123").write_text("{")
    with training_folder.claimed(tmp_path, request_for()):
        assert files(tmp_path) == {".lock"}


def test_damaged_settings_are_refused_where_a_checkpoint_would_be_lost(ended, request_for, tmp_path):
    shutil.copytree(ended[False][1], tmp_path / "out")
    damages = {"{": "is damaged", "[]": "is damaged", "{}": "holds another training"}
    for damage, message in damages.items():
        (tmp_path / "out" / "training_settings.json").write_text(damage)
        with pytest.raises(RunError, match=message):
            train_plan(request_for(), tmp_path / "out")


def test_settings_without_a_checkpoint_make_way_for_corrected_ones(ended, request_for, tmp_path):
    shutil.copytree(ended[False][1], tmp_path / "out")
    with pytest.raises(RunError, match="holds another training"):
        train_plan(request_for(seed=1), tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    assert train_plan(request_for(seed=1), tmp_path / "out").steps == 3
