"""A plan put to work on a tiny model: what is written loads elsewhere, and a training cut off goes on."""

import json
import shutil
import sys
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from huggingface_hub import ModelCard
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.integrations import integration_utils

from semfreeze_core.errors import InputError, PlanError, ResourceError, RunError
from semfreeze_core.finetune.arm.evaluate import ArmEvaluator
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.arm.trainer import last_complete_checkpoint
from semfreeze_core.finetune.train import fit
from semfreeze_core.finetune.train import folder as training_folder
from semfreeze_core.finetune.train import train as train_module
from semfreeze_core.finetune.train.request import TrainRequest, different_settings, memory_advice, request_settings
from semfreeze_core.finetune.train.train import train_plan
from semfreeze_core.plan.document import plan_digests
from semfreeze_core.records.training import LoraSetup
from semfreeze_core.runs.plans import read_plan
from semfreeze_core.storage import digest, found_source
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    write_task(folder / "train.jsonl", 16)
    write_task(folder / "eval.jsonl", 12, seed=9)
    return folder


class Killed(BaseException):
    pass


class Dies(fit.Recorder):
    """Is killed after its fifth step."""

    def on_step_end(self, args, state, control, **rest):
        super().on_step_end(args, state, control, **rest)
        if state.global_step == 5:
            raise Killed


def asked(workspace, *, lora=None, frozen_bits=None, **changes):
    # rows of whole blocks, which a CPU reads rightly in 4 bits
    sizes = {"d_model": 64, "head_dim": 16, "mlp_width": 64} if frozen_bits else {}
    plan, _ = make_tiny_plan(workspace / ("wide" if sizes else "model"), lora=lora, frozen_bits=frozen_bits, **sizes)
    of_setup = ("batch_size", "micro_batch_size", "precision", "prefix_cache", "batches")
    named = {name: changes.pop(name) for name in of_setup if name in changes}
    setup = replace(plan.cost.setup, sequence_length=2048, **{"batch_size": 4, **named})
    base = TrainRequest(plan, str(workspace / "train.jsonl"), setup, steps=6, learning_rate=3e-3, save_steps=2)
    return replace(base, **changes)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_train_plan_writes_a_model_that_plain_transformers_loads(workspace, tmp_path, prefix_cache):
    request = asked(workspace, evaluation=str(workspace / "eval.jsonl"), n_accuracy=3, prefix_cache=prefix_cache)
    trained = train_plan(request, tmp_path / "out")
    assert trained.steps == 6
    assert trained.after.loss < trained.before.loss
    original = AutoModelForCausalLM.from_pretrained(workspace / "model").state_dict()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, original[name])}
    assert {int(n.split("layers.")[1].split(".")[0]) for n in moved if "layers." in n} == {2, 3}
    assert {n for n in moved if "layers." not in n} == {"model.norm.weight"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    out = model.generate(**tokenizer("my card?", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert out.shape[1] > 3
    assert read_plan(tmp_path / "out") == request.plan
    assert json.loads((tmp_path / "out" / "training.json").read_text())["steps"] == 6
    assert not (tmp_path / "out" / "checkpoints").exists()
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.tags == ["semfreeze"]
    assert str(workspace) not in card.content  # no place of this machine
    assert "Freeze the first 2 of 4 layers and train the last 2." in card.text
    assert f"went from {trained.before.loss:.3f} to {trained.after.loss:.3f} nats" in card.text
    assert read_plan(tmp_path / "out") == request.plan


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks by the old name
def test_train_plan_of_a_lora_plan_writes_an_adapter(workspace, tmp_path):
    train_plan(asked(workspace, lora=LoraSetup(2)), tmp_path / "out")
    assert (tmp_path / "out" / "adapter_config.json").exists()
    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
    adapted = {int(n.split("layers.")[1].split(".")[0]) for n, _ in model.named_parameters() if "lora_" in n}
    assert adapted == {2, 3}
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.library_name == "peft"
    assert "train the last 2. Adapters (LoRA) train in place of the layers' weights." in card.text


@pytest.mark.quick_cases(0)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_train_plan_of_a_lora_plan_with_frozen_bits_trains_on_rounded_layers(workspace, tmp_path):
    how = {"lora": LoraSetup(2), "frozen_bits": 4, "steps": 4}
    cached = train_plan(asked(workspace, **how), tmp_path / "cached")
    assert cached.losses[-1] < cached.losses[0]
    assert cached.notes[-1] == "The layers' matrices are in 4 bits (NF4)."
    assert not any("cache" in note for note in cached.notes[1:]), "no word of a cache that failed"
    uncached = train_plan(asked(workspace, **how, prefix_cache=False), tmp_path / "uncached")
    assert uncached.losses == pytest.approx(cached.losses, abs=1e-5)
    whole = own_precision(asked(workspace, **how).plan)
    full_precision = train_plan(asked(workspace, **how | {"plan": whole, "steps": 1}), tmp_path / "own")
    assert full_precision.losses[0] != pytest.approx(
        cached.losses[0], abs=1e-5
    )  # of the base alone: adapters begin at zero
    AutoPeftModelForCausalLM.from_pretrained(tmp_path / "cached")
    assert (
        "of 4 examples on the base in 4 bits (NF4); not evaluated"
        in ModelCard.load(tmp_path / "cached" / "README.md").text
    )


def own_precision(plan):
    setup = replace(plan.cost.setup, frozen_bits=None)
    return plan.model_copy(update={"cost": plan.cost.model_copy(update={"setup": setup})})


def test_train_plan_reports_how_the_data_was_read_without_eval_examples_too(workspace, tmp_path):
    rows = (workspace / "train.jsonl").read_text().splitlines()
    (tmp_path / "task.jsonl").write_text("\n".join(['{"prompt": "a", "completion": 7}', *rows[:4]]))
    trained = train_plan(asked(workspace, data=str(tmp_path / "task.jsonl"), steps=1), tmp_path / "out")
    notes = json.loads((tmp_path / "out" / "training.json").read_text())["notes"]
    assert notes == list(trained.notes)
    assert any(note.startswith("Read as prompt and completion: ") for note in notes)
    assert [note for note in notes if "skipped" in note] == [
        "The training set: 1 of 5 rows is skipped: line 1: field 'completion' is a number (int 7), expected text."
    ]


def test_train_plan_of_whole_layers_keeps_their_precision_and_says_so(workspace, tmp_path):
    trained = train_plan(asked(workspace, frozen_bits=4), tmp_path / "out")
    assert "frozen layers in 4 bits, but this finetune of whole layers keeps their precision" in trained.notes[-1]
    assert json.loads((tmp_path / "out" / "training.json").read_text())["notes"] == list(trained.notes)
    original = AutoModelForCausalLM.from_pretrained(workspace / "wide").state_dict()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(model[name], original[name]) for name in model if "layers.0" in name or "layers.1" in name)


def test_train_plan_misses_bitsandbytes_before_anything_is_loaded(workspace, tmp_path, monkeypatch):
    request = asked(workspace, lora=LoraSetup(2), frozen_bits=8)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(train_module, "load_to_train", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match=r"pip install 'semfreeze\[bitsandbytes\]'"):
        train_plan(request, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize(("lora", "bits"), [(None, None), (LoraSetup(2), 8)])
def test_train_plan_goes_on_after_an_interruption_to_the_same_model(workspace, tmp_path, monkeypatch, lora, bits):
    whole = train_plan(asked(workspace, lora=lora, frozen_bits=bits), tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(fit, "Recorder", Dies)
        with pytest.raises(Killed):
            train_plan(asked(workspace, lora=lora, frozen_bits=bits), tmp_path / "cut")
    assert not (tmp_path / "cut" / "config.json").exists()
    resumed = train_plan(asked(workspace, lora=lora, frozen_bits=bits), tmp_path / "cut")
    assert resumed.losses == pytest.approx(whole.losses[4:], abs=1e-6)
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_a_training_on_batches_of_like_length_goes_on_in_a_later_epoch(workspace, tmp_path, monkeypatch, prefix_cache):
    request = asked(workspace, batches="by-length", prefix_cache=prefix_cache)
    whole = train_plan(request, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(fit, "Recorder", Dies)  # after its fifth step, in the second of two epochs of four steps
        with pytest.raises(Killed):
            train_plan(request, tmp_path / "cut")
    assert train_plan(request, tmp_path / "cut").losses == pytest.approx(whole.losses[4:], abs=1e-6)
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    at_random = train_plan(replace(request, setup=replace(request.setup, batches="random")), tmp_path / "random")
    assert at_random.losses != whole.losses


@pytest.mark.parametrize(("batches", "noted"), [("random", 1), ("by-length", 0)])
def test_a_training_says_what_batches_of_like_length_would_save(workspace, tmp_path, batches, noted):
    rows = [json.loads(line) for line in (workspace / "train.jsonl").read_text().splitlines()]
    for row in rows[::2]:
        row["prompt"] *= 6
    uneven = tmp_path / "uneven.jsonl"
    uneven.write_text("\n".join(map(json.dumps, rows)) + "\n")
    said = []
    train_plan(asked(workspace, data=str(uneven), batches=batches, steps=4), tmp_path / "out", said.append)
    assert sum("--batches by-length trains" in event.message for event in said) == noted


def test_a_training_begun_before_batches_could_be_chosen_resumes(workspace):
    written = json.loads(json.dumps(request_settings(asked(workspace))))
    assert "batches" not in written["setup"]
    assert different_settings(written, asked(workspace, batches="by-length")) == ["setup"]
    plan = asked(workspace).plan
    assert "batches" in plan.model_dump()["cost"]["setup"]
    by_length = plan.model_copy(
        update={"cost": plan.cost.model_copy(update={"setup": replace(plan.cost.setup, batches="by-length")})}
    )
    assert plan_digests(by_length)[0] != plan_digests(plan)[0]


def test_a_training_resumes_with_moved_data_and_not_with_changed_data(workspace, tmp_path):
    request = asked(workspace)
    written = json.loads(json.dumps(request_settings(request)))
    moved = shutil.copy(request.data, tmp_path / "moved.jsonl")
    renamed = request.plan.model_copy(update={"run": "renamed"})
    assert different_settings(written, replace(request, data=str(moved), plan=renamed)) == []
    write_task(tmp_path / "moved.jsonl", 16, seed=5)
    assert different_settings(written, replace(request, data=str(moved))) == ["data"]
    assert different_settings(written, replace(request, steps=7, seed=1)) == ["steps", "seed"]
    shallower, _ = make_tiny_plan(workspace / "model", 1)
    assert different_settings(written, replace(request, plan=shallower)) == ["plan"]


def test_a_training_that_version_0_1_0_began_resumes_by_the_name_of_its_data(workspace, tmp_path):
    request = asked(workspace)
    request = replace(request, plan=own_cost(request.plan))
    old = json.loads(json.dumps(request_settings(request)))
    del old["data_digest"]
    since = {
        "provenance": True,
        "switch": True,
        "parameter_names": True,
        "model_path": True,
        "evidence": {"badge", "race"},
        "cost": {"alternative", "phases", "looks"},
    }
    whole = request.plan.model_dump(mode="json", exclude=since)
    del whole["cost"]["setup"]["batches"], whole["cost"]["setup"]["micro_batch_size"]
    old |= {"plan": digest(whole), "digest": "0" * 64}
    assert different_settings(old, request) == []
    assert different_settings(old, replace(request, data="elsewhere.jsonl")) == ["data"]


def own_cost(plan):
    """The plan without what version 0.1.0 did not write."""
    return plan.model_copy(update={"cost": plan.cost.model_copy(update={"alternative": None})})


def test_train_plan_names_what_differs_in_a_folder_of_another_training(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(training_folder, "last_complete_checkpoint", lambda folder: folder / "checkpoint-1")
    settings = request_settings(asked(workspace, seed=3))
    (tmp_path / "training_settings.json").write_text(json.dumps(settings))
    with pytest.raises(RunError, match=r"holds another training \(other settings: seed\)\. Choose another --out"):
        train_plan(asked(workspace), tmp_path)


def test_last_complete_checkpoint_skips_one_cut_off(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "save_finetuned", lambda *_: None)
    monkeypatch.setattr(training_folder.shutil, "rmtree", lambda *_, **__: None)
    train_plan(asked(workspace), tmp_path / "out")
    checkpoints = tmp_path / "out" / "checkpoints"
    assert last_complete_checkpoint(checkpoints).name == "checkpoint-6"
    (checkpoints / "checkpoint-6" / "trainer_state.json").write_text('{"epoch": 1')
    assert last_complete_checkpoint(checkpoints).name == "checkpoint-4"
    (checkpoints / "checkpoint-4" / "trained.safetensors").write_bytes(b"cut")
    assert last_complete_checkpoint(checkpoints).name == "checkpoint-2"
    (checkpoints / "checkpoint-2" / "trained.safetensors").unlink()
    assert last_complete_checkpoint(checkpoints) is None


class InventedLosses(ArmEvaluator):
    """Evaluates, and then replaces the losses of checkpoints: lowest in the middle."""

    by_step = MappingProxyType({2: 3.0, 4: 1.0, 6: 2.0})

    def evaluate(self, step, marks, seconds):
        super().evaluate(step, marks, seconds)
        if marks == ["checkpoint"]:
            self.points[-1] = self.points[-1].model_copy(update={"loss": self.by_step[step]})


@pytest.mark.quick_cases(0)
def test_keep_best_ends_with_the_checkpoint_of_lowest_loss_also_in_a_project_that_was_moved(
    workspace, tmp_path, monkeypatch
):
    """A checkpoint knows the best one by its former path, and the settings name files from where they lie."""
    short = train_plan(asked(workspace, steps=4, evaluation=str(workspace / "eval.jsonl")), tmp_path / "short")
    monkeypatch.setattr(fit, "ArmEvaluator", InventedLosses)
    before, project = tmp_path / "before", tmp_path / "project"
    before.mkdir()
    for name in ("model", "train.jsonl", "eval.jsonl"):
        (shutil.copytree if name == "model" else shutil.copy)(workspace / name, before / name)

    request = asked(
        before, evaluation=str(before / "eval.jsonl"), keep_best=True, n_accuracy=3,
        model=ModelSource(source=str(before / "model")),
    )  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(fit, "Recorder", Dies)
        with pytest.raises(Killed):
            train_plan(request, before / "runs" / "out")
    before.rename(project)
    out = project / "runs" / "out"
    names = json.loads((out / "training_settings.json").read_text())
    assert [found_source(names[name], out) for name in ("data", "evaluation")] == [
        str(project / "train.jsonl"),
        str(project / "eval.jsonl"),
    ]
    moved = {name: str(project / f"{name}.jsonl") for name in ("train", "eval")}
    model = ModelSource(source=str(project / "model"))
    trained = train_plan(replace(request, data=moved["train"], evaluation=moved["eval"], model=model), out)
    assert found_source(json.loads((out / "training.json").read_text())["data"], out) == moved["train"]
    assert not before.exists()
    # Warm-up is one step of either, and the order of examples the seed's, so step 4 of 6 is the 4 steps' end.
    weights = AutoModelForCausalLM.from_pretrained(out).state_dict()
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "short").state_dict()
    assert all(torch.allclose(weights[name], value, atol=1e-6) for name, value in alone.items())
    assert trained.after.step == 4
    assert trained.after.loss == pytest.approx(short.after.loss, abs=1e-5), "the saved model is evaluated itself"
    assert trained.after.accuracy is not None
    assert any(
        "Saved the checkpoint of step 4 of 6, with the lowest eval loss of 3 evaluations" in note
        for note in trained.notes
    )
    assert "with the weights of step 4" in (out / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:The best checkpoint")
def test_a_best_checkpoint_that_was_deleted_is_not_reported_as_saved(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "ArmEvaluator", InventedLosses)
    monkeypatch.setattr(InventedLosses, "by_step", MappingProxyType({2: 1.0, 4: 3.0, 6: 2.0}))
    request = asked(workspace, evaluation=str(workspace / "eval.jsonl"), keep_best=True, n_accuracy=0)
    with monkeypatch.context() as patched:
        patched.setattr(fit, "Recorder", Dies)
        with pytest.raises(Killed):
            train_plan(request, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "checkpoints" / "checkpoint-2")
    trained = train_plan(request, tmp_path / "out")
    assert trained.after.step == 6
    assert fit.BEST_LOST_NOTE in trained.notes


def test_a_training_of_few_steps_draws_no_more_examples_than_it_meets(workspace, tmp_path, monkeypatch):
    met = []

    def draw(*given, **_):
        met.append(given[3])
        raise Killed  # before it trains

    monkeypatch.setattr(fit, "build_network", draw)
    for seed, steps in ((0, 2), (1, 2), (0, 5)):
        with pytest.raises(Killed):
            train_plan(asked(workspace, steps=steps, seed=seed), tmp_path / f"out-{seed}-{steps}")
    rows = [{example.row for example in train} for train in met]
    assert [len(r) for r in rows] == [8, 8, 16]
    assert rows[0] != rows[1]


def test_keep_best_needs_eval_items(workspace):
    with pytest.raises(InputError, match="give some"):
        asked(workspace, keep_best=True)


def test_trackers_are_told_every_step(workspace, tmp_path, monkeypatch):
    logged = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **rest):
            logged.append(logs)

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "mine", Tracker)
    trained = train_plan(asked(workspace, report_to=("mine",)), tmp_path / "out")
    losses = [logs["loss"] for logs in logged if "loss" in logs]
    assert len(losses) == 6
    assert losses == pytest.approx(trained.losses, rel=0.05)


def test_an_unknown_or_missing_tracker_is_refused_before_anything_is_loaded(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: False)
    for name, message in (("carrier-pigeon", "is not supported"), ("tensorboard", "requires tensorboard")):
        with pytest.raises(InputError, match=f"--report-to {name}: .*{message}"):
            train_plan(asked(workspace, report_to=(name,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_train_plan_refuses_what_cannot_be(workspace, tmp_path):
    abstaining, _ = make_tiny_plan(workspace / "model", None)
    with pytest.raises(PlanError, match="makes no recommendation"):
        train_plan(asked(workspace, plan=abstaining), tmp_path / "out")
    other = replace(abstaining.model, weights_digest="0" * 64)
    plan, _ = make_tiny_plan(workspace / "model")
    with pytest.raises(PlanError, match="its weights differ"):
        train_plan(asked(workspace, plan=plan.model_copy(update={"model": other})), tmp_path / "out")
    with pytest.raises(InputError, match=r"^--accuracy-examples must be at least 0, found -1; --seed must"):
        asked(workspace, n_accuracy=-1, seed=-2)
    with pytest.raises(InputError, match=r"^--lr must be in \(0, 1\], found 2"):
        asked(workspace, learning_rate=2)


def test_memory_advice_names_what_was_not_tried(workspace):
    def advice(**setup):
        request = asked(workspace)
        return memory_advice(replace(request, setup=replace(request.how, **setup)))

    assert advice(batch_size=6).startswith("Memory ran out with 6 examples at a time. Add --micro-batch-size 3: it")
    assert "Add --micro-batch-size 1:" in advice(micro_batch_size=3, batch_size=6)
    one = advice(micro_batch_size=1)
    assert one.startswith(
        "Memory ran out with one example at a time. Take less with --max-length below 2048, "
        "--checkpointing non-reentrant, --loss chunked, --optimizer adamw8bit, --precision bf16-autocast, or a plan"
    )
    tried = advice(
        micro_batch_size=1, checkpointing="non-reentrant", optimizer="sgd", precision="bf16", loss="materialised"
    )
    assert "with --max-length below 2048, --loss chunked, or a plan" in tried


def test_a_training_that_runs_out_of_memory_ends_with_advice_and_an_error_of_the_network_as_itself(
    workspace, tmp_path, monkeypatch
):
    def fails(error):
        def train(*_, **__):
            raise error

        monkeypatch.setattr(fit.PlanTrainer, "train", train)
        return train_plan(asked(workspace, batch_size=4), tmp_path / "out")

    with pytest.raises(ResourceError, match="Add --micro-batch-size 2"):
        fails(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(ConnectionError, match="the tracker is away"):
        fails(ConnectionError("the tracker is away"))


def test_train_plan_refuses_a_folder_of_something_else(workspace, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="is not empty"):
        train_plan(asked(workspace), out)
    shutil.rmtree(out)
    train_plan(asked(workspace), out)
    with pytest.raises(RunError, match="holds a finished training"):
        train_plan(asked(workspace), out)
