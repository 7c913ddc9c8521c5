"""A plan's finetune in each trainer's words, and what a trainer lacks."""

import pytest
import yaml

from semfreeze_core.export import TARGETS, export_plan
from semfreeze_core.finetune.arm.arms import DEFAULT_RATES
from semfreeze_core.records.defaults import LEARNING_RATES
from semfreeze_core.records.training import LoraSetup
from tests.core.export.exports import (
    ADAPTERS_ONLY,
    LORA,
    call_arguments,
    exported_flags,
    exported_yaml,
    plan_for,
    tiny_plan,
)


@pytest.mark.parametrize("target", TARGETS)
def test_finetune_is_told_in_the_trainers_words(tiny, target):
    plan = plan_for(tiny, target, steps=100, batch_size=4, sequence_length=48, optimizer="sgd")
    exported = export_plan(plan, target)
    steps, batch, length, optimizer = {
        "axolotl": ("max_steps", "micro_batch_size", "sequence_len", "optimizer"),
        "llama-factory": ("max_steps", "per_device_train_batch_size", "cutoff_len", "optim"),
        "mlx-lm": ("iters", "batch_size", "max_seq_length", "optimizer"),
        "ms-swift": ("max_steps", "per_device_train_batch_size", "max_length", "optim"),
    }.get(target, ("max_steps", "per_device_train_batch_size", "max_length", "optim"))
    if exported.filename.endswith(".yaml"):
        said = yaml.safe_load(exported.text)
    elif target == "ms-swift":
        said = exported_flags(plan)
    else:
        made_by = "SFTConfig" if target in ("trl", "unsloth") else "TrainingArguments"
        said = call_arguments(exported.text, made_by)
        if made_by == "TrainingArguments":  # rows come at their length
            said[length] = call_arguments(exported.text, "training_rows")["max_length"]
    if target == "nemo-automodel":
        parts = said["step_scheduler"], said["dataset"], said["optimizer"], said["lr_scheduler"]
        said = {"max_steps": parts[0]["max_steps"], "optim": parts[2]["_target_"].rpartition(".")[2].lower()}
        said |= {"per_device_train_batch_size": parts[0]["local_batch_size"], "max_length": parts[1]["seq_length"]}
        said |= {"learning_rate": parts[2]["lr"], "warmup_steps": parts[3]["lr_warmup_steps"]}
    elif target == "oumi":
        how = said["training"]
        said = how | {"max_length": said["model"]["model_max_length"], "optim": how["optimizer"]}
    assert [str(said[key]) for key in (steps, batch, length, optimizer)] == ["100", "4", "48", "sgd"]
    rate = LEARNING_RATES["lora" if target in ADAPTERS_ONLY else "frozen"]
    schedule = said.get("lr_schedule", {"arguments": [said.get("learning_rate")], "warmup": said.get("warmup_steps")})
    assert (float(schedule["arguments"][0]), int(schedule["warmup"])) == (rate, 5)


# By target: the examples of a pass on a device, and the passes of a step.
_PASSES = {
    "axolotl": ("micro_batch_size", "gradient_accumulation_steps"),
    "mlx-lm": ("batch_size", "grad_accumulation_steps"),
    "nemo-automodel": ("local_batch_size", "global_batch_size"),
}


@pytest.mark.parametrize("target", TARGETS)
def test_micro_batches_make_up_the_plans_batch(tiny, target):
    def written(**setup):
        plan = plan_for(tiny, target, steps=100, **setup)
        exported = export_plan(plan, target)
        if target == "ms-swift":
            flags = exported_flags(plan)
        elif exported.filename.endswith(".yaml"):
            flags = yaml.safe_load(exported.text)
            flags |= flags.get("training", {}) | flags.get("step_scheduler", {})
        else:
            flags = call_arguments(exported.text, "SFTConfig" if target in ("trl", "unsloth") else "TrainingArguments")
        return flags, exported.notes

    size, passes = _PASSES.get(target, ("per_device_train_batch_size", "gradient_accumulation_steps"))
    flags, notes = written(batch_size=8, micro_batch_size=2)
    assert int(flags[size]) == 2
    assert int(flags[passes]) == (8 if target == "nemo-automodel" else 4)
    assert int(flags["iters" if target == "mlx-lm" else "max_steps"]) == (400 if target == "mlx-lm" else 100)
    if target in ("axolotl", "llama-factory", "ms-swift", "oumi"):
        assert any("divide gradient_accumulation_steps by their number" in note for note in notes)
    if target == "nemo-automodel":
        assert any("On several GPUs the batch stays" in note for note in notes)
    for whole in ({"batch_size": 8}, {"batch_size": 8, "micro_batch_size": 8}):
        flags, notes = written(**whole)
        assert int(flags[size]) == 8
        assert int(flags.get(passes, 1)) == (8 if target == "nemo-automodel" else 1)
        assert not any("at a time" in note or "iterations" in note or "micro-batch" in note for note in notes)


def test_learning_rates_are_those_of_semfreeze_train():
    assert DEFAULT_RATES["frozen"] == LEARNING_RATES["frozen"]
    assert DEFAULT_RATES["lora"] == LEARNING_RATES["lora"]


def test_what_a_price_counts_on_and_a_trainer_lacks_is_said(tiny):
    plan = tiny_plan(tiny, 2, prefix_cache=True, loss="fused", frozen_bits=8)
    for target in set(TARGETS) - {*ADAPTERS_ONLY}:
        notes = " ".join(export_plan(plan, target).notes)
        assert "has chunked cross-entropy, which is not configured" in notes
        assert "assumes 8-bit frozen layers" in notes
        assert "semfreeze train takes" not in notes, "it does not train with a fused loss"


def test_exported_files_lead_with_the_cost_in_a_stock_trainer(tiny):
    plan = tiny_plan(tiny, 2, train_examples=10)
    here, there = plan.cost.alternative.planned.relative_flop, plan.cost.planned.relative_flop
    assert there < here
    for target in set(TARGETS) - {*ADAPTERS_ONLY}:
        exported = export_plan(plan, target)
        assert f"(estimated here: {100 * here:.0f}% of full finetuning's" in " ".join(exported.text.split()).replace(
            "# ", ""
        )
        assert any(note.startswith(f"semfreeze train takes {100 * there:.0f}% of full") for note in exported.notes)
    stock = tiny_plan(tiny, 2, loss="materialised", prefix_cache=False)
    assert not any(note.startswith("semfreeze train takes") for note in export_plan(stock, "axolotl").notes)


def test_quantized_bases_are_told_where_adapters_can_stand_on_one(tiny):
    plan = tiny_plan(tiny, 2, lora=LORA, frozen_bits=4)
    config = exported_yaml(plan, "axolotl")
    assert (config["adapter"], config["load_in_4bit"]) == ("qlora", True)
    assert call_arguments(export_plan(plan, "unsloth").text, "from_pretrained")["load_in_4bit"] is True
    named = tiny_plan(tiny, 2, lora=LoraSetup(4, ("q_proj",)), frozen_bits=4)
    assert exported_flags(named)["quant_bits"] == "4"
    assert any(
        "4-bit frozen layers; here they keep their precision" in note for note in export_plan(plan, "peft").notes
    )


@pytest.mark.parametrize("target", ["axolotl", "ms-swift"])
def test_checkpointing_stays_off_or_its_loss_is_told_in_percent(tiny, target):
    def said(plan):
        return exported_flags(plan) if target == "ms-swift" else exported_yaml(plan, target)

    off = tiny_plan(tiny, 2)
    assert said(off)["gradient_checkpointing"] in (False, "false")
    assert any("Gradient checkpointing is off" in note for note in export_plan(off, target).notes)
    on = tiny_plan(tiny, 2, checkpointing="non-reentrant")
    here = on.cost.alternative.planned.model_copy(update={"relative_flop": 0.44})
    lost = on.cost.planned.model_copy(update={"relative_flop": 0.77})
    alternative = on.cost.alternative.model_copy(update={"planned": here})
    cost = on.cost.model_copy(update={"alternative": alternative, "transformers_5": lost})
    on = on.model_copy(update={"cost": cost})
    assert said(on)["gradient_checkpointing"] in (True, "true")
    (note,) = [note for note in export_plan(on, target).notes if note.startswith("Gradient checkpointing is on")]
    assert "takes 77% of full finetuning's compute instead of 44%" in note


def test_axolotl_gets_no_reentrant_checkpointing_with_frozen_parameters(tiny):
    plan = tiny_plan(tiny, 2, checkpointing="reentrant")
    assert exported_yaml(plan, "axolotl")["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    assert any("refuses reentrant" in note for note in export_plan(plan, "axolotl").notes)
    adapters = tiny_plan(tiny, 2, lora=LORA, checkpointing="reentrant")
    assert exported_yaml(adapters, "axolotl")["gradient_checkpointing_kwargs"] == {"use_reentrant": True}


def test_adapters_that_lose_the_saving_are_told(tiny):
    plan = tiny_plan(tiny, 2, lora=LORA)
    assert any("With any adapter, axolotl" in note for note in export_plan(plan, "axolotl").notes)
    script = export_plan(plan, "unsloth")
    assert "model.disable_input_require_grads()" in script.text
    assert any("reverts that" in note for note in script.notes)
    checkpointed = export_plan(tiny_plan(tiny, 2, lora=LORA, checkpointing="reentrant"), "unsloth")
    assert "disable_input_require_grads" not in checkpointed.text  # reentrant layers would then learn nothing
    assert any("Unsloth's gradient checkpointing needs" in note for note in checkpointed.notes)


@pytest.mark.parametrize(
    ("target", "precision", "said"),
    [
        ("axolotl", "float32", {"float32": True}),
        ("axolotl", "bf16", {"bf16": True}),
        ("llama-factory", "float32", {"bf16": False, "pure_bf16": False}),
        ("llama-factory", "bf16-autocast", {"bf16": True, "pure_bf16": False}),
        ("llama-factory", "bf16", {"bf16": True, "pure_bf16": True}),
        ("ms-swift", "float32", {"torch_dtype": "float32", "bf16": "false"}),
        ("ms-swift", "bf16-autocast", {"torch_dtype": "float32", "bf16": "true"}),
        ("ms-swift", "bf16", {"torch_dtype": "bfloat16", "bf16": "false"}),
    ],
)
def test_precision_is_told_in_the_trainers_words(tiny, target, precision, said):
    plan = tiny_plan(tiny, 2, precision=precision)
    config = exported_flags(plan) if target == "ms-swift" else exported_yaml(plan, target)
    assert said.items() <= config.items()
