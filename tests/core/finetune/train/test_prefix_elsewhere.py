"""A plan trained on a device without room for the whole model: its frozen layers stay on disk, and nothing differs."""

import functools
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from semfreeze_core.errors import ResourceError
from semfreeze_core.finetune.arm import loading
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.job import ArmJob, ModelSource, read_result, write_examples, write_job
from semfreeze_core.finetune.arm.loading import whole_model_reason
from semfreeze_core.finetune.arm.process import run_job
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.model import network
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import CacheSettings, build_network
from semfreeze_core.finetune.prefix.store import CacheUnavailable
from semfreeze_core.finetune.train import fit, save
from semfreeze_core.finetune.train.request import TrainRequest
from semfreeze_core.finetune.train.save import save_finetuned
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.processes import Launch
from semfreeze_core.records.training import DepthSwitch, LoraSetup, TrainableParts, TrainingSetup
from semfreeze_core.sources.models import causal_lm
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.memory_forecast import model_bytes
from semfreeze_core.sources.models.placement import is_elsewhere, place_prefix
from tests.core.finetune.loaded import load_tiny, task_examples
from tests.core.finetune.plans import plan_of
from tests.core.finetune.tiny_plan import write_task
from tests.core.saved_models import save_tiny

SIZES = {"d_model": 64, "head_dim": 16, "mlp_width": 64}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    write_task(folder / "train.jsonl", 8)
    write_task(folder / "eval.jsonl", 6, seed=9)
    return folder


@pytest.fixture(scope="module")
def tiny(workspace):
    """The model that all are about, loaded once and never trained."""
    return load_tiny(workspace / "model", **SIZES)


@pytest.fixture(scope="module")
def request_for(workspace, tiny):
    def build(depth=2, switch=None, lora=None, frozen_bits=None, setup=None, **changes):
        planned = TrainingSetup(sequence_length=16, lora=lora, frozen_bits=frozen_bits)
        plan = plan_of(tiny.decoder.model, depth, setup=planned, switch=switch)
        plan = plan.model_copy(update={"model": tiny.identity})
        how = replace(plan.cost.setup, sequence_length=2048, batch_size=4, **(setup or {}))
        base = TrainRequest(
            plan, str(workspace / "train.jsonl"), how, str(workspace / "eval.jsonl"), steps=4, learning_rate=3e-3,
            save_steps=4, n_accuracy=1,
        )  # fmt: skip
        return replace(base, **changes)

    return build


@pytest.fixture
def room(monkeypatch, tiny):
    """Leaves a device with just the room that the layers from a depth on need, and the largest part on its way."""
    model = tiny.decoder.model

    def numbers(module):
        return sum(p.numel() for p in module.parameters())

    embedding, layer = numbers(tiny.decoder.embedding), numbers(tiny.decoder.layers[0])
    whole = numbers(model)

    def leave(depth, less=0):
        needed = model_bytes(whole - depth * layer - embedding + max(layer, embedding), torch.float32) - less
        assert needed < model_bytes(whole, torch.float32)
        monkeypatch.setattr(causal_lm, "free_bytes", lambda _: needed)

    return leave


@pytest.fixture(scope="module")
def whole(request_for, tmp_path_factory):
    """The training of a request, on a device with room for the whole model, and its folder."""
    trained = {}

    def train(**changes):
        key = repr(sorted(changes.items()))
        if key not in trained:
            folder = tmp_path_factory.mktemp("whole") / "out"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SEMFREEZE_HOME", str(folder.parent / "home"))
                trained[key] = train_plan(request_for(**changes), folder), folder
        return trained[key]

    return train


@pytest.fixture
def placed(monkeypatch):
    """The models that were trained with something elsewhere."""
    models = []
    build = fit.build_network

    def note(loaded, *args, **how):
        if is_elsewhere(loaded.decoder.model):
            models.append(loaded.decoder.model)
        return build(loaded, *args, **how)

    monkeypatch.setattr(fit, "build_network", note)
    return models


def saved(folder):
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("precision", ["float32", "bf16-autocast"])
def test_training_with_the_prefix_on_disk_gives_the_same_model(request_for, whole, room, placed, tmp_path, precision):
    how = {"setup": {"precision": precision}} if precision != "float32" else {}
    (expected, folder), request = whole(**how), request_for(**how)
    room(2)
    trained = train_plan(request, tmp_path / "out")
    [model] = placed
    assert all(map(is_elsewhere, [*model.model.layers[:2], model.model.embed_tokens]))
    assert not any(map(is_elsewhere, [*model.model.layers[2:], model.lm_head]))
    assert trained.losses == expected.losses
    assert trained.after.item_losses == expected.after.item_losses
    assert trained.after.answers == expected.after.answers
    assert_same_weights(tmp_path / "out", folder)
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    notes = json.loads((tmp_path / "out" / "training.json").read_text())["notes"]
    assert any(note.startswith("The first 2 of 4 layers and the token embedding are kept off cpu") for note in notes)


def assert_same_weights(folder, other):
    ours, theirs = saved(folder), saved(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Killed(BaseException):
    pass


class Dies(fit.Recorder):
    """Is killed after its second step."""

    def on_step_end(self, args, state, control, **rest):
        super().on_step_end(args, state, control, **rest)
        if state.global_step == 2:
            raise Killed


def test_killed_it_resumes_from_its_checkpoint_to_the_same_model(
    request_for, whole, room, placed, tmp_path, monkeypatch
):
    folder, request = whole()[1], request_for(evaluation=None, save_steps=1)
    room(2)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "Recorder", Dies)
        with pytest.raises(Killed):
            train_plan(request, tmp_path / "out")
    resumed = train_plan(request, tmp_path / "out")
    assert len(resumed.losses) == 3, "of steps 2 to 4"
    assert len(placed) == 2
    assert_same_weights(tmp_path / "out", folder)


@pytest.mark.quick_cases(0)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks by the old name
def test_adapters_above_the_boundary_train_the_same(request_for, whole, room, placed, tmp_path):
    how = {"lora": LoraSetup(2), "evaluation": None}
    folder, request = whole(**how)[1], request_for(**how)
    room(2)
    train_plan(request, tmp_path / "out")
    assert len(placed) == 1
    assert_same_weights(tmp_path / "out", folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"setup": {"prefix_cache": False}}, "but the training has none (--no-prefix-cache)."),
        ({"setup": {"prefix_off_device": False}}, "but the plan keeps them there (--keep-prefix)."),
        ({"depth": 0}, "but no layer below the trained ones is frozen."),
        ({"switch": DepthSwitch(1, 2, 2)}, "but the plan freezes deeper at a step."),
        ({"depth": 1}, "would be kept off the device if the others had room there"),
    ],
)
def test_where_no_cache_can_stand_in_it_is_refused_with_the_reason(request_for, room, tmp_path, changes, reason):
    request = request_for(**changes)
    room(2)
    with pytest.raises(ResourceError) as refused:
        train_plan(request, tmp_path / "out")
    assert "are free on cpu" in str(refused.value)
    assert reason in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_quantized_base_and_several_processes_need_the_whole_model(request_for, monkeypatch):
    request = request_for()
    parts, setup = request.plan.trainable, request.how
    assert whole_model_reason(parts, setup) == ""
    assert whole_model_reason(parts, setup, bits=4) == "these are quantized"
    assert whole_model_reason(replace(parts, embeddings=True), setup) == "the embedding is trained"
    monkeypatch.setattr(loading, "launch", lambda: Launch(0, 2, 0, 2))
    assert whole_model_reason(parts, setup) == "several processes train together"


def test_a_cache_that_fails_is_an_error_there(request_for, room, placed, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise CacheUnavailable("The disk is full.")

    monkeypatch.setattr(network, "build_prefix_cache", fail)
    request = request_for()
    room(2)
    with pytest.raises(ResourceError, match=r"No prefix cache: The disk is full\. Training needs one, because cpu has"):
        train_plan(request, tmp_path / "out")


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("trains", [True, False])
def test_an_arm_of_a_comparison_gives_the_same_and_so_does_the_model_as_it_is(request_for, room, tmp_path, trains):
    results, request = [], request_for()
    plan = request.plan
    for name in ("whole", "placed"):
        train, evaluation = (task_examples(n, seed=n) for n in (8, 6))
        write_examples(tmp_path / "data.safetensors", train, evaluation)
        job = ArmJob(
            model=ModelSource.of(plan.model),
            identity=plan.model,
            arm=Arm("planned", plan.trainable, None, 3e-3) if trains else None,
            settings=ArmSettings(replace(request.how, steps=2, train_examples=8), 0, 1, n_accuracy=1),
            cache_shared_from=None,
            data=tmp_path / "data.safetensors",
            result=tmp_path / f"{name}.json",
        )
        write_job(tmp_path / "job.json", job)
        run_job(tmp_path / "job.json")
        results.append(read_result(tmp_path / "job.json"))
        room(2)
    whole, placed = results
    if not trains:
        assert (placed.item_losses, placed.shown) == (whole.item_losses, whole.shown)
        return
    assert placed.train_losses == whole.train_losses
    assert [point.item_losses for point in placed.points] == [point.item_losses for point in whole.points]
    assert placed.flop == whole.flop
    assert placed.notes[0].startswith("The first 2 of 4 layers and the token embedding are kept off cpu")


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mixtral", "qwen3", "bloom", "gpt_oss"])
def test_other_families_give_the_same_states_and_losses(tmp_path, monkeypatch, family):
    save_tiny(tmp_path / "model", family)
    whole = load_causal_lm(str(tmp_path / "model"), dtype="float32", device="cpu")
    examples = task_examples(6)
    parameters = sum(p.numel() for p in whole.decoder.model.parameters())
    monkeypatch.setattr(causal_lm, "free_bytes", lambda _: model_bytes(parameters, torch.float32) - 1)
    placing = functools.partial(place_prefix, 2)
    placed = load_causal_lm(str(tmp_path / "model"), dtype="float32", device="cpu", placing=placing)
    assert all(map(is_elsewhere, placed.decoder.layers[:2]))
    assert (placed.identity, placed.vocabulary) == (whole.identity, whole.vocabulary)
    parts = TrainableParts((False, False, True, True), embeddings=False, final_norm=True, head=False)
    plan = plan_of(whole.decoder.model, 2, setup=TrainingSetup())
    monkeypatch.setattr(save, "_SHARD", "50KB")
    for name in ("whole", "placed"):
        (tmp_path / name).mkdir()
    losses, caches = [], []
    for name, loaded in (("whole", whole), ("placed", placed)):
        net = build_network(
            loaded, parts, TrainingSetup(), examples, seed=0, cache=CacheSettings(memory_limit_bytes=2**30)
        )
        batch = Collator(examples, net.train_cache)(range(6))
        net.offload()
        loss = net.supervised(**batch)["loss"]
        loss.backward()
        gradients = {name: p.grad for name, p in net.supervised.named_parameters() if p.requires_grad}
        losses.append((loss, gradients))
        caches.append(net.train_cache)
        net.release()
        save_finetuned(net.tuned, loaded.tokenizer, plan, "Trained.", (tmp_path / name))
    assert caches[0].key == caches[1].key
    assert all(torch.equal(states, caches[1].states[sample]) for sample, states in caches[0].states.items())
    assert torch.equal(losses[0][0], losses[1][0])
    assert all(torch.equal(gradient, losses[1][1][name]) for name, gradient in losses[0][1].items())
    assert len(list((tmp_path / "placed").glob("*.safetensors"))) > 1
    assert_same_weights(tmp_path / "placed", tmp_path / "whole")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "placed")
    assert all(map(torch.equal, again.state_dict().values(), whole.decoder.model.state_dict().values()))
