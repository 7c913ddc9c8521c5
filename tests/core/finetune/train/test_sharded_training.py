"""Processes that shard what trains (FSDP2): the weights are those of one process over the same batches."""

import json
import weakref
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from semfreeze_core import processes
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm import trainer
from semfreeze_core.finetune.model import network, sharding
from semfreeze_core.finetune.model.sharding import is_sharded, require_sharding, shard_trained
from semfreeze_core.finetune.train import fit
from semfreeze_core.finetune.train.folder import save_settings
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.plan.document import plan_text
from semfreeze_core.records.training import DepthSwitch, LoraSetup
from tests.core.finetune.train.test_several_processes import (  # noqa: F401 - a fixture
    STEPS,
    Dies,
    assert_same_weights,
    error_of,
    launcher,
    no_cache,
    weights,
    workspace,
)
from tests.core.finetune.train.test_several_processes import asked as asked_whole
from tests.core.together import in_group, together

CASES = {
    "uncached": {"prefix_cache": False},
    "pieces": {"micro_batch_size": 1, "checkpointing": "reentrant"},
    "recomputed": {"checkpointing": "non-reentrant", "loss": "chunked"},
    "all logits": {"loss": "materialised", "prefix_cache": False, "micro_batch_size": 1},
    "full": {"depth": 0, "checkpointing": "non-reentrant"},
    "best": {"eval": True, "keep_best": True, "n_accuracy": 0},
    "last layer": {"depth": 3},
}


@pytest.fixture(scope="module")
def asked(workspace):  # noqa: F811
    """Builds a request that shards, or its like for one process."""

    def build(*, shard=True, **case):
        return replace(asked_whole(workspace, **case), shard=shard)

    build()  # its model is made before others load it
    return build


class Counts(fit.Recorder):
    """Looks at what is sharded once a step is made: of parameters and of the optimizer's states."""

    looks, before = [], []

    def on_step_end(self, args, state, control, **rest):
        super().on_step_end(args, state, control, **rest)
        from torch.distributed.tensor import DTensor

        parameters = dict(self.network.named_parameters())
        trained = {name: p for name, p in parameters.items() if p.requires_grad}
        optimizer = rest["optimizer"]
        moments = [value for values in optimizer.state.values() for value in values.values() if value.ndim]
        self.looks.append(
            {
                "sharded": sorted(name for name, p in parameters.items() if isinstance(p, DTensor)),
                "trained": sorted(trained),
                "whole": sum(p.numel() for p in trained.values()),
                "local": sum(p.to_local().numel() for p in trained.values()),
                "left": sum(reference() is not None for reference in self.before),
                "moments": sum(m.to_local().numel() for m in moments),
            }
        )


def remembering(supervised, decoder):
    Counts.before[:] = [weakref.ref(p) for p in supervised.parameters() if p.requires_grad]
    shard_trained(supervised, decoder)


def train(request, out):
    """In a process of several: what it found out, how many losses it made, and what was sharded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "Recorder", Counts)
        patch.setattr(network, "shard_trained", remembering)
        Counts.looks.clear()
        trained = train_plan(request, out)
    return {"losses": trained.losses, "evaluations": trained.evaluations(), "look": Counts.looks[-1]}


def alone(request, out, *, cached=True):
    out.mkdir()
    save_settings(out, request, 2 if cached else 1)
    return train_plan(request, out)


def require_equal(results, folder, reference, reference_folder):
    assert_same_weights(weights(folder), weights(reference_folder))
    for result in results:
        assert result["losses"] == pytest.approx(reference.losses, abs=1e-5)
        for when, expected in reference.evaluations().items():
            if isinstance(expected, dict):
                for name, value in expected.items():
                    assert result["evaluations"][when][name] == pytest.approx(value, abs=1e-5)
    assert results[0]["losses"] == results[1]["losses"]
    assert results[0]["evaluations"] == results[1]["evaluations"]


@pytest.mark.quick_cases(0)
def test_two_processes_that_shard_train_as_one(workspace, asked, tmp_path):  # noqa: F811
    case, out = {"eval": True, "n_accuracy": 3}, tmp_path / "out"
    results = together(in_group(lambda rank: train(asked(**case), out)), tmp_path / "pair", seconds=90)
    reference = alone(asked(shard=False, **case), tmp_path / "alone")
    require_equal(results, out, reference, tmp_path / "alone")
    for result in results:
        look = result["look"]
        assert look["sharded"] == look["trained"], "what trains is sharded, and nothing else"
        assert look["local"] == look["whole"] / 2
        assert look["left"] == 0, "the whole ones are freed"
        assert look["moments"] == 2 * look["local"], "so are AdamW's two moments"
    loaded = AutoModelForCausalLM.from_pretrained(out, dtype="float32")
    before = load_file(workspace / "model" / "model.safetensors")
    changed = {name for name, values in loaded.state_dict().items() if not torch.equal(values, before[name])}
    assert changed == {name.removeprefix("model.") for name in results[0]["look"]["trained"]}
    assert type(loaded).__name__ == json.loads((out / "config.json").read_text())["architectures"][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_that_shard_train_as_one_in_every_setup(asked, tmp_path, name):
    case, out = CASES[name], tmp_path / "out"
    results = together(in_group(lambda rank: train(asked(**case), out)), tmp_path / "pair", seconds=120)
    cached = case.get("prefix_cache", True) and case.get("depth", 2) > 0
    reference = alone(asked(shard=False, **case), tmp_path / "alone", cached=cached)
    require_equal(results, out, reference, tmp_path / "alone")


@pytest.mark.slow
def test_shards_of_unequal_size_train_as_one(asked, tmp_path):
    case, out = {"prefix_cache": False, "batch_size": 6}, tmp_path / "out"
    results = together(in_group(lambda rank: train(asked(**case), out)), tmp_path / "three", count=3, seconds=120)
    reference = alone(asked(shard=False, **case), tmp_path / "alone", cached=False)
    require_equal(results, out, reference, tmp_path / "alone")
    assert len({result["look"]["local"] for result in results}) > 1


@pytest.mark.slow
def test_shards_under_autocast_train_nearly_as_one(asked, tmp_path):
    def request(**how):
        base = asked(**how)
        return replace(base, setup=replace(base.how, precision="bf16-autocast"))

    results = together(in_group(lambda rank: train(request(), tmp_path / "out")), tmp_path / "pair", seconds=120)
    reference = alone(request(shard=False), tmp_path / "alone")
    # Batches of another shape are rounded otherwise.
    assert results[0]["losses"] == pytest.approx(reference.losses, abs=1e-3)
    moved, expected = weights(tmp_path / "out"), weights(tmp_path / "alone")
    assert max(float((moved[name] - expected[name]).abs().max()) for name in moved) < 1e-3


def killed(request, out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "Recorder", Dies)
        patch.setattr(processes, "_FAILURE_WAIT", timedelta(seconds=1))
        return error_of(request, out)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_sharded_training_whose_process_is_killed_resumes_to_the_same_model(asked, tmp_path, count):
    out = tmp_path / "out"
    work = in_group(lambda rank: killed(asked(), out))
    (kind, text, process, seconds), _ = together(work, tmp_path / "pair", killed=(1,), seconds=120)
    assert (kind, process) == ("RunError", 0)
    assert text.startswith("Another process of this training has ended. Run the same command again")
    assert seconds < 60
    saved = out / "checkpoints" / "checkpoint-4"
    assert {path.name for path in (saved / "optimizer_0").glob("*.distcp")} == {"__0_0.distcp", "__1_0.distcp"}
    assert not (saved / "optimizer.pt").exists()
    again = in_group(lambda rank: train(asked(), out))
    results = together(again, tmp_path / "again", count=count, seconds=120)
    assert [len(result["losses"]) for result in results] == [STEPS - 4] * count, "from the checkpoint on"
    alone(asked(shard=False), tmp_path / "alone")
    assert_same_weights(weights(out), weights(tmp_path / "alone"))


@pytest.mark.slow
def test_shards_are_not_resumed_as_a_whole(asked, tmp_path):
    out = tmp_path / "out"
    together(in_group(lambda rank: killed(asked(), out)), tmp_path / "pair", killed=(1,), seconds=120)
    kind, text, *_ = error_of(asked(shard=False), out)
    assert kind == "RunError"
    assert "holds another training (other settings: shard)" in text


class NotANumber(fit.Recorder):
    """The loss of the second process is not a number from its third step on."""

    def on_step_begin(self, args, state, control, **_):
        if processes.own_share().index == 1 and state.global_step == 2:
            loss = self.network._summed_loss
            self.network._summed_loss = lambda *how: loss(*how) * float("nan")


def decide_together(asked, out):
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        if processes.launch().index == 1:
            patch.setattr(network, "verify_cache", no_cache)
        trained = train_plan(asked(), out / "no cache")
    results["no cache"] = [trained.notes[-1], trained.losses]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "Recorder", NotANumber)
        results["nan"] = error_of(asked(), out / "nan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "is_sharded", lambda model: pytest.fail("sharded") if is_sharded(model) else False)
        results["whole"] = train_plan(asked(shard=False), out / "whole").losses
    return results


@pytest.mark.slow
def test_what_one_process_of_shards_meets_all_decide_and_the_next_training_shards_nothing(asked, tmp_path):
    reference = alone(asked(shard=False), tmp_path / "alone")
    results = together(in_group(lambda rank: decide_together(asked, tmp_path)), tmp_path / "pair", seconds=120)
    for result in results:
        assert result["no cache"][0] == "No prefix cache: It does not fit here. Training runs uncached."
        kind, text, process, seconds = result["nan"]
        assert (kind, process) == ("InputError", None)
        assert text.startswith("Training ended: the loss was nan at step 3")
        assert seconds < 20
        assert result["whole"] == pytest.approx(reference.losses, abs=1e-5)
    assert results[0]["no cache"] == results[1]["no cache"]


@pytest.mark.slow
def test_torchrun_shards_and_prints_once(workspace, asked, tmp_path):  # noqa: F811
    request = asked(shard=False, steps=60, save_steps=5, learning_rate=3e-4)
    (workspace / "plan.json").write_text(plan_text(request.plan, workspace))
    process = launcher(workspace, tmp_path / "out", "--shard")
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert printed.count("60 steps; train loss") == 1
    assert "2 processes train together and shard what trains, each on 2 examples at a time." in printed
    assert "Warning" not in errors
    request = replace(request, setup=replace(request.how, sequence_length=16))
    alone(request, tmp_path / "alone")
    assert_same_weights(weights(tmp_path / "out"), weights(tmp_path / "alone"))


def test_what_cannot_be_sharded_is_refused_by_name(workspace, monkeypatch):  # noqa: F811
    lora = asked_whole(workspace, lora=LoraSetup(2))
    with pytest.raises(InputError, match="--shard: it shards whole layers, and the plan trains adapters"):
        replace(lora, shard=True)
    whole = asked_whole(workspace, eval=True)
    with pytest.raises(InputError, match="--shard: no learning rate is searched: name it, --lr"):
        replace(whole, shard=True, learning_rate=None)
    switching = asked_whole(workspace, switch=DepthSwitch(0, 2, 3))
    with pytest.raises(InputError, match="--shard: the plan freezes deeper at a step"):
        replace(switching, shard=True)
    with pytest.raises(InputError, match="--shard spreads what trains over several processes"):
        require_sharding()
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    require_sharding()
    monkeypatch.setattr("torch.distributed.fsdp.fully_shard", lambda module, *, mesh: None)
    with pytest.raises(InputError, match=r"--shard needs torch 2\.7"):
        require_sharding()


def test_a_parameter_with_fewer_rows_than_processes_is_refused(monkeypatch):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3))

    monkeypatch.setattr(sharding, "own_share", lambda: processes.Share(0, 4))
    with pytest.raises(InputError, match=r"scale of shape \(3,\) cannot be sharded over 4 processes"):
        sharding.shard_trained(Model(), None)


def test_sharding_is_a_setting_that_a_resumed_training_keeps(asked):
    from semfreeze_core.finetune.train.request import different_settings, request_settings

    plain = json.loads(json.dumps(request_settings(asked(shard=False))))
    assert "shard" not in plain
    assert different_settings(plain, asked(shard=False)) == []
    assert different_settings(plain, asked()) == ["shard"]
