"""Several processes that train one plan: the weights are those of one process over the same batches."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from semfreeze_core import processes
from semfreeze_core.errors import InputError, SemfreezeError
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.model import network
from semfreeze_core.finetune.prefix.store import CacheUnavailable
from semfreeze_core.finetune.train import fit, phases
from semfreeze_core.finetune.train.folder import save_settings, saved_parts
from semfreeze_core.finetune.train.request import TrainRequest, memory_advice
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.gains.looks import decide_look
from semfreeze_core.plan.document import plan_text
from semfreeze_core.records.training import DepthSwitch, LoraSetup
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task
from tests.core.together import in_group, together

TOLERANCE = 1e-6
# 19 examples in steps of 4: an epoch ends with 3, of which one process has 2 and the other 1.
STEPS, EXAMPLES = 7, 19

CASES = {
    "uncached": {"prefix_cache": False},
    "cached": {"eval": True, "n_accuracy": 3},
    "pieces": {"micro_batch_size": 1, "checkpointing": "reentrant"},
}
SLOW_CASES = {
    "lora": {"lora": LoraSetup(2)},
    "uncached lora": {"lora": LoraSetup(2), "prefix_cache": False, "checkpointing": "non-reentrant"},
    "quantized": {"lora": LoraSetup(2), "frozen_bits": 4},
    "all logits": {"loss": "materialised", "prefix_cache": False, "micro_batch_size": 1},
    "full": {"depth": 0, "checkpointing": "non-reentrant"},
    "best": {"eval": True, "keep_best": True, "n_accuracy": 0},
    "deeper": {"switch": DepthSwitch(0, 2, 3), "eval": True, "n_accuracy": 0, "steps": 14},
    "searched": {"eval": 24, "learning_rate": None, "steps": 12, "n_accuracy": 0},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    write_task(folder / "train.jsonl", EXAMPLES)
    write_task(folder / "eval.jsonl", 7, seed=9)
    write_task(folder / "eval24.jsonl", 24, seed=9)
    return folder


def asked(workspace, *, lora=None, frozen_bits=None, depth=2, switch=None, eval=None, **changes):
    sizes = {"d_model": 64, "head_dim": 16, "mlp_width": 64} if frozen_bits else {}
    model = workspace / ("wide" if sizes else "model")
    plan, _ = make_tiny_plan(model, depth, lora=lora, frozen_bits=frozen_bits, switch=switch, **sizes)
    named = {
        name: changes.pop(name)
        for name in ("prefix_cache", "checkpointing", "loss", "batch_size", "micro_batch_size")
        if name in changes
    }
    base = TrainRequest(
        plan,
        str(workspace / "train.jsonl"),
        replace(plan.cost.setup, sequence_length=2048, **{"batch_size": 4, **named}),
        evaluation=None if eval is None else str(workspace / ("eval.jsonl" if eval is True else f"eval{eval}.jsonl")),
        steps=STEPS,
        learning_rate=3e-3,
        save_steps=2,
        model=ModelSource(source=str(model), device="cpu"),
    )
    return replace(base, **changes)


def weights(folder):
    return load_file(next(folder.glob("*model.safetensors")))


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    assert apart <= TOLERANCE


def train_cases(workspace, out, cases):
    """In a process of several: every case's losses and evaluations, and how many examples' states it held."""
    results = {}
    held = []
    build = network.build_prefix_cache

    def counting(decoder, k, examples, **how):
        held.append(len(examples))
        return build(decoder, k, examples, **how)

    network.build_prefix_cache = counting
    for name, case in cases.items():
        held.clear()
        trained = train_plan(asked(workspace, **case), out / name)
        results[name] = {
            "losses": trained.losses,
            "evaluations": trained.evaluations(),
            "notes": trained.notes,
            "deeper": [look.deeper for look in trained.looks],
            "held": held[:],
        }
    return results


def hold_to_one_process(workspace, out, cases, results):
    """The same trainings by this process, over the same batches."""
    first, second = results
    for name, case in cases.items():
        request, alone = asked(workspace, **case), out / f"{name} alone"
        cached = case.get("prefix_cache", True) and case.get("depth", 2) > 0
        alone.mkdir()
        save_settings(alone, request, 2 if cached else 1)
        trained = train_plan(request, alone)
        assert_same_weights(weights(out / name), weights(alone))
        for result in (first[name], second[name]):
            assert result["losses"] == pytest.approx(trained.losses, abs=1e-5), name
            assert result["evaluations"]["after"] == _close(trained.evaluations()["after"]), name
        assert first[name]["losses"] == second[name]["losses"], "each knows the loss of all"
        n_eval = 0 if request.evaluation is None else len(Path(request.evaluation).read_text().splitlines())
        if cached:
            shares = [[len(range(rank, n, 2)) for n in (EXAMPLES, n_eval) if n] for rank in range(2)]
            assert [first[name]["held"], second[name]["held"]] == shares, "each caches its own examples alone"
        assert first[name]["deeper"] == second[name]["deeper"] == [look.deeper for look in trained.looks]


def _close(evaluation):
    if evaluation is None:
        return None
    return {key: value if key == "step" else pytest.approx(value, abs=1e-5) for key, value in evaluation.items()}


def test_two_processes_train_as_one_over_the_same_batches(workspace, tmp_path):
    asked(workspace)  # its model is made before both load it
    results = together(in_group(lambda rank: train_cases(workspace, tmp_path, CASES)), tmp_path / "pair")
    hold_to_one_process(workspace, tmp_path, CASES, results)
    assert "2 processes train together, each on 2 examples at a time." in results[0]["cached"]["notes"][0]
    assert not any("cache:" in note for note in results[0]["cached"]["notes"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks by the old name
@pytest.mark.parametrize("name", SLOW_CASES)
def test_two_processes_train_as_one_in_every_setup(workspace, tmp_path, name):
    cases = {name: SLOW_CASES[name]}
    asked(workspace, **SLOW_CASES[name])
    results = together(in_group(lambda rank: train_cases(workspace, tmp_path, cases)), tmp_path / "pair")
    hold_to_one_process(workspace, tmp_path, cases, results)


@pytest.mark.slow
def test_a_launcher_may_start_one_process(workspace, tmp_path):
    request = asked(workspace)
    (losses,) = together(lambda rank: train_plan(request, tmp_path / "out").losses, tmp_path / "one", count=1)
    assert losses == train_plan(request, tmp_path / "alone").losses
    assert_same_weights(weights(tmp_path / "out"), weights(tmp_path / "alone"))


@pytest.mark.slow
def test_two_processes_freeze_deeper_where_a_short_training_loses_nothing(workspace, tmp_path, monkeypatch):
    def decided(step, *losses):
        standing = "within" if step > 3 else "outside"
        look = decide_look(step, *losses)
        return look.model_copy(update={"items_standing": standing, "tokens_standing": standing})

    monkeypatch.setattr(phases, "decide_look", decided)
    switch = DepthSwitch(0, 2, 3, measured=True)
    cases = {"measured": {"switch": switch, "eval": 24, "n_accuracy": 0, "steps": 30, "learning_rate": 1e-3}}
    asked(workspace, **cases["measured"])
    results = together(in_group(lambda rank: train_cases(workspace, tmp_path, cases)), tmp_path / "pair")
    assert results[0]["measured"]["deeper"] == [False, True]
    hold_to_one_process(workspace, tmp_path, cases, results)


def error_of(request, out):
    """How a training is refused or ends: the error's kind, its text, and the process that met it alone."""
    begun = time.monotonic()
    try:
        train_plan(request, out)
    except SemfreezeError as error:
        return [type(error).__name__, str(error), error.process, time.monotonic() - begun]
    return None


class NotANumber(fit.Recorder):
    """The loss of the second process is not a number from its third step on."""

    def on_step_begin(self, args, state, control, **_):
        if processes.own_share().index == 1 and state.global_step == 2:
            loss = self.network._summed_loss
            self.network._summed_loss = lambda *how: loss(*how) * float("nan")


def decide_together(workspace, out):
    """What one process alone meets, and both decide."""
    rank, errors = processes.launch().index, {}
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            patch.setattr(network, "verify_cache", no_cache)
        trained = train_plan(asked(workspace), out / "no cache")
    errors["no cache"] = [trained.notes[-1], trained.losses]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "Recorder", NotANumber)
        errors["nan"] = error_of(asked(workspace), out / "nan")
    errors["finished"] = error_of(asked(workspace), out / "no cache")
    return errors


def no_cache(*_):
    raise CacheUnavailable("It does not fit here.")


@pytest.mark.quick_cases(0)
def test_what_one_process_meets_all_decide(workspace, tmp_path):
    asked(workspace)
    results = together(in_group(lambda rank: decide_together(workspace, tmp_path)), tmp_path / "pair")
    for errors in results:
        assert errors["no cache"][0] == "No prefix cache: It does not fit here. Training runs uncached."
        kind, text, process, _ = errors["nan"]
        assert (kind, process) == ("InputError", None)
        assert text.startswith("Training ended: the loss was nan at step 3")
        kind, text, process, _ = errors["finished"]
        assert (kind, process) == ("RunError", None)
        assert "holds a finished training" in text
    assert results[0]["no cache"] == results[1]["no cache"]


class Dies(fit.Recorder):
    """Kills the second process after its fifth step."""

    def on_step_end(self, args, state, control, **rest):
        super().on_step_end(args, state, control, **rest)
        if state.global_step == 5 and processes.own_share().index == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(workspace, out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "Recorder", Dies)
        patch.setattr(processes, "_FAILURE_WAIT", timedelta(seconds=1))
        return error_of(asked(workspace, prefix_cache="uncached" not in out.name), out)


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("name", ["by both", "by one", "by four", "uncached by one"])
def test_a_training_whose_process_is_killed_resumes_to_the_same_model(workspace, tmp_path, name):
    request, out, whole = asked(workspace, prefix_cache="uncached" not in name), tmp_path / name, tmp_path / "whole"
    (kind, text, process, _), _ = together(
        in_group(lambda rank: killed(workspace, out)), tmp_path / "pair", killed=(1,)
    )
    assert (kind, process) == ("RunError", 0)
    assert text.startswith("Another process of this training has ended. Run the same command again")
    assert (out / "checkpoints" / "checkpoint-4").is_dir()
    if count := {"by both": 2, "by four": 4}.get(name):
        results = together(in_group(lambda rank: train_plan(request, out).losses), tmp_path / "again", count=count)
        assert [len(losses) for losses in results] == [STEPS - 4] * count
    else:
        assert len(train_plan(request, out).losses) == STEPS - 4
    whole.mkdir()
    save_settings(whole, request, 1 if "uncached" in name else 2)
    train_plan(request, whole)
    assert_same_weights(weights(out), weights(whole))


@pytest.mark.slow
def test_a_training_that_one_process_began_is_resumed_by_two(workspace, tmp_path, monkeypatch):
    request, out = asked(workspace), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(fit, "Recorder", Stops)
        with pytest.raises(Stopped):
            train_plan(request, out)
    results = together(in_group(lambda rank: train_plan(request, out).losses), tmp_path / "pair")
    assert [len(losses) for losses in results] == [STEPS - 4] * 2
    train_plan(request, tmp_path / "whole")
    assert_same_weights(weights(out), weights(tmp_path / "whole"))


class Stopped(BaseException):
    pass


class Stops(fit.Recorder):
    """Is stopped after its fifth step."""

    def on_step_end(self, args, state, control, **rest):
        super().on_step_end(args, state, control, **rest)
        if state.global_step == 5:
            raise Stopped


class RunsOut(fit.Recorder):
    """Memory runs out in the second process's fifth step."""

    def on_step_begin(self, args, state, control, **_):
        if processes.own_share().index == 1 and state.global_step == 4:
            raise MemoryError


def runs_out(workspace, out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "Recorder", RunsOut)
        patch.setattr(processes, "_FAILURE_WAIT", timedelta(seconds=1))
        return error_of(asked(workspace), out)


@pytest.mark.slow
def test_a_process_that_fails_alone_says_which_it_is_and_nobody_waits_for_it(workspace, tmp_path):
    asked(workspace)
    first, second = together(in_group(lambda rank: runs_out(workspace, tmp_path / "out")), tmp_path / "pair")
    assert second[0] == "ResourceError"
    assert second[1].startswith("Memory ran out with 2 examples at a time. Add --micro-batch-size 1")
    assert second[2] == 1
    assert first[0] == "RunError"
    assert max(first[3], second[3]) < 20


def as_second_of_two(monkeypatch):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


def test_batches_that_processes_cannot_share_are_refused(workspace, monkeypatch):
    as_second_of_two(monkeypatch)
    with pytest.raises(InputError, match=r"2 processes cannot share a batch of 5 examples equally.* --batch-size 6"):
        asked(workspace, batch_size=5)
    assert asked(workspace, micro_batch_size=4).micro == 2, "no more than its share"
    with pytest.raises(InputError, match="4 must divide the share of each of 2 processes in a batch, of 6: try 3"):
        asked(workspace, batch_size=12, micro_batch_size=4)
    assert "Memory ran out with 2 examples at a time. Add --micro-batch-size 1" in memory_advice(asked(workspace))


def test_a_training_keeps_its_parts(workspace, tmp_path):
    request = asked(workspace)
    assert saved_parts(tmp_path, request) is None
    save_settings(tmp_path, request, 2)
    assert saved_parts(tmp_path, request) == 2
    assert saved_parts(tmp_path, replace(request, seed=1)) is None
    save_settings(tmp_path, request)
    assert saved_parts(tmp_path, request) == 1


def launcher(workspace, out, *more):
    """The command as a person gives it."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "semfreeze_core"]
    plan, data = workspace / "plan.json", workspace / "train.jsonl"
    asks = ["train", plan, "--data", data, "--steps", 60, "--save-steps", 5, "--lr", 3e-4, "--batch-size", 4]
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launch, *map(str, asks), "--out", str(out), "-q", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


@pytest.mark.slow
def test_torchrun_prints_once_and_resumes_after_a_kill(workspace, tmp_path):
    request = asked(workspace, steps=60, save_steps=5, learning_rate=3e-4)
    (workspace / "plan.json").write_text(plan_text(request.plan, workspace))
    killed_run = launcher(workspace, tmp_path / "out")
    try:
        while not (tmp_path / "out" / "checkpoints" / "checkpoint-10" / "trainer_state.json").exists():
            assert killed_run.poll() is None, killed_run.communicate()
            time.sleep(0.05)
        ranks = {child.environ()["RANK"]: child for child in psutil.Process(killed_run.pid).children()}
        ranks["1"].kill()
        begun = time.monotonic()
        killed_run.communicate(timeout=60)
        assert time.monotonic() - begun < 20
        assert killed_run.returncode != 0
        assert not any(child.is_running() for child in ranks.values())
    finally:
        killed_run.kill()
        killed_run.wait()
    again = launcher(workspace, tmp_path / "out")
    printed, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert printed.count("60 steps; train loss") == 1
    assert errors.count("mtime may not be reliable") <= 1, "nor does the second process warn"
    assert printed.splitlines()[-1] == f"Model: {tmp_path / 'out'}"
    (tmp_path / "alone").mkdir()
    setup = replace(request.how, sequence_length=16)
    save_settings(tmp_path / "alone", replace(request, setup=setup), 2)
    train_plan(replace(request, setup=setup), tmp_path / "alone")
    assert_same_weights(weights(tmp_path / "out"), weights(tmp_path / "alone"))
