"""Exported scripts run for real on tiny models: what they train, and where the gradient ends, is the plan's."""

import runpy
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback, trainer

from semfreeze_core.errors import PlanError
from semfreeze_core.export import export_plan
from semfreeze_core.finetune.audit.audit import audit
from semfreeze_core.plan.document import trainable_names
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from tests.core.finetune.loaded import load_tiny
from tests.core.finetune.plans import plan_of
from tests.core.finetune.tiny_plan import write_task
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:`gradient_checkpointing:FutureWarning"
    ),  # its name until transformers 5.20 or so
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # PEFT still asks it
    pytest.mark.filterwarnings("ignore:.*'pin_memory' argument is set as true:UserWarning"),
]
K, STEPS = 2, 2
SETUP = TrainingSetup(
    batch_size=2, sequence_length=32, train_examples=8, steps=STEPS, loss="materialised", prefix_cache=False
)
LORA = LoraSetup(4)


class Watch(TrainerCallback):
    """Audits a run at its last step, and keeps what was trained and how it was set up."""

    def __init__(self, plan):
        self.plan, self.trained, self.report, self.args = plan, set(), None, None

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        if state.global_step < STEPS:
            return
        self.args = args
        self.trained = {name for name, p in model.named_parameters() if p.requires_grad}
        self.report = audit(model, self.plan, optimizer=optimizer)


@pytest.fixture
def run(tmp_path, monkeypatch, measured_once, no_garbage):
    """Export a plan of a tiny model, run the script in a folder of its own, and return all that is to be looked at."""
    monkeypatch.chdir(tmp_path)

    def start(target, *, family="llama", k=K, parts=None, mapping=None, tokenizer=None, **setup):
        save_tiny(tmp_path / "model", family, tokenizer=tokenizer)
        loaded = load_tiny(tmp_path / "model", family)
        plan = plan_of(loaded.decoder.model, k, setup=replace(SETUP, **setup), parts=parts)
        plan = plan.model_copy(update={"model": replace(loaded.identity, source="model")})
        (tmp_path / "plan.json").write_text(plan.model_dump_json())
        write_task(tmp_path / "task.jsonl", 8)
        exported = export_plan(plan, target, data="task.jsonl", mapping=mapping)
        (tmp_path / exported.filename).write_text(exported.text)
        watch = Watch(plan)
        with patch.object(trainer, "DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS, watch]):
            made = SimpleNamespace(**runpy.run_path(exported.filename, run_name="__main__"))
        return SimpleNamespace(plan=plan, watch=watch, made=made, folder=tmp_path / "finetuned", before=loaded)

    return start


def assert_trains_the_plan(done):
    """What required a gradient is what the plan names, it had one, and the frozen layers carried none."""
    names = [name for name, _ in done.made.trainer.model.named_parameters()]
    assert done.watch.trained == set(trainable_names(done.plan, done.plan.model, names))
    assert done.watch.report.problems == ()
    assert done.watch.report.gradient_depth == done.watch.report.freeze_depth == done.plan.freeze_depth
    assert done.watch.report.realised_flop_fraction == done.watch.report.realised_bytes_fraction == 1
    assert done.made.trainer.state.global_step == STEPS


WEIGHTS = [("hf-trainer", "llama"), ("trl", "llama"), ("hf-trainer", "gpt2"), ("hf-trainer", "mixtral")]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("target", "family"), WEIGHTS)
def test_scripts_train_the_plans_weights(run, target, family):
    done = run(target, family=family)
    assert_trains_the_plan(done)
    assert all(not name.startswith(("model.layers.0.", "transformer.h.0.")) for name in done.watch.trained)
    after = AutoModelForCausalLM.from_pretrained(done.folder, dtype=torch.float32)
    before = dict(done.before.decoder.model.named_parameters())
    changed = {name for name, p in after.named_parameters() if not torch.equal(p, before[name])}
    assert changed == done.watch.trained


# Kinds of checkpointing in turn; the other pairs are slow.
CHECKPOINTED = [
    pytest.param(target, lora, kind, marks=() if (i + j) % 3 == 0 else pytest.mark.slow)
    for i, (target, lora) in enumerate([("hf-trainer", None), ("trl", None), ("trl", LORA), ("peft", LORA)])
    for j, kind in enumerate(["non-reentrant", "reentrant", "transformers-5"])
]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("target", "lora", "checkpointing"), CHECKPOINTED)
def test_scripts_keep_the_saving_under_checkpointing(run, target, lora, checkpointing):
    done = run(target, lora=lora, checkpointing=checkpointing)
    assert_trains_the_plan(done)
    assert done.watch.args.activation_checkpointing
    assert done.watch.args.activation_checkpointing_kwargs == {"use_reentrant": checkpointing == "reentrant"}


@pytest.mark.quick_cases(6)
@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", pytest.param("qwen2_moe", marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", ["peft", "trl"])
def test_scripts_train_the_plans_adapters(run, target, family):
    done = run(target, family=family, lora=LORA)
    assert_trains_the_plan(done)
    modules = {name.split(".lora_")[0].removeprefix("base_model.model.") for name in done.watch.trained}
    assert modules == set(done.made.targets)
    saved = load_file(done.folder / "adapter_model.safetensors")
    assert len(saved) == len(done.watch.trained)
    assert any(tensor.any() for name, tensor in saved.items() if "lora_B" in name)  # they begin at zero


def test_scripts_adapt_named_matrices_alone(run):
    done = run("peft", lora=LoraSetup(4, ("q_proj", "mlp.down_proj")))
    assert_trains_the_plan(done)
    expected = {f"model.layers.{i}.{end}" for i in (2, 3) for end in ("self_attn.q_proj", "mlp.down_proj")}
    assert set(done.made.targets) == expected


def test_scripts_are_told_the_plans_finetune(run):
    args = run("hf-trainer", batch_size=4, optimizer="sgd", precision="bf16-autocast").watch.args
    assert (args.max_steps, args.per_device_train_batch_size, args.optim, args.bf16) == (STEPS, 4, "sgd", True)
    assert (args.learning_rate, args.lr_scheduler_type, args.warmup_steps) == (3e-4, "constant_with_warmup", 1)
    assert not args.activation_checkpointing


def test_scripts_load_the_precision_of_the_plan(run):
    done = run("trl", precision="bf16")
    assert done.made.model.dtype == torch.bfloat16
    assert not done.watch.args.bf16


def test_scripts_learn_from_completions_alone(run):
    """Rows are the analysis's: prompt not supervised, completion and end of sequence supervised."""
    tokenizer = build_tiny_tokenizer()
    for row in run("hf-trainer").made.rows:
        learned = tokenizer.decode([token for token in row["labels"] if token != -100])
        assert learned in (" pay</s>", " wear</s>", " weave</s>")
        assert tokenizer.decode(row["input_ids"]).endswith(f"?{learned}")


def test_scripts_read_prompts_by_a_template(run):
    mapping = FieldMapping(template="Say it: {prompt}\\n", completion_field="completion")
    rows = run("trl", mapping=mapping).made.rows
    texts = [build_tiny_tokenizer().decode(row["input_ids"]) for row in rows]
    assert all(text.startswith("Say it: ") and "?\n " in text for text in texts)


def test_scripts_give_a_tokenizer_without_padding_its_end_for_it(run):
    tokenizer = build_tiny_tokenizer(chat_template=CHATML)
    tokenizer.pad_token = None
    done = run("peft", lora=LORA, tokenizer=tokenizer)
    assert done.made.tokenizer.pad_token == "</s>"


def test_scripts_refuse_another_model(run, tmp_path):
    run("hf-trainer")
    save_tiny(tmp_path / "model", "llama", seed=1)
    with pytest.raises(PlanError, match="its weights differ"):
        runpy.run_path("finetune_hf_trainer.py", run_name="__main__")
